# The scorer alone: the base install, no compiler, no network, an ordinary user. See BUNDLE.md for how to run it.
FROM python:3.11-slim AS build
WORKDIR /source
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY features features
COPY models models
COPY pipeline pipeline
COPY flows flows
COPY data data
RUN python -m venv /opt/tradewind && /opt/tradewind/bin/python -m pip install --no-cache-dir -c constraints.txt .

FROM python:3.11-slim
COPY --from=build /opt/tradewind /opt/tradewind
# Forecasts are written into the mounted directory: run with --user "$(id -u):$(id -g)" where it is not world-writable.
USER 65534:65534
WORKDIR /work
ENTRYPOINT ["/opt/tradewind/bin/tradewind"]
CMD ["score", "--help"]
