"""Maximum likelihood of GARCH(1,1) and GJR(1,1): one ticker through `arch`, or one set of parameters for a panel."""

from __future__ import annotations

import warnings
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt
from arch import arch_model
from scipy.optimize import minimize
from scipy.signal import lfilter
from scipy.special import gammaln

Float64 = npt.NDArray[np.float64]
Distribution = Literal["normal", "t"]

PERCENT = 100.0
MOST_PERSISTENT = 0.9995
"""Beyond it the long-run variance is not told by the data: the fit counts as failed."""
STARTS = ((0.05, 0.0, 0.90), (0.03, 0.08, 0.90), (0.10, 0.10, 0.75))
"""Alpha, gamma, beta that a fit starts from, with the constant that makes the sample variance the long-run one."""
FEWEST_DEGREES, MOST_DEGREES = 2.1, 100.0


class Parameters(NamedTuple):
    """Of N tickers, (N,) float64 each; see models/forecasters/garch.py for the recursion."""

    omega: Float64
    alpha: Float64
    gamma: Float64
    beta: Float64

    @property
    def persistence(self) -> Float64:
        """(N,) share of a deviation from the long-run variance that is left after a session."""
        return np.asarray(self.alpha + self.gamma / 2 + self.beta)


def fit_ticker(
    returns: Float64, leverage: bool, distribution: Distribution, least: int
) -> tuple[tuple[float, float, float, float] | None, str]:
    """omega, alpha, gamma, beta of one ticker, or None and why there are none.

    Args:
        returns: (T,) log returns without NaN. leverage: fit gamma, else it is 0. least: returns needed.
    """
    if len(returns) < least:
        return None, f"fewer than {least} returns"
    if returns.std() == 0:
        return None, "constant prices"
    scaled = PERCENT * returns
    level = float((scaled**2).mean())
    model = arch_model(scaled, mean="Zero", vol="GARCH", p=1, o=int(leverage), q=1, dist=distribution, rescale=False)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what did not converge is told below, and counted
        for alpha, gamma, beta in STARTS:
            gamma = gamma if leverage else 0.0
            start = [level * (1 - alpha - gamma / 2 - beta), alpha, *([gamma] if leverage else []), beta]
            start += [8.0] if distribution == "t" else []
            found = model.fit(disp="off", show_warning=False, starting_values=np.array(start), backcast=level)
            values = found.params
            gamma_found = float(values["gamma[1]"]) if leverage else 0.0
            omega, alpha, beta = (float(values[name]) for name in ("omega", "alpha[1]", "beta[1]"))
            reason = _refused(omega, alpha, gamma_found, beta, found.convergence_flag)
            if not reason:
                return (omega / PERCENT**2, alpha, gamma_found, beta), ""
    return None, reason


def fit_pooled(standardised: Float64, distribution: Distribution) -> tuple[Parameters, bool]:
    """One GJR(1,1) for all tickers, its long-run variance one in their units (variance targeting, Engle and Mezrich
    1996), and whether the optimiser converged.

    Args:
        standardised: (N, T) returns over each ticker's own root mean square, NaN where there is none.

    Returns:
        `Parameters` of one element each.
    """
    rows = [row[np.isfinite(row)] for row in standardised]
    packed = np.zeros((len(rows), max(map(len, rows))))
    for n, row in enumerate(rows):
        packed[n, : len(row)] = row
    inside = np.arange(packed.shape[1]) < np.array([len(row) for row in rows])[:, None]
    squares = packed**2
    falls = squares * (packed < 0)

    def loss(theta: Float64) -> float:
        alpha, gamma, beta, degrees = _unpacked(theta)
        shock = 1 - alpha - gamma / 2 - beta + alpha * squares[:, :-1] + gamma * falls[:, :-1]
        start = np.full((len(packed), 1), beta)  # the first variance is one
        later = lfilter([1.0], [1.0, -beta], shock, axis=1, zi=start)[0]
        variance = np.concatenate([np.ones((len(packed), 1)), later], axis=1)
        return float((_minus_log_likelihood(squares, variance, degrees, distribution) * inside).sum() / inside.sum())

    found = min(
        (minimize(loss, _packed(*start, 8.0), method="L-BFGS-B") for start in STARTS), key=lambda each: each.fun
    )
    alpha, gamma, beta, _ = _unpacked(found.x)
    values = (1 - alpha - gamma / 2 - beta, alpha, gamma, beta)
    return Parameters(*(np.array([value]) for value in values)), bool(found.success)


def _refused(omega: float, alpha: float, gamma: float, beta: float, flag: int) -> str:
    if flag != 0:
        return "did not converge"
    if not np.isfinite([omega, alpha, gamma, beta]).all() or omega <= 0:
        return "parameters not finite or no constant"
    if alpha < 0 or alpha + gamma < 0 or beta < 0:
        return "negative parameters"
    return "persistence of one" if alpha + gamma / 2 + beta > MOST_PERSISTENT else ""


def _packed(alpha: float, gamma: float, beta: float, degrees: float) -> Float64:
    """Free numbers for shares that add up to the persistence: softmax of alpha, gamma/2, beta and the rest."""
    rest = 1 - alpha - gamma / 2 - beta
    shares = np.maximum([alpha, gamma / 2, beta], 1e-3) / rest
    return np.array([*np.log(shares), np.log(degrees - FEWEST_DEGREES)])


def _unpacked(theta: Float64) -> tuple[float, float, float, float]:
    shares = np.exp(np.clip(theta[:3], -20, 20))
    shares = MOST_PERSISTENT * shares / (1 + shares.sum())
    degrees = FEWEST_DEGREES + np.exp(np.clip(theta[3], -20, np.log(MOST_DEGREES)))
    return float(shares[0]), float(2 * shares[1]), float(shares[2]), float(degrees)


def _minus_log_likelihood(squares: Float64, variance: Float64, degrees: float, distribution: Distribution) -> Float64:
    """Of each return, constants of the normal law left out."""
    if distribution == "normal":
        return np.asarray((np.log(variance) + squares / variance) / 2)
    constant = gammaln(degrees / 2) - gammaln((degrees + 1) / 2) + np.log(np.pi * (degrees - 2)) / 2
    tail = (degrees + 1) / 2 * np.log1p(squares / ((degrees - 2) * variance))
    return np.asarray(constant + np.log(variance) / 2 + tail)
