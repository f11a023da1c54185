"""The policy of a bundle: observations in, target weights out. NumPy, and ONNX Runtime or not.

scorer = PolicyScorer(load(Path("artifacts/bundles/VERSION")))
scorer.self_check()
observed = scorer.observe(forecast, features)
targets = scorer.targets(scorer.with_own(observed, weights, cost_bps=5))

A target is decided at the close of a session for a fill at the next open, by what was forecast at that close and the
weight that the asset has after the trades of that session's open.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import Any
from zipfile import BadZipFile

import numpy as np
import numpy.typing as npt

from models.compact.bundle import POLICY, Bundle, BundleError
from models.compact.runtime import GOLDEN_TOLERANCE, Runtime
from models.compact.small_policy import read
from models.decode import Forecast
from models.trading import observation as observations
from models.trading.observation import COST_UNIT_BPS, OWN, Scaling
from models.trading.sizing import SESSIONS_PER_YEAR, sizing_horizon, target_weight

Float32 = npt.NDArray[np.float32]
Floats = npt.NDArray[np.float32] | npt.NDArray[np.float64]
Float64 = npt.NDArray[np.float64]

_NEEDED = ("observation", "horizons", "horizon", "target_volatility", "max_weight", "features", "limits")


class PolicyScorer:
    """Target weights by the policy of one bundle; deterministic, and safe to call from several threads.

    Args:
        bundle: a verified bundle. runtime: `onnxruntime`, or `numpy` where that is not to be had: the same integers,
            targets equal to 1e-5.

    Raises:
        BundleError: the bundle has no policy, its section `policy` lacks something or contradicts itself, or the graph
            cannot be run here.
    """

    def __init__(self, bundle: Bundle, runtime: Runtime = "onnxruntime") -> None:
        if not bundle.has_policy:
            raise BundleError(f"{bundle.directory} has no policy; train one and put it in: tradewind agent ship")
        self.bundle = bundle
        self._runtime = runtime
        self._section: Mapping[str, Any] = bundle.manifest["policy"]
        self._scaling = self._read_scaling()
        self._graph = self._opened()

    @property
    def features(self) -> tuple[str, ...]:
        """The features that are part of an observation, in order."""
        return tuple(self._section["features"])

    @property
    def limits(self) -> tuple[float, float]:
        """Least and most that a target can be."""
        return float(self._section["limits"]["least"]), float(self._section["limits"]["most"])

    @cached_property
    def names(self) -> tuple[str, ...]:
        """The D columns of an observation: the K observed, the own weight, the cost."""
        return (*self._scaling.names, *OWN)

    def observe(
        self, forecast: Forecast, features: Floats, sessions_per_year: float | Float64 = SESSIONS_PER_YEAR
    ) -> Float32:
        """(..., K) raw, by `models.trading.observation.observe` with the settings of training.

        Args:
            forecast: of the bundle's horizons, sigma (..., H). features: (..., F) raw, those named by `features`.
            sessions_per_year: broadcast to (...).

        Raises:
            BundleError: the features are not as many as the policy has.
        """
        if features.shape[-1] != len(self.features):
            raise BundleError(f"the policy observes {len(self.features)} features, got {features.shape[-1]}")
        s, horizons = self._section, self.bundle.horizons
        goal, at = float(s["target_volatility"]), sizing_horizon(horizons, int(s["horizon"]))
        sigma = forecast.sigma[..., horizons.index(at)]
        weight = target_weight(sigma, at, goal, float(s["max_weight"]), sessions_per_year)
        return observations.observe(forecast, weight, features, horizons, at, goal, sessions_per_year)

    def with_own(self, observed: Float32, weights: Floats, cost_bps: float) -> Float32:
        """(E, K) observed, (E,) weights held and the cost of a trade in basis points -> (E, D) observations."""
        own = np.stack([weights, np.full(len(weights), cost_bps / COST_UNIT_BPS)], axis=-1)
        return np.concatenate([observed, own], axis=-1, dtype=np.float32)

    def targets(self, observation: Float32, names: Sequence[str] | None = None) -> Float64:
        """(E,) target weights within the limits; NaN, leave the position alone, where there is no forecast.

        Args:
            observation: (E, D) raw; a feature that is NaN is missing and counts as its centre.
            names: of its columns, which are then found by name, whatever their order and whatever else there is; None
                for those of `names`.

        Raises:
            BundleError: another number of columns, one missing by name, or a weight or cost that is not finite.
        """
        raw = self._ordered(np.asarray(observation, dtype=np.float32), names)
        own = raw[:, -len(OWN) :]
        if not np.isfinite(own).all():
            raise BundleError("a weight held, or the cost, is not finite; 0 where nothing is held")
        observed = raw[:, : -len(OWN)]
        known = observations.complete(observed, self._section["horizons"])
        found = self._graph(np.concatenate([self._scaling.transform(observed), own], axis=1))
        return np.where(known, found, np.nan)

    def walk(self, observed: Float32, weights: Floats, cost_bps: float) -> Float64:
        """(N, T) target weights of a history, session by session: each is the weight held at the next close.

        Where there is no forecast the position is left alone and the weight before it stands; its drift is not known.

        Args:
            observed: (N, T, K) raw. weights: (N,) held at the first session. cost_bps: of a trade.

        Raises:
            BundleError: as `targets`.
        """
        N, T, _ = observed.shape
        found, held = np.empty((N, T)), np.asarray(weights, dtype=np.float64)
        for t in range(T):
            target = self.targets(self.with_own(observed[:, t], held, cost_bps))
            held = np.where(np.isnan(target), held, target)
            found[:, t] = held
        return found

    def self_check(self) -> float:
        """Decide the bundle's golden observations; the largest difference found.

        Raises:
            BundleError: they cannot be read, or a target differs by more than 1e-5 from what the bundle was written
                with.
        """
        name = POLICY[1]
        try:
            with np.load(self.bundle.directory / name, allow_pickle=False) as golden:
                given, expected = golden["observation"], golden["weights"]  # (R, D) raw, (R,)
        except (KeyError, ValueError, BadZipFile) as error:
            raise BundleError(f"{self.bundle.directory / name} cannot be read: {error}") from None
        found = self.targets(given)
        if found.shape != expected.shape or (np.isnan(found) != np.isnan(expected)).any():
            raise BundleError(
                f"{self.bundle.directory}: {name} has targets where the policy has none, or none where it has"
            )
        difference = float(np.nanmax(np.abs(found - expected), initial=0.0))
        if not difference <= GOLDEN_TOLERANCE:
            raise BundleError(
                f"{self.bundle.directory}: {POLICY[0]} differs from {name} by {difference:.2g}, more than "
                f"{GOLDEN_TOLERANCE:g}, on this machine with {self._runtime}"
            )
        return difference

    def _ordered(self, raw: Float32, names: Sequence[str] | None) -> Float32:
        if names is not None:
            missing = [name for name in self.names if name not in names]
            if missing:
                raise BundleError(f"the policy observes {missing[0]}, which is not there")
            if raw.ndim == 2 and raw.shape[1] == len(names):
                raw = raw[:, [list(names).index(name) for name in self.names]]
        if raw.ndim != 2 or raw.shape[1] != len(self.names):
            raise BundleError(f"an observation must be (rows, {len(self.names)}), got {raw.shape}")
        return raw

    def _read_scaling(self) -> Scaling:
        where = f"{self.bundle.directory}: policy"
        for key in _NEEDED:
            if key not in self._section:
                raise BundleError(f"{where} has no {key}")
        try:
            scaling = Scaling.from_json(self._section["observation"])
            least, most = self.limits
        except KeyError as error:
            raise BundleError(f"{where} has no {error.args[0]}") from None
        except ValueError as error:
            raise BundleError(f"{where}: {error}") from None
        known = observations.names(self._section["horizons"], self._section["features"])
        if list(scaling.names) != known:
            raise BundleError(f"{where} observes {list(scaling.names)}, this program makes {known}")
        if list(self._section["horizons"]) != list(self.bundle.horizons):
            raise BundleError(
                f"{where} is of horizons {self._section['horizons']}, the bundle of {self.bundle.horizons}"
            )
        if not least < most:
            raise BundleError(f"{where} has limits {least} and {most}")
        return scaling

    def _opened(self) -> Callable[[Float32], Float64]:
        """(E, D) scaled observations -> (E,) targets."""
        path = self.bundle.directory / POLICY[0]
        if self._runtime == "numpy":
            policy = read(path)
            return lambda seen: policy.target(seen)[:, 0]
        try:
            from models.compact.onnx_graph import OnnxGraph
        except ImportError as error:
            raise BundleError(f"ONNX Runtime cannot be imported here ({error}); use runtime numpy") from None
        graph = OnnxGraph(path)
        return lambda seen: graph.run(observation=seen)[:, 0].astype(np.float64)
