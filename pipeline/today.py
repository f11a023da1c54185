"""today: the champion bundle on the lake's newest session -> risk and a position for every ticker.

Each ticker is scored at its own last session, unless that is more than 5 sessions of its calendar behind the newest,
its price stands still, or it has left the universe: then its target is zero and the reason is shown. Forecasts and
positions go to the lake as fold `live`, under the run that trained the bundle with `-live` behind it; the same session
again replaces its own rows.

Weights are by the volatility target, or with `agent.use` by the bundle's policy, which decides given the weight held:
the one that the last run before the newest session wrote, by whichever of the two; else, within the last few sessions,
the one of the backtest; else none.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from features import frames
from features.bars import HALT_BARS, halted
from features.members import mask
from features.panel import Panel, load
from models.compact.bundle import Bundle
from models.compact.bundle import load as load_bundle
from models.compact.runtime import Scorer, target_weights
from models.decode import QUANTILES, Forecast
from models.trading.sizing import SESSIONS_PER_YEAR, sizing_horizon
from pipeline import today_policy, universe
from pipeline.config import Config
from pipeline.errors import DataError, StoreError
from pipeline.registry import Registry
from pipeline.store import Lake
from pipeline.summary import Progress, Summary, silent

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

STALE_SESSIONS = 5
BAND_HORIZON = 5
STRATEGY, POLICY = "vol_target", "policy"


@dataclass(frozen=True)
class Latest:
    """Every ticker at its own last session; N tickers.

    Attributes:
        panel: features of the lake.
        at: (N,) position of the ticker's last session with a volatility on the panel's axis.
        age: (N,) sessions of the ticker's own calendar between that and the newest.
        left: (N,) its last session in the universe where it is a member no more, else NaT.
        still: (N,) whether its price has stood still since then (features.bars.halted).
        scored: (N,) whether there is a full window, it is not stale, does not stand still and has not left.
        forecast: (N, H), NaN where not scored.
        target: (N,) weight by the sizing rule or the policy, 0 where not scored.
        years: (N,) sessions that make a year of the ticker's calendar.
        strategy: vol_target or policy.
    """

    panel: Panel
    at: Ints
    age: Ints
    left: npt.NDArray[np.datetime64]
    still: npt.NDArray[np.bool_]
    scored: npt.NDArray[np.bool_]
    forecast: Forecast
    target: Floats
    years: Floats
    strategy: str = STRATEGY

    @property
    def newest(self) -> pd.Timestamp:
        """The newest session of the lake's features."""
        return pd.Timestamp(self.panel.sessions[-1])


def run(config: Config, progress: Progress = silent, out: Path | None = None) -> Summary:
    """Score the newest session, write forecasts and positions, and return the table.

    Args:
        config: the configuration.
        progress: called as work goes on.
        out: a CSV file for the table.

    Raises:
        StoreError: there is no bundle or no features yet, or `agent.use` is on and the bundle has no policy.
        DataError: the lake's features lack one that the bundle or its policy needs.
        BundleError: the bundle is damaged.
    """
    progress("scoring the newest session", 0, 2)
    lake = Lake.of(config.data)
    bundle = load_bundle(Registry(config.data.artifacts).champion())
    latest = _latest(config, lake, bundle)
    progress("scoring the newest session", 1, 2)
    run_id = f"{bundle.manifest['training']['run_id']}-live"
    strategy = POLICY if config.agent.use else STRATEGY
    previous = _previous(lake, run_id, latest.panel.sessions, strategy)
    if config.agent.use:
        latest = _by_policy(config, lake, bundle, latest, previous)
    table = _table(bundle, latest, previous)
    _write(lake, run_id, bundle, latest, table)
    if out is not None:
        _write_csv(table, out)
    progress("scoring the newest session", 2, 2)
    return _summary(config, bundle, latest, table, out)


