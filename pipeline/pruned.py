"""The student's body made smaller, fold by fold, where validation allows it.

The curve of size against skill is measured as the student itself was chosen: skip and body are fitted on the fit slice,
the body on labels for as many epochs as the student was, cut and trained again there, and judged on validation. The
size chosen is then cut out of the fold's own student and trained again on its whole training slice.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from threadpoolctl import threadpool_limits

from features.splits import Fold
from models.compact import prune
from models.compact.network import Network
from models.compact.prune import Point, PruneConfig
from models.forecasters.fit import Supervision, fit
from models.forecasters.foundation import fit_foundation
from models.forecasters.interface import Training
from models.forecasters.tcn import TCN, TCNConfig
from pipeline import contenders, walkforward
from pipeline.config import Config
from pipeline.errors import DataError
from pipeline.trained import Trained
from pipeline.walkforward import Dataset


@dataclass(frozen=True)
class Pruned:
    """The network to quantize, and how it came to be.

    Attributes:
        network: the fold's own where nothing was pruned.
        record: JSON values: fold, body_weight, curve (of `models.compact.prune.Point`, largest first), chosen (its
            place on the curve), and reason, which says why where nothing was pruned.
    """

    network: Network
    record: dict[str, Any]

    @property
    def smaller(self) -> bool:
        """Whether channels have left."""
        return bool(self.record["chosen"])


def wanted(config: Config) -> bool:
    """Whether the configuration asks for anything to be pruned."""
    return bool(config.compress.prune or config.compress.max_macs)


def pruned(data: Dataset, held: Trained, name: str, config: Config) -> Pruned:
    """One fold, or `live`.

    Args:
        data: features and outcomes. held: the fold as training left it. name: of the fold.
        config: of pruning and of the student's training.

    Raises:
        DataError: the configuration's walk-forward is not that of training, or the budget is below every size.
    """
    weight = float(held.notes["body_weight"])
    record = {"fold": name, "body_weight": weight, "curve": [], "chosen": None, "reason": ""}
    if not weight:
        return Pruned(held.network, record | {"reason": "the skip alone: there is no body to prune"})
    if not wanted(config):
        return Pruned(held.network, record | {"reason": "not asked for"})
    fold, settings = _fold(data, held, name, config), _settings(config)
    with threadpool_limits(config.models.threads):
        torch.set_num_threads(config.models.threads)
        muted = tuple(data.panel.feature_names.index(each) for each in held.notes["muted"])
        training, _ = contenders.training_of(data, fold, config, muted)
        points = _curve(training, held, fold, settings)
        try:
            chosen = prune.choose(points, settings)
        except ValueError as error:
            raise DataError(f"fold {name}: {error}") from None
        record |= {"curve": [_plain(point) for point in points], "chosen": points.index(chosen)}
        if chosen is points[0]:
            return Pruned(held.network, record | {"reason": "validation asks for the whole body"})
        network = _smaller(training, held, chosen, settings)
    return Pruned(walkforward.deaf(network, muted), record)


def _fold(data: Dataset, held: Trained, name: str, config: Config) -> Fold:
    """The fold with its validation slice, which training did not write down."""
    if name == "live":
        fold = walkforward.live_fold(data, config)
    else:
        there = {fold.name: fold for fold in walkforward.folds(data, config)}
        if name not in there:
            raise DataError(f"the walk-forward of [splits] has no fold {name}, the run has; run: tradewind train")
        fold = there[name]
    last = str(data.panel.sessions[fold.train_end - 1])
    if last != held.notes["train_last"]:
        raise DataError(
            f"fold {name} of [splits] trains until {last}, that of the run until {held.notes['train_last']}; "
            "run: tradewind train"
        )
    return fold


def _settings(config: Config) -> PruneConfig:
    c = config.compress
    training = walkforward.student_config(config).training
    return PruneConfig(c.prune, c.max_macs, c.prune_tolerance, c.prune_epochs, training)


def _curve(training: Training, held: Trained, fold: Fold, settings: PruneConfig) -> list[Point]:
    """A body of the fit slice alone and its cuts, on validation."""
    foundation = fit_foundation(training, fold.fit_end, float(held.notes["alpha"]))
    data = _supervision(training, held, foundation.outputs(training.inputs.x), foundation.shape)
    torch.manual_seed(settings.training.seed)
    config = TCNConfig(len(held.network.body_features), _widths(held.network), training.z.shape[2])
    body = TCN(config)
    fit(body, data, slice(0, fold.fit_end), None, replace(settings.training, epochs=int(held.notes["epochs"])))
    validation = slice(fold.validation_start, fold.train_end)
    return prune.size_curve(body, data, fold.fit_end, validation, float(held.notes["body_weight"]), settings)


def _smaller(training: Training, held: Trained, chosen: Point, settings: PruneConfig) -> Network:
    """The fold's own student at the chosen size."""
    network, weight = held.network, float(held.notes["body_weight"])
    x = training.inputs.x
    skip = (x @ network.skip_weight + network.skip_bias).reshape(*x.shape[:2], -1, 4)
    data = _supervision(training, held, skip, held.shape)
    body = prune.prune(prune.body_of(network, weight), data, chosen.widths, settings)
    return prune.with_body(network, body, data, weight)


def _supervision(
    training: Training, held: Trained, skip: npt.NDArray[np.float32], shape: npt.NDArray[np.float64]
) -> Supervision:
    return Supervision(
        torch.from_numpy(np.ascontiguousarray(training.inputs.x[..., held.network.body_features])),
        torch.from_numpy(skip.astype(np.float32)),
        torch.from_numpy(training.z.astype(np.float32)),
        torch.from_numpy(shape.astype(np.float32)),
    )


def _widths(network: Network) -> tuple[int, int, int]:
    first, second, third = (len(bias) for bias in network.conv_bias)
    return first, second, third


def _plain(point: Point) -> dict[str, Any]:
    return asdict(point) | {"widths": list(point.widths), "pinball": point.pinball.tolist()}
