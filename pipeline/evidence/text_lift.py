"""What text adds to a forecast, told apart for its scale and its direction, with intervals that know dependence.

Both arms forecast the same cells; a positive figure is for text. The verdict on each part rests on one figure, its
main measure averaged over the horizons, so that no lucky row out of many can carry it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.stats import rankdata

from models.decode import QUANTILES
from models.forecasters.scale import Z_FLOOR
from pipeline.evidence import metrics
from pipeline.evidence.losses import PRIMARY_LEVELS
from pipeline.evidence.significance import Resamples, Resampling

Array = npt.NDArray[np.float64]

WITH, WITHOUT = "with_text", "without_text"
PARTS: Final = {"scale": ("pinball", "log_error"), "direction": ("brier", "log_loss")}
"""The losses of each part, the main one first."""
RANK: Final = "rank"
TOO_FEW: Final = "too few blocks for a verdict"
NOT_SHOWN: Final = "no difference shown"


class Arm(NamedTuple):
    """One arm's out-of-sample forecast in z units, NaN outside the test sessions.

    quantiles: (N, T, H, 9). log_scale, p_up: (N, T, H).
    """

    quantiles: Array
    log_scale: Array
    p_up: Array


@dataclass(frozen=True)
class Lift:
    """One figure with its interval.

    Attributes:
        value, low, high: percent of the loss without text, or a difference of correlations; above zero is for text.
        blocks: independent blocks of sessions behind it.
        verdict: in plain words.
    """

    value: float
    low: float
    high: float
    blocks: float
    verdict: str


def losses(arms: Mapping[str, Arm], z: Array, horizons: tuple[int, ...]) -> dict[str, Array]:
    """Losses of both arms, `arm|measure|horizon` -> (N, T) on the cells that both forecast and whose z is known.

    Args:
        arms: WITH and WITHOUT. z: (N, T, H) outcomes, NaN = not known. horizons: H sessions ahead.

    pinball: mean over q10, q50 and q90 of z. log_error: squared error of log|z|, |z| floored at .15 as in the fit.
    brier, log_loss: of p_up. `observed|log|h` and `observed|z|h` are log|z| and z on the same cells.
    """
    at = [QUANTILES.index(level) for level in PRIMARY_LEVELS]
    found: dict[str, Array] = {}
    for i, h in enumerate(horizons):
        cells = np.isfinite(z[:, :, i]) & np.logical_and.reduce(
            [np.isfinite(a.log_scale[:, :, i]) for a in arms.values()]
        )
        actual = np.where(cells, z[:, :, i], np.nan)
        log = np.log(np.maximum(np.abs(actual), Z_FLOOR))
        found |= {f"observed|log|{h}": log, f"observed|z|{h}": actual}
        for name, arm in arms.items():
            p_up = arm.p_up[:, :, i]
            found |= {
                f"{name}|pinball|{h}": metrics.pinball(actual, arm.quantiles[:, :, i][..., at], PRIMARY_LEVELS),
                f"{name}|log_error|{h}": (log - arm.log_scale[:, :, i]) ** 2,
                f"{name}|brier|{h}": metrics.brier(actual, p_up),
                f"{name}|log_loss|{h}": metrics.log_loss(actual, p_up),
                f"{name}|p_up|{h}": np.where(cells, p_up, np.nan),
            }
    return found


def compare(losses_of: Mapping[str, Array], horizons: tuple[int, ...], resampling: Resampling) -> dict[str, Any]:
    """Every measure of both parts at every horizon, and the verdict on each part, as JSON values.

    A block is at least as long as the horizon: outcomes that overlap are not independent.

    Returns:
        rows: part, measure, horizon, model, against, with_text, without_text (mean losses, R2 of log|z|, or rank
        correlations), gain_percent (a difference for the rank correlation), low, high, blocks, verdict.
        scale, direction: the part's figure over all horizons. n_sessions, n_effective_blocks: behind it.
    """
    rows = []
    for h in horizons:
        own = _long_enough(resampling, h)
        draws = Resamples(_at(losses_of, h), own)
        for part, names in PARTS.items():
            rows += [_row(losses_of, draws, part, measure, h) for measure in names]
        rows.append(_rank_row(losses_of, own, h))
    parts = {part: asdict(overall(losses_of, part, horizons, resampling)) for part in PARTS}
    sessions = int(np.logical_or.reduce([np.isfinite(losses_of[f"observed|z|{h}"]).any(0) for h in horizons]).sum())
    return {"rows": rows, **parts, "n_sessions": sessions, "n_effective_blocks": parts["scale"]["blocks"]}


def overall(losses_of: Mapping[str, Array], part: str, horizons: tuple[int, ...], resampling: Resampling) -> Lift:
    """The gain in the part's main measure, averaged over the horizons."""
    measure = PARTS[part][0]
    own = _long_enough(resampling, max(horizons))
    pairs = [(f"{WITH}|{measure}|{h}", f"{WITHOUT}|{measure}|{h}") for h in horizons]
    draws = Resamples({name: losses_of[name] for pair in pairs for name in pair}, own)
    gain = draws.gain(pairs)
    return _lift(gain.gain_percent, gain.low, gain.high, draws)