def _latest(config: Config, lake: Lake, bundle: Bundle) -> Latest:
    manifest = bundle.manifest
    try:
        panel = load(lake.read("features"), bundle.feature_names)
    except KeyError as error:
        needs = f"{error.args[0]}, which bundle {bundle.version} needs"
        raise DataError(f"{needs}; run: tradewind train, tradewind compress") from error
    if not len(panel.sessions):
        raise StoreError("the lake's features are empty; run: tradewind features")
    N, T, _ = panel.x.shape
    known = np.isfinite(panel.vol)
    at = np.where(known.any(axis=1), T - 1 - known[:, ::-1].argmax(axis=1), -1)
    tickers, sessions = panel.tickers.tolist(), pd.DatetimeIndex(panel.sessions)
    own = universe.own_sessions(config.universe, tickers, sessions, known.T)
    later = np.arange(T) > at[:, None]  # (N, T)
    age = np.where(at >= 0, (own & later.T).sum(axis=0), T)
    left = _left(config, panel)
    still = np.asarray((halted(panel.r) & later).any(axis=1))
    field = int(manifest["receptive_field"])
    scored = (age <= STALE_SESSIONS) & (at >= field - 1) & np.isnat(left) & ~still
    forecast = _forecast(bundle, panel, at, scored, field)
    target, years = np.zeros(N), _years(config, panel, own)
    if scored.any():
        # The bundle knows one length of the year, the tickers may be on several calendars.
        year = manifest["sizing"].get("sessions_per_year", SESSIONS_PER_YEAR)
        unit = np.sqrt(years / year)[:, None]
        target[scored] = target_weights((forecast.sigma * unit)[scored], bundle.horizons, manifest["sizing"])
    return Latest(panel, at, age, left, still, scored, forecast, target, years)


def _by_policy(config: Config, lake: Lake, bundle: Bundle, latest: Latest, previous: dict[str, float]) -> Latest:
    """The same with the policy's targets."""
    n = np.flatnonzero(latest.scored)
    tickers = [str(ticker) for ticker in latest.panel.tickers[n]]
    held = np.array([previous.get(ticker, 0.0) for ticker in tickers])
    forecast = Forecast(*(part[n] for part in latest.forecast))
    cells = tickers, latest.panel.sessions[latest.at[n]]
    target = np.zeros_like(latest.target)
    target[n] = today_policy.targets(config, lake, bundle, cells, forecast, latest.years[n], held)
    return replace(latest, target=target, strategy=POLICY)


def _left(config: Config, panel: Panel) -> npt.NDArray[np.datetime64]:
    """(N,) the last session in the universe of each ticker that is no member at the newest one, else NaT."""
    spells = universe.members(config)
    left = np.full(len(panel.tickers), np.datetime64("NaT", "D"))
    if spells is not None:
        newest = pd.DatetimeIndex(panel.sessions[-1:])
        out = ~mask(spells, panel.tickers.tolist(), newest)[0]
        last = spells[spells["first"] <= newest[0]].groupby("ticker")["last"].max().reindex(panel.tickers[out])
        left[out] = last.fillna(newest[0]).to_numpy().astype("datetime64[D]")
    return left


def _years(config: Config, panel: Panel, own: npt.NDArray[np.bool_]) -> Floats:
    """(N,) how many sessions make a year of each ticker's calendar."""
    sessions = pd.DatetimeIndex(panel.sessions)
    return np.array(
        [
            universe.sessions_per_year(config.universe.calendar_of(str(ticker)), sessions[own[:, n]])
            for n, ticker in enumerate(panel.tickers)
        ]
    )


def _forecast(bundle: Bundle, panel: Panel, at: Ints, scored: npt.NDArray[np.bool_], field: int) -> Forecast:
    """(N, H) forecasts of each scored ticker at its last session, NaN for the others."""
    n = np.flatnonzero(scored)
    shape = len(at), len(bundle.horizons)
    levels = (*shape, len(QUANTILES))
    found = Forecast(np.full(shape, np.nan), np.full(levels, np.nan), np.full(shape, np.nan))
    if len(n):
        windows = panel.x[n[:, None], at[n][:, None] + np.arange(1 - field, 1)]  # (B, 64, F)
        for whole, part in zip(found, Scorer(bundle).window(windows, panel.vol[n, at[n]]), strict=True):
            whole[n] = part
    return found


