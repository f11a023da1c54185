"""init, doctor and quickstart, as a person calls them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pandas as pd
import pytest

from pipeline import doctor
from pipeline.config import Config, Data, Flows, Universe, load
from pipeline.store import Lake

Tradewind = Callable[..., subprocess.CompletedProcess[str]]

SMALL = (
    'models.race=["regression"]',
    "models.processes=1",
    'models.garch.forms=["pooled"]',
    "universe.min_sessions=300", "splits.min_train_sessions=500", "splits.validation_sessions=120",
    "models.student.epochs=1", "models.student.width=8", "evidence.resamples=200", "evidence.min_blocks=2",
)  # fmt: skip


@pytest.fixture
def tradewind(tmp_path: Path) -> Tradewind:
    """Run a command in an empty directory."""

    def call(*arguments: str, cwd: Path = tmp_path) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-c", "from pipeline.cli import main; main()", *arguments]
        return subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False, env=dict(os.environ))

    return call


@pytest.fixture
def my_csv(tmp_path: Path, prices: pd.DataFrame) -> Path:
    columns = ["ticker", "session", "open", "high", "low", "close", "adj_close", "volume"]
    prices[columns].to_csv(tmp_path / "my.csv", index=False)
    return tmp_path / "my.csv"


def free_text(file: Path, text: str) -> str:
    file.write_text(text)
    return file.name


# -- init -----------------------------------------------------------------------------------------------------


def test_init_writes_a_file_that_loads(tradewind: Tradewind, tmp_path: Path) -> None:
    done = tradewind("init")
    assert done.returncode == 0
    assert "tradewind.toml written: provider sample" in done.stdout
    assert load(tmp_path / "tradewind.toml").universe == Config().universe


def test_init_does_not_overwrite(tradewind: Tradewind, tmp_path: Path) -> None:
    (tmp_path / "tradewind.toml").write_text("# mine\n")
    done = tradewind("init")
    assert done.returncode == 2
    assert done.stderr == "error: tradewind.toml is there already; --force replaces it\n"
    assert (tmp_path / "tradewind.toml").read_text() == "# mine\n"
    assert tradewind("init", "--force").returncode == 0
    assert "[universe]" in (tmp_path / "tradewind.toml").read_text()


def test_init_for_own_files(tradewind: Tradewind, tmp_path: Path, my_csv: Path) -> None:
    free_text(tmp_path / "n.csv", "date,title\n2007-01-03,hello\n")
    done = tradewind("init", "--prices", "my.csv", "--news", "n.csv", "--out", "sub/own.toml", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["figures"]["tickers"] == ["T00", "T01", "T02"]
    text = (tmp_path / "sub" / "own.toml").read_text()
    assert 'prices = ["../my.csv"]' in text
    assert str(tmp_path) not in text
    data = load(tmp_path / "sub" / "own.toml").data
    assert data.provider == "files"
    assert [Path(name).resolve() for name in (*data.prices, *data.news)] == [my_csv, tmp_path / "n.csv"]


def test_init_takes_one_file_a_ticker(tradewind: Tradewind, tmp_path: Path) -> None:
    row = "date,open,high,low,close\n2010-01-04,1,1,1,1\n"
    for name in ("AAA.csv", "BBB.csv"):
        free_text(tmp_path / name, row)
    done = tradewind("init", "--prices", "AAA.csv", "--prices", "BBB.csv", "--set", "universe.calendar=XLON")
    assert "2 tickers: AAA, BBB" in done.stdout
    assert load(tmp_path / "tradewind.toml").universe.calendar == "XLON"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("date,ticker,open,high,low\n2010-01-04,A,1,1,1\n", "no column close; found date, ticker, open, high, low"),
        ("date,ticker,open,high,low,close\n2010-01-04,A,1,1,1,1\n", "1 tickers; from 2 to 500 can be used"),
        (
            "date,ticker,open,high,low,close\n" + "".join(f"2010-01-04,T{n},1,1,1,1\n" for n in range(501)),
            "501 tickers; from 2 to 500 can be used",
        ),
        ("", "no column session"),
    ],
)
def test_init_checks_the_files(tradewind: Tradewind, tmp_path: Path, text: str, message: str) -> None:
    done = tradewind("init", "--prices", free_text(tmp_path / "my.csv", text))
    assert done.returncode == 1
    assert message in done.stderr
    assert done.stderr.startswith("error: my.csv")
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "tradewind.toml").exists()


def test_init_with_a_folder_and_with_columns_of_other_names(tradewind: Tradewind, tmp_path: Path) -> None:
    for name in ("AAA", "BBB"):
        (tmp_path / "mine").mkdir(exist_ok=True)
        free_text(tmp_path / "mine" / f"{name}.csv", "Tag,open,high,low,close\n2010-01-04,1,1,1,1\n")
    assert "AAA.csv: no column session" in tradewind("init", "--prices", "mine").stderr
    done = tradewind("init", "--prices", "mine", "--set", 'data.columns={ Tag = "session" }')
    assert done.returncode == 0, done.stderr
    assert "2 tickers: AAA, BBB" in done.stdout
    assert load(tmp_path / "tradewind.toml").data.columns == {"Tag": "session"}


def test_init_does_not_read_large_files_to_their_end(tmp_path: Path) -> None:
    """A file is looked at until there are more tickers than can be used, and for a million rows at most."""
    from pipeline.providers import files

    row, header = "A,2010-01-04,1,1,1,1\n", "ticker,date,open,high,low,close\n"
    (tmp_path / "long.csv").write_text(header + row * (files.MOST_LOOKED_AT + 300_000) + "B,2010-01-04,1,1,1,1\n")
    (tmp_path / "X.csv").write_text(header.partition(",")[2] + row.partition(",")[2] * 10)
    data = Data(provider="files", prices=(str(tmp_path / "long.csv"), str(tmp_path / "X.csv")))
    assert files.tickers(Config(data=data), 500) == (["A", "X"], False)


def test_init_with_a_missing_file(tradewind: Tradewind) -> None:
    done = tradewind("init", "--prices", "absent.csv")
    assert (done.returncode, done.stderr) == (1, "error: absent.csv: no such file\n")


def test_init_with_news_alone(tradewind: Tradewind) -> None:
    done = tradewind("init", "--news", "n.csv")
    assert done.returncode == 2
    assert "--news needs --prices" in done.stderr


def test_init_where_nothing_can_be_written(tradewind: Tradewind, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for arguments in (("init", "--out", "file/own.toml"), ("quickstart", "--sample", "--dir", "file")):
        done = tradewind(*arguments)
        assert (done.returncode, done.stderr.count("\n")) == (2, 1)
        assert "cannot be written: File exists" in done.stderr
    assert tradewind("init", "--force", "--out", ".").stderr.startswith("error: . is a directory; name a file")


def test_init_with_an_unknown_key(tradewind: Tradewind, tmp_path: Path) -> None:
    done = tradewind("init", "--set", "universe.sinse=2010-01-01")
    assert done.returncode == 2
    assert "did you mean universe.since?" in done.stderr
    assert not (tmp_path / "tradewind.toml").exists()


# -- doctor ---------------------------------------------------------------------------------------------------


@pytest.fixture
def settings(tmp_path: Path) -> Config:
    return Config(data=Data(lake=tmp_path / "lake", artifacts=tmp_path / "artifacts"))


class Answer(BaseHTTPRequestHandler):
    """Answers the health check as the flow server does; everything else is missing."""

    def do_GET(self) -> None:
        found = self.path == "/api/health"
        self.send_response(200 if found else 404)
        self.end_headers()
        self.wfile.write(b"true" if found else b"no")

    def log_message(self, *arguments: object) -> None:
        pass


@pytest.fixture
def port() -> Iterator[int]:
    with HTTPServer(("127.0.0.1", 0), Answer) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join()


def closed_port() -> int:
    with HTTPServer(("127.0.0.1", 0), Answer) as server:
        return server.server_port


def test_doctor_is_content_without_network_and_server(tradewind: Tradewind) -> None:
    done = tradewind("doctor", "--json", "--set", f"flows.port={closed_port()}")
    assert done.returncode == 0, done.stderr
    checks = {check["what"]: check for check in json.loads(done.stdout)["figures"]["checks"]}
    assert checks["numpy"]["mark"] == checks["torch"]["mark"] == checks["calendar"]["mark"] == "ok"
    assert checks["server"]["mark"] == "no"
    assert "tradewind up" in checks["server"]["detail"]
    assert checks["network"]["mark"] in ("ok", "no")


def test_doctor_fails_on_what_is_required(tradewind: Tradewind) -> None:
    done = tradewind("doctor", "--set", "universe.calendar=XNYZ")
    assert done.returncode == 1
    assert "BROKEN  calendar" in done.stdout
    assert "did you mean XNZE, XNYS" in done.stdout
    assert done.stderr == "error: broken: calendar; see above what to do\n"


def test_doctor_with_a_wrong_configuration(tradewind: Tradewind, tmp_path: Path) -> None:
    (tmp_path / "tradewind.toml").write_text("[univers]\n")
    done = tradewind("doctor")
    assert done.returncode == 2
    assert "did you mean universe?" in done.stderr


def test_a_missing_extra_names_its_command(monkeypatch: pytest.MonkeyPatch) -> None:
    found = doctor._installed
    monkeypatch.setattr(doctor, "_installed", lambda name: None if name in ("torch", "prefect") else found(name))
    checks = {check.what: check for check in doctor.packages()}
    assert checks["extra train"] == ("extra train", "no", "without torch: pip install 'tradewind[train]'")
    assert checks["extra flows"].detail == "without prefect: pip install 'tradewind[flows]'"
    assert doctor.examine(None).figures["broken"] == []


def test_a_base_package_or_a_wrong_version_is_broken(monkeypatch: pytest.MonkeyPatch) -> None:
    versions = {"onnxruntime": None, "fastapi": "0.151.0"}
    found = doctor._installed
    monkeypatch.setattr(doctor, "_installed", lambda name: versions[name] if name in versions else found(name))
    checks = {check.what: check for check in doctor.packages()}
    assert checks["base packages"].mark == checks["extra flows"].mark == "BROKEN"
    assert "onnxruntime: pip install" in checks["base packages"].detail
    assert "fastapi 0.151.0 (needs <0.151)" in checks["extra flows"].detail


def test_doctor_runs_where_only_the_base_is_installed(tmp_path: Path) -> None:
    absent = ("pandas", "torch", "prefect", "deltalake", "exchange_calendars", "pyarrow", "packaging")
    code = f"import sys; sys.modules.update(dict.fromkeys({absent!r})); from pipeline.cli import main; main()"
    command = [sys.executable, "-c", code, "doctor"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "all that is required works" in done.stdout


def test_a_lake_that_cannot_be_written(settings: Config, tmp_path: Path) -> None:
    assert doctor.lake(settings).detail.endswith("(made by the first ingest)")
    (tmp_path / "file").write_text("")
    blocked = settings.model_copy(
        update={"data": settings.data.model_copy(update={"lake": str(tmp_path / "file" / "lake")})}
    )
    assert doctor.lake(blocked).mark == "BROKEN"


def test_the_lake_is_described(settings: Config, prices: pd.DataFrame) -> None:
    lake = Lake(settings.data.lake)
    lake.upsert_prices(prices)
    assert doctor.lake(settings).detail == f"{lake.root}: prices"
    (Path(lake.root) / "lake.json").write_text('{"schema_version": 99}')
    assert doctor.lake(settings).mark == "BROKEN"


def test_network_and_server(settings: Config, port: int) -> None:
    assert doctor.network(f"http://127.0.0.1:{port}/").mark == "ok"  # 404 is an answer too
    assert doctor.network(f"http://127.0.0.1:{closed_port()}/").mark == "no"
    up = settings.model_copy(update={"flows": Flows(port=port)})
    assert doctor.server(up).detail == f"up at http://127.0.0.1:{port}"


def test_another_server_on_the_port(settings: Config, port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    def other(self: Answer) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"<html>")

    monkeypatch.setattr(Answer, "do_GET", other)
    check = doctor.server(settings.model_copy(update={"flows": Flows(port=port)}))
    assert check.mark == "no"
    assert "something else answers" in check.detail


# -- quickstart -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "name your tickers (--tickers SPY,AAPL), your files (--prices my.csv), or --sample"),
        (("--sample", "--prices", "my.csv"), "--sample and --prices exclude each other"),
        (("--sample", "--since", "lately"), "universe.since = 'lately'"),
        (("--tickers", "SPY,SPY"), "tickers must be distinct"),
    ],
)
def test_quickstart_misused(tradewind: Tradewind, tmp_path: Path, arguments: tuple[str, ...], message: str) -> None:
    done = tradewind("quickstart", *arguments)
    assert done.returncode == 2
    assert message in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_quickstart_with_an_empty_range(tradewind: Tradewind) -> None:
    done = tradewind("quickstart", "--sample", "--since", "2025")
    assert done.returncode == 1
    assert "error: empty range" in done.stderr


@pytest.mark.slow
def test_quickstart_runs_the_line_on_own_files(tradewind: Tradewind, tmp_path: Path, my_csv: Path) -> None:
    overrides = [part for override in SMALL for part in ("--set", override)]
    done = tradewind("quickstart", "--prices", "my.csv", "--tickers", "T00,T01,NONE", "--dir", "own", *overrides)
    assert done.returncode == 3, done.stderr
    assert "ingest: NONE (" in done.stderr
    for stage in ("ingest", "featurize", "train", "compress", "backtest", "report", "today"):
        assert f"\n{stage}\n" in done.stdout
    report = tmp_path / "own" / "artifacts" / "report.html"
    assert done.stdout.rstrip().endswith(f"The report is at {report}")
    assert report.is_file()
    assert load(tmp_path / "own" / "tradewind.toml").universe.tickers == ("T00", "T01", "NONE")
    other = tradewind("quickstart", "--sample", "--dir", "own")
    assert other.returncode == 2
    assert "holds other settings; name another directory with --dir" in other.stderr
    today = tradewind("today", cwd=tmp_path / "own")  # the directory is a project like any other
    assert today.returncode == 0, today.stderr
    assert "T01" in today.stdout


def test_since_is_a_year_or_a_date() -> None:
    from pipeline.cli.setup import _chosen

    assert _chosen("SPY, AAPL", "2010", None, None, False, Path()) == [
        'data.provider="yahoo"', 'universe.tickers=["SPY", "AAPL"]', "universe.since=2010-01-01",
    ]  # fmt: skip
    assert Universe.model_validate({"since": "2010-02-03"}).since is not None