def _row(losses_of: Mapping[str, Array], draws: Resamples, part: str, measure: str, horizon: int) -> dict[str, Any]:
    pair = f"{WITH}|{measure}|{horizon}", f"{WITHOUT}|{measure}|{horizon}"
    gain = draws.gain([pair])
    levels = [float(np.nanmean(losses_of[name])) for name in pair]
    if measure == "log_error":
        levels = [1 - level / float(np.nanvar(losses_of[f"observed|log|{horizon}"])) for level in levels]
    lift = _lift(gain.gain_percent, gain.low, gain.high, draws)
    return _entry(part, measure, horizon, levels, lift) | {"p_value": gain.p_value}


def _rank_row(losses_of: Mapping[str, Array], resampling: Resampling, horizon: int) -> dict[str, Any]:
    """Spearman's correlation of p_up with z over all cells, and what text adds to it.

    Ranks are those of the whole sample; what is resampled are the sessions' sums of their products.
    """
    outcome = _ranks(losses_of[f"observed|z|{horizon}"])
    said = {name: _ranks(losses_of[f"{name}|p_up|{horizon}"]) for name in (WITH, WITHOUT)}
    moments = {f"{name}|product": ranks * outcome for name, ranks in said.items()}
    moments |= {f"{name}|square": ranks**2 for name, ranks in said.items()}
    moments |= {f"{name}|mean": ranks for name, ranks in said.items()}
    moments |= {"outcome|square": outcome**2, "outcome|mean": outcome}
    draws = Resamples(moments, resampling)
    levels = [draws.statistic(_correlation(name))[0] for name in (WITH, WITHOUT)]
    added = draws.statistic(lambda m: _correlation(WITH)(m) - _correlation(WITHOUT)(m))
    return _entry("direction", RANK, horizon, levels, _lift(*added, draws))


def _correlation(name: str) -> Callable[[Mapping[str, Array]], Array]:
    def of(means: Mapping[str, Array]) -> Array:
        a, b = means[f"{name}|mean"], means["outcome|mean"]
        spread = (means[f"{name}|square"] - a**2) * (means["outcome|square"] - b**2)
        flat = spread <= 1e-18  # a constant p_up orders nothing
        return np.where(flat, 0.0, (means[f"{name}|product"] - a * b) / np.sqrt(np.where(flat, 1.0, spread)))

    return of


def _ranks(values: Array) -> Array:
    """Mid-ranks of the known cells, -.5 to .5; NaN elsewhere."""
    found = np.full(values.shape, np.nan)
    known = np.isfinite(values)
    found[known] = (rankdata(values[known]) - 0.5) / known.sum() - 0.5
    return found


def _entry(part: str, measure: str, horizon: int, levels: list[float], lift: Lift) -> dict[str, Any]:
    return {
        "part": part,
        "measure": measure,
        "horizon": horizon,
        "model": WITH,
        "against": WITHOUT,
        WITH: levels[0],
        WITHOUT: levels[1],
        "gain_percent": lift.value,
        "low": lift.low,
        "high": lift.high,
        "p_value": None,
        "blocks": lift.blocks,
        "verdict": lift.verdict,
    }


def _lift(value: float, low: float, high: float, draws: Resamples) -> Lift:
    if draws.n_blocks < draws.resampling.min_blocks:
        verdict = TOO_FEW
    else:
        verdict = "better with text" if low > 0 else "worse with text" if high < 0 else NOT_SHOWN
    return Lift(value, low, high, round(draws.n_blocks, 1), verdict)


def _long_enough(resampling: Resampling, horizon: int) -> Resampling:
    return replace(resampling, block_sessions=max(resampling.block_sessions, horizon))


def _at(losses_of: Mapping[str, Array], horizon: int) -> dict[str, Array]:
    names = [f"{arm}|{measure}|{horizon}" for part in PARTS.values() for measure in part for arm in (WITH, WITHOUT)]
    return {name: losses_of[name] for name in names}