def _previous(
    lake: Lake, run_id: str, sessions: npt.NDArray[np.datetime64], strategy: str
) -> dict[str, float]:  # fmt: skip
    """The last weight of each ticker before the newest session.

    A live one of any age, or one that the backtest of the bundle's run held within the last few sessions. Where both
    strategies were live in one session, the one that decides now.
    """
    if not lake.exists("positions"):
        return {}
    trained, recent = run_id.removesuffix("-live"), sessions[-STALE_SESSIONS - 1 :][0]
    simulated = f"(run_id = '{trained}' AND session >= DATE '{recent}')"
    where = f"session < DATE '{sessions[-1]}' AND (fold = 'live' OR {simulated})"
    rows = lake.read("positions", f"strategy IN ('{STRATEGY}', '{POLICY}') AND {where}")
    rows = rows.assign(
        live=rows["fold"] == "live", decides=rows["strategy"] == strategy, own=rows["run_id"] == run_id
    )  # fmt: skip
    rows = rows.sort_values(["session", "live", "decides", "own", "run_id"]).drop_duplicates("ticker", keep="last")
    return dict(zip(rows["ticker"].tolist(), rows["weight"].tolist(), strict=True))


def _table(bundle: Bundle, latest: Latest, previous: dict[str, float]) -> pd.DataFrame:
    """One row a ticker; returns and risks are simple, in percent, NaN where unknown."""
    horizons = bundle.horizons
    one, several = (horizons.index(sizing_horizon(horizons, wanted)) for wanted in (1, BAND_HORIZON))
    low, var, high = (QUANTILES.index(level) for level in (0.10, 0.05, 0.90))
    sigma, quantiles, _ = latest.forecast
    before = np.array([previous.get(str(ticker), np.nan) for ticker in latest.panel.tickers])
    band = float(bundle.manifest["sizing"]["band"])
    # A policy that leaves a position alone wants what is held: it needs no band.
    kept = latest.scored & (np.abs(latest.target - before) <= band) & (latest.strategy == STRATEGY)
    weight = np.where(kept, before, latest.target)
    last = latest.panel.sessions[np.maximum(latest.at, 0)]
    return pd.DataFrame(
        {
            "ticker": pd.Series(latest.panel.tickers, dtype="str"),
            "session": pd.DatetimeIndex(last).astype(frames.SESSION),
            "age_sessions": latest.age,
            "age_days": (np.datetime64(pd.Timestamp.now("UTC").date(), "D") - last).astype(int),
            "sigma_daily_percent": 100 * sigma[:, one] / np.sqrt(horizons[one]),
            "band80_low_percent": 100 * np.expm1(quantiles[:, several, low]),
            "band80_high_percent": 100 * np.expm1(quantiles[:, several, high]),
            "var95_percent": -100 * np.expm1(quantiles[:, one, var]),
            "target_weight": latest.target,
            "weight": weight,
            "previous_weight": before,
            "change": weight - before,
            "note": pd.Series(_notes(bundle, latest, kept), dtype="str"),
        }
    )


def _notes(bundle: Bundle, latest: Latest, kept: npt.NDArray[np.bool_]) -> list[str]:
    field, band = bundle.manifest["receptive_field"], bundle.manifest["sizing"]["band"]
    return [
        f"left the universe after {left}, no position"
        if not np.isnat(left)
        else f"its price has not moved for {HALT_BARS} bars, no position"
        if still
        else f"stale: {age} sessions behind the newest, no position"
        if age > STALE_SESSIONS
        else f"fewer than {field} sessions, no position"
        if not scored
        else f"held: within {band:g} of its target"
        if unchanged
        else ""
        for left, still, age, scored, unchanged in zip(
            latest.left, latest.still, latest.age.tolist(), latest.scored, kept, strict=True
        )
    ]


def _write(lake: Lake, run_id: str, bundle: Bundle, latest: Latest, table: pd.DataFrame) -> None:
    """Forecasts at each ticker's own session, positions at the newest; rows of the same keys are replaced."""
    live = f"run_id = '{run_id}' AND fold = 'live'"
    rows = _forecast_rows(run_id, bundle, latest)
    for session, some in rows.groupby("session"):
        tickers = ", ".join("'" + ticker.replace("'", "''") + "'" for ticker in sorted(set(some["ticker"])))
        where = f"{live} AND session = DATE '{session:%Y-%m-%d}' AND ticker IN ({tickers})"
        lake.replace("forecasts", some, where)
    positions = pd.DataFrame(
        {
            "run_id": pd.Series(run_id, index=table.index, dtype="str"),
            "strategy": pd.Series(latest.strategy, index=table.index, dtype="str"),
            "fold": pd.Series("live", index=table.index, dtype="str"),
            "ticker": table["ticker"],
            "session": pd.Series(latest.newest, index=table.index).astype(frames.SESSION),
            "weight": table["weight"],
        }
    )
    where = f"{live} AND strategy = '{latest.strategy}' AND session = DATE '{latest.newest:%Y-%m-%d}'"
    lake.replace("positions", positions, where)


