"""The gate by simulation: how often noise is promoted, how often a planted gain, and the power curve between.

A panel is 20 stocks over 2,500 sessions with a common market factor, fat tails and volatility that reverts to its mean.
Its features are noise but for one, a persistent factor; `strength` times it is what log-volatility has on top of the
trailing one that the baseline scales by. Every panel runs the line's own code: scale skip refitted every year,
forecasts of the years after, trailing EWMA and unconditional baselines, the gate at 1 %.

How to read the first claim: the gate's bound took its present form after an earlier one (one t law, on one block) had
promoted 3 of these 40 panels of noise, so 2 of 40 is no independent check. Seeds 5000-5199, not looked at before, gave
5 of 200 (.8 to 5.7 %): the level is nearer 2 % than the nominal 1 %.

    python benchmarks/gate.py            the claims and the curve, about five minutes
    python benchmarks/gate.py --quick    the same code on two small panels, no floor judged
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

# benchmarks/features.py, beside this file, is called like the package and would be found in its place.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
import numpy.typing as npt
from scipy.signal import lfilter
from threadpoolctl import threadpool_limits

from features.panel import Panel
from features.splits import walk_forward
from models.forecasters.fit import FitConfig
from models.forecasters.student import StudentConfig
from pipeline import walkforward
from pipeline.evidence import power, race
from pipeline.evidence.power import Promotions
from pipeline.evidence.significance import Resampling
from pipeline.walkforward import Dataset

Array = npt.NDArray[np.float64]

RESULTS = Path(__file__).resolve().parent / "results" / "gate.json"
CURVE = RESULTS.with_suffix(".svg")
SEEDS = range(40)
HORIZONS = (1, 5, 20)
FEATURES = 8
PLANTED = 0.2
STRENGTHS = (0.0, 0.08, 0.11, 0.14, PLANTED)
MOST_NOISE, LEAST_PLANTED = 2, 32
RESAMPLING = Resampling(confidence=0.95, gate_level=0.01, resamples=1000, block_sessions=60, min_blocks=10, seed=0)
HALF_LIFE, LONG_HALF_LIFE = 260.0, 2500.0
"""Of the skip's rows. The first weighs 2 x 260 / ln 2 = 750 sessions, as many as the trailing baseline has: under noise
neither knows more. With the other, the line's default, the skip knows the residuals' shape better than the baseline
without any signal; that gain is real, so its promotions are shown beside and are no test of the level."""


def panel(strength: float, seed: int, tickers: int = 20, sessions: int = 2500) -> Dataset:
    """A simulated market with its targets, in the form that the walk-forward takes.

    Args:
        strength: of the planted feature, per standard deviation, in log-volatility; 0 = all features are noise.
    """
    generator = np.random.default_rng([seed, 20260105])
    burn = 300
    size = tickers, sessions + burn + max(HORIZONS) + 1

    def persistent(rho: float, shape: tuple[int, ...]) -> Array:
        """A stationary autoregression of variance one."""
        return np.asarray(lfilter([np.sqrt(1 - rho**2)], [1.0, -rho], generator.normal(0, 1, shape), axis=-1))

    signal = persistent(0.95, size)
    # The trailing volatility of the baseline is right but for the planted factor, so that noise has nothing to gain.
    vol = 0.015 * np.exp(0.3 * persistent(0.97, size) + 0.3 * persistent(0.97, (1, size[1])))
    own, common = (generator.standard_t(6, shape) / np.sqrt(1.5) for shape in (size, (1, size[1])))
    shock = np.sqrt(0.7) * own + np.sqrt(0.3) * common
    r = np.roll(vol * np.exp(strength * signal), 1, axis=1) * shock  # all but the shock is known at the close before
    x = np.concatenate([signal[..., None], persistent(0.95, (FEATURES - 1, *size)).transpose(1, 2, 0)], axis=-1)
    kept = slice(burn, burn + sessions)
    log_return, rv = _targets(r, kept)
    unit = vol[:, kept]
    names = ("planted", *(f"noise_{k}" for k in range(1, FEATURES)))
    days = np.busday_offset("2010-01-04", np.arange(sessions)).astype("datetime64[D]")
    of = Panel(
        np.array([f"T{n:02d}" for n in range(tickers)]),
        days,
        names,
        x[:, kept].astype(np.float32),
        unit.astype(np.float32),
        r[:, kept].astype(np.float32),
    )
    z = log_return / (unit[..., None] * np.sqrt(HORIZONS))
    return Dataset(of, HORIZONS, log_return, rv, z, rv / unit[..., None] ** 2, HORIZONS, max(HORIZONS) + 1)


def _targets(r: Array, kept: slice) -> tuple[Array, Array]:
    """(N, T, H) log return and variance a session over the next h sessions; the last ones are not known."""
    log_return, rv = [], []
    for h in HORIZONS:
        ahead = np.lib.stride_tricks.sliding_window_view(r[:, 1:], h, axis=-1)[:, kept]
        log_return.append(ahead.sum(-1))
        rv.append((ahead**2).mean(-1))
        log_return[-1][:, -h:] = rv[-1][:, -h:] = np.nan
    return np.stack(log_return, axis=-1), np.stack(rv, axis=-1)


def losses(data: Dataset, half_life: float) -> Mapping[str, Array]:
    """Pinball losses out of sample of the scale skip and both baselines."""
    # The only weight of the student's body is zero: it is the skip alone, and no network is trained.
    skip_only = StudentConfig((300.0, 3000.0, 30000.0), half_life, 4, 4, (0.0,), FitConfig(1, 1, 1e-3, 0.1, 0))
    sessions = len(data.panel.sessions)
    folds = walk_forward(data.panel.sessions, sessions // 2, sessions // 5, data.purge, 5)
    fitted = walkforward.fit_folds(data, folds, skip_only)
    forecasts = {
        "unconditional": walkforward.forecast_unconditional(data, folds),
        "ewma": walkforward.forecast_ewma(data, folds)[0],
        "scale_skip": walkforward.forecast_folds(data, fitted, lambda student: student.skip_network),
    }
    found = race.losses(forecasts, data.log_return, data.rv, data.panel.vol.astype(np.float64), data.horizons)
    return {key: value for key, value in found.items() if "|pinball|" in key}


def simulate(strength: float, seeds: range, sizes: Mapping[str, int], half_life: float = HALF_LIFE) -> Promotions:
    """The gate on one panel a seed, told on a line."""
    found = power.promotions(
        lambda seed: losses(panel(strength, seed, **sizes), half_life), seeds, "scale_skip", HORIZONS, RESAMPLING
    )
    promoted, n, low, high = found.promoted
    print(
        f"{strength:8.2f} {half_life:9.0f} {found.gains.mean():8.2f} {found.detectable.mean():13.2f} "
        f"{promoted:6d}/{n:<4d} [{low:.3f}, {high:.3f}]",
        flush=True,
    )
    return found


def draw(found: Mapping[float, Promotions], path: Path) -> None:
    """The power curve: share promoted by mean measured gain, binomial intervals, and what a normal gain would show."""
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams.update({"svg.hashsalt": "gate", "font.size": 10})
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(6.4, 4.0), layout="constrained")
    gains = np.array([each.gains.mean() for each in found.values()])
    shares = np.array([each.promoted.successes / each.promoted.n for each in found.values()])
    reach = [
        shares - [each.promoted.low for each in found.values()],
        [each.promoted.high for each in found.values()] - shares,
    ]
    detectable = float(np.mean([each.detectable.mean() for each in found.values()]))
    grid = np.linspace(min(gains.min(), 0), gains.max() * 1.05, 200)
    curve = power.normal_power(grid, detectable, RESAMPLING.gate_level)
    axes.plot(grid, curve, color="#888888", label=f"normal gains, {detectable:.2f} % shown four times in five")
    axes.errorbar(gains, shares, yerr=np.maximum(reach, 0), fmt="o", color="#1f5f8b", capsize=3, label="40 panels each")
    axes.axhline(RESAMPLING.gate_level, color="#b03a2e", linewidth=0.8, linestyle="--", label="nominal level, 1 %")
    axes.set(xlabel="mean gain over the best baseline, % of pinball loss", ylabel="share promoted", ylim=(-0.03, 1.03))
    axes.legend(frameon=False, loc="lower right", bbox_to_anchor=(1.0, 0.05))
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, metadata={"Date": None})
    pyplot.close(figure)


def cpu() -> str:
    """The processor's name, where the system tells it."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def claims(found: Mapping[float, Promotions], long: Promotions) -> list[dict[str, Any]]:
    """Panels promoted, with binomial intervals, against the floors; the curve's points beside them."""

    def row(claim: str, each: Promotions, floor: int, at_least: bool) -> dict[str, Any]:
        promoted, n, low, high = each.promoted
        return {
            "claim": claim,
            "figure": promoted,
            "unit": f"of {n}",
            "floor": floor,
            "holds": promoted >= floor if at_least else promoted <= floor,
            "interval": [round(n * low, 1), round(n * high, 1)],
            "mean_gain_percent": round(float(each.gains.mean()), 3),
            "smallest_detectable_percent": round(float(each.detectable.mean()), 3),
            "versions": {name: version(name) for name in ("numpy", "scipy", "scikit-learn", "arch")},
            "cpu": cpu(),
        }

    planted = found[PLANTED]
    rows = [
        row("noise promoted at the nominal 1 %", found[0.0], MOST_NOISE, at_least=False),
        row(f"planted gain of {planted.gains.mean():.2f} % promoted", planted, LEAST_PLANTED, at_least=True),
    ]

    def point(strength: float, half_life: float, each: Promotions) -> dict[str, Any]:
        figures = {"strength": strength, "half_life": half_life, "gain_percent": round(float(each.gains.mean()), 3)}
        return {**figures, **each.promoted._asdict()}

    rows[0]["curve"] = [point(strength, HALF_LIFE, each) for strength, each in found.items()]
    rows[0]["note"] = "the bound was revised after 3 of these 40; seeds 5000-5199, looked at once: 5 of 200"
    rows[0]["beside"] = point(0.0, LONG_HALF_LIFE, long)
    return rows


def main() -> None:
    """Simulate, print a table, write the results and the curve of a full run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="two small panels, to see that it runs")
    options = parser.parse_args()
    sizes = {"tickers": 3, "sessions": 1200} if options.quick else {}
    strengths = (0.0, PLANTED) if options.quick else STRENGTHS
    seeds = range(1) if options.quick else SEEDS
    print(f"{'strength':>8} {'half-life':>9} {'gain %':>8} {'detectable %':>13} {'promoted':>11} 95 % interval")
    with threadpool_limits(1):
        found = {strength: simulate(strength, seeds, sizes) for strength in strengths}
        long = simulate(0.0, seeds, sizes, LONG_HALF_LIFE)
    print()
    rows = claims(found, long)
    for each in rows:
        verdict = "" if options.quick else ("holds" if each["holds"] else "FAILS")
        print(f"{each['claim']:<40}{each['figure']:4d} {each['unit']:<6} floor {each['floor']:<4} {verdict}")
    if not options.quick:
        RESULTS.parent.mkdir(exist_ok=True)
        RESULTS.write_text(json.dumps(rows, indent=1) + "\n")
        draw(found, CURVE)


if __name__ == "__main__":
    main()