def _forecast_rows(run_id: str, bundle: Bundle, latest: Latest) -> pd.DataFrame:
    panel = latest.panel
    horizons = np.asarray(bundle.horizons, dtype=np.int32)
    n = np.repeat(np.flatnonzero(latest.scored), len(horizons))
    h = np.tile(np.arange(len(horizons)), int(latest.scored.sum()))
    rows = pd.DataFrame(
        {
            "run_id": run_id,
            "model": str(bundle.manifest["model"]),
            "bundle_version": bundle.version,
            "fold": "live",
            "ticker": pd.Series(panel.tickers[n], dtype="str"),
            "session": pd.DatetimeIndex(panel.sessions[latest.at[n]]).astype(frames.SESSION),
            "horizon": horizons[h],
            "sigma": latest.forecast.sigma[n, h],
            **{name: latest.forecast.quantiles[n, h, k] for k, name in enumerate(frames.QUANTILE_COLUMNS)},
            "p_up": latest.forecast.p_up[n, h],
            "calibrated": True,
        }
    )
    now = pd.Series(pd.Timestamp.now("UTC"), index=rows.index).astype(frames.INSTANT)
    return rows.assign(created_at=now)


def _write_csv(table: pd.DataFrame, out: Path) -> None:
    out.parent.mkdir(parents=True, exist_ok=True)
    partial = out.with_name(f".{out.name}.partial")
    table.to_csv(partial, index=False, float_format="%.6g")
    partial.replace(out)


def _summary(config: Config, bundle: Bundle, latest: Latest, table: pd.DataFrame, out: Path | None) -> Summary:
    manifest = bundle.manifest
    one, several = (sizing_horizon(bundle.horizons, wanted) for wanted in (1, BAND_HORIZON))
    lines = [
        f"bundle {bundle.version} ({manifest['status']}), newest session {latest.newest:%Y-%m-%d}, "
        f"{table['age_days'].min():,} days ago; age in sessions behind it, 80% band over {several} sessions, "
        f"VaR 95 over {one}",
        _HEAD.format(*_TITLES).rstrip(),
        *(_line(row) for row in table.to_dict("records")),
        *([today_policy.sentence(config, bundle)] if latest.strategy == POLICY else []),
        *bundle.other_universe(latest.panel.tickers.tolist()),
    ]
    if out is not None:
        lines.append(f"table written to {out}")
    figures: dict[str, Any] = {
        "bundle": bundle.version,
        "status": manifest["status"],
        "session": f"{latest.newest:%Y-%m-%d}",
        "strategy": latest.strategy,
        "tickers": [{str(k): _plain(v) for k, v in row.items()} for row in table.to_dict("records")],
    }
    return Summary("today", tuple(lines), figures)


_TITLES = ("ticker", "session", "age", "sigma/day", "80% band", "VaR95", "target", "weight", "change", "")
_HEAD = "{:<8} {:<10} {:>6} {:>9} {:>17} {:>6} {:>7} {:>7} {:>7}  {}"


def _line(row: dict[Any, Any]) -> str:
    def shown(name: str, form: str, unit: str = "") -> str:
        return "-" if pd.isna(row[name]) else format(row[name], form) + unit

    band = f"{shown('band80_low_percent', '+.1f', '%')} to {shown('band80_high_percent', '+.1f', '%')}"
    change = "new" if pd.isna(row["change"]) else f"{row['change']:+.2f}"
    return _HEAD.format(
        row["ticker"],
        f"{row['session']:%Y-%m-%d}",
        f"{row['age_sessions']:,} s.",
        shown("sigma_daily_percent", ".2f", "%"),
        "-" if pd.isna(row["band80_low_percent"]) else band,
        shown("var95_percent", ".2f", "%"),
        shown("target_weight", ".2f"),
        shown("weight", ".2f"),
        change,
        row["note"],
    ).rstrip()


def _plain(value: Any) -> Any:
    """A JSON value: dates as text, numbers as Python's, unknown as None."""
    if isinstance(value, pd.Timestamp):
        return f"{value:%Y-%m-%d}"
    return None if isinstance(value, float) and np.isnan(value) else value
