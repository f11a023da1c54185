"""Any policy as a network of the shipped size: regression on what the policy wants where it, or chance, may stand.

Policy distillation (Rusu et al. 2015, arXiv 1511.06295) with the teacher's target weight as the label. Observations are
those that the teacher's own decisions lead to, and those of random targets, so that every weight the asset may be held
at is covered. A teacher can be asked anywhere: half of what is observed is stretched, so that the network agrees with
it in years that are wilder or calmer than those of training, too. Early stopping reads the last sessions, which
training does not.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from models.compact.small_policy import BODY_LAYERS, HIDDEN, FloatPolicy, Frame
from models.scaling import WINSOR_LIMIT
from models.trading.env import Batch, Markets, Rules
from models.trading.policy import Policy

Float32 = npt.NDArray[np.float32]
Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

STRETCH, NOISE = (0.5, 2.5), 1.5
"""Stretched observations: each row times a factor between these, then its columns with normal noise of their own, of a
deviation up to this, drawn for the row."""
TAIL = 0.05
"""Percent of the observations that each end of an input's range leaves to saturation."""


@dataclass(frozen=True)
class DistilConfig:
    """How to distil.

    Attributes:
        observations: half visited, by the teacher and by random targets in turn; the other half the same, stretched.
        environments: stepped together.
        held_out: share of the sessions, the last, for early stopping.
        epochs, patience: at most so many, and so many without progress. batch, learning_rate: of AdamW (Loshchilov
            and Hutter 2019, arXiv 1711.05101), the rate falling by a cosine.
        decay: of the body's weights; the larger, the smoother the policy and the less rounding matters to it.
        seed: the same gives the same bytes.
    """

    observations: int = 60_000
    environments: int = 256
    held_out: float = 0.2
    epochs: int = 80
    patience: int = 12
    batch: int = 1024
    learning_rate: float = 4e-3
    decay: float = 0.5
    seed: int = 0


class Visited(NamedTuple):
    """Observations (R, D), the session of each (R,), and what the teacher wants there (R,)."""

    observation: Float32
    session: Ints
    target: Floats


class Distilled(NamedTuple):
    """A network, and how it came about.

    Attributes:
        policy: the network.
        held_out_error: root mean squared difference from the teacher on the held-out sessions, over the limits' width.
        observations: (R, D) that were visited, for the ranges of int8.
    """

    policy: FloatPolicy
    held_out_error: float
    observations: Float32


@dataclass(frozen=True)
class Committee(Policy):
    """Several policies of one asset as one: the mean of their targets, where leaving alone wants what is held."""

    members: tuple[Policy, ...]

    def target(self, observation: Float32) -> Floats:
        """(E, 1) target weights, never NaN."""
        own = observation[:, -2:-1].astype(np.float64)
        wanted = [member.target(observation) for member in self.members]
        return np.asarray(np.mean([np.where(np.isnan(each), own, each) for each in wanted], axis=0))


def visit(policy: Policy, markets: Markets, rules: Rules, config: DistilConfig) -> Visited:
    """Walk environments of one asset, the first half by the policy, the others by random targets; then stretch.

    Stretched rows have random weights. A target of NaN, leave alone, is the weight held.

    Raises:
        ValueError: the markets are of several assets.
    """
    if markets.opens.shape[2] != 1:
        raise ValueError(
            f"a shipped policy decides for one asset at a time, these markets have {markets.opens.shape[2]}"
        )
    E, sessions = config.environments, markets.opens.shape[1]
    batch = Batch(markets, rules, E, config.seed)
    generator = np.random.default_rng(config.seed)
    led = np.arange(E) < E // 2
    steps = -(-config.observations // (2 * E))
    seen, session = np.empty((steps, E, batch.width), np.float32), np.empty((steps, E), np.int64)
    observation = batch.reset()
    for step in range(steps):
        target = _wanted(policy, observation)
        seen[step], session[step] = observation, batch.at % sessions
        chance = generator.uniform(rules.limits.least, rules.limits.most, E)
        observation = batch.step(np.where(led, target, chance)[:, None]).observation
    visited = seen.reshape(-1, batch.width)
    both = np.concatenate([visited, _stretched(visited, rules, generator)])
    wanted = np.concatenate([_wanted(policy, part) for part in np.array_split(both, 2 * steps)])
    wanted = np.clip(wanted, rules.limits.least, rules.limits.most)
    return Visited(both, np.tile(session.ravel(), 2), wanted)


def _wanted(policy: Policy, observation: Float32) -> Floats:
    """(E,) targets, the weight held where the policy leaves it alone."""
    target = policy.target(observation)[:, 0]
    return np.where(np.isnan(target), observation[:, -2], target)


def _stretched(visited: Float32, rules: Rules, generator: np.random.Generator) -> Float32:
    """(R, D) the same rows further from, or nearer to, the centre of what is observed, at random weights."""
    rows = visited.copy()
    observed = rows[:, :-2]
    factor, noise = generator.uniform(*STRETCH, (len(rows), 1)), generator.uniform(0, NOISE, (len(rows), 1))
    further = observed * factor + noise * generator.standard_normal(observed.shape)
    moves = np.ptp(observed, axis=0) > 0
    rows[:, :-2] = np.where(moves, np.clip(further, -WINSOR_LIMIT, WINSOR_LIMIT), observed)
    rows[:, -2] = generator.uniform(rules.limits.least, rules.limits.most, len(rows))
    return rows


def distil(policy: Policy, markets: Markets, rules: Rules, config: DistilConfig | None = None) -> Distilled:
    """A small network that wants what the policy wants.

    Args:
        policy: the teacher. markets: of the training slice, one asset each. rules: their limits are the network's.

    Raises:
        ValueError: the markets are of several assets, or their sessions too few to hold any out.
    """
    config = config or DistilConfig()
    visited = visit(policy, markets, rules, config)
    late = visited.session >= np.quantile(visited.session, 1 - config.held_out)
    if late.all() or not late.any():
        raise ValueError("the markets have too few sessions to hold some out")
    frame = _frame(visited.observation[~late], rules)
    unit = rules.limits.most - rules.limits.least
    x, wanted = torch.from_numpy(frame.inputs(visited.observation)), torch.from_numpy(visited.target / unit).float()
    early, held_out = torch.from_numpy(np.flatnonzero(~late)), torch.from_numpy(np.flatnonzero(late))
    ends = rules.limits.least / unit, rules.limits.most / unit
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # a network this small is slower with more, and no longer the same to the bit
    try:
        network, error = _fit((x[early], wanted[early]), (x[held_out], wanted[held_out]), ends, config)
    finally:
        torch.set_num_threads(threads)
    return Distilled(network.policy(frame, unit), error, visited.observation)


def _frame(observations: Float32, rules: Rules) -> Frame:
    """Inputs that fill the range of u8: an observed column from its tail to its tail, the weight over its limits."""
    low, high = np.percentile(observations.astype(np.float64), (TAIL, 100 - TAIL), axis=0)
    low[-2], high[-2] = rules.limits.least, rules.limits.most
    moves = high > low
    rate = np.where(moves, 2 * WINSOR_LIMIT / np.where(moves, high - low, 1.0), 0.0)
    nothing = np.zeros(observations.shape[1], np.float32)
    least, most = np.float32(rules.limits.least), np.float32(rules.limits.most)
    return Frame(
        ((low + high) / 2).astype(np.float32), rate.astype(np.float32),
        np.zeros(HIDDEN, np.float32), nothing, np.float32(0), least, most,
    )  # fmt: skip


class _Student(nn.Module):
    """(R, D) inputs -> (R,) targets over the width of the limits, not clipped."""

    def __init__(self, x: Tensor, wanted: Tensor, generator: torch.Generator) -> None:
        super().__init__()
        widths = (x.shape[1], *(HIDDEN,) * BODY_LAYERS)
        self.matrices, self.biases = nn.ParameterList(), nn.ParameterList()
        for rows, columns in pairwise(widths):
            self.matrices.append(torch.randn(columns, rows, generator=generator) * (2 / rows) ** 0.5)
            self.biases.append(torch.zeros(columns))
        # The skip begins as the best linear policy; the body learns what that leaves.
        basis = torch.cat([x, torch.ones(len(x), 1)], 1).double()
        gram = basis.T @ basis / len(basis) + 1e-6 * torch.eye(basis.shape[1], dtype=torch.float64)
        linear = torch.linalg.solve(gram, basis.T @ wanted.double() / len(basis)).float()
        self.skip, self.bias = nn.Parameter(linear[:-1].clone()), nn.Parameter(linear[-1].clone())
        self.head = nn.Parameter(torch.zeros(HIDDEN))

    def forward(self, x: Tensor) -> Tensor:
        hidden = x
        for matrix, bias in zip(self.matrices, self.biases, strict=True):
            hidden = torch.relu(hidden @ matrix.T + bias)
        return hidden @ self.head + x @ self.skip + self.bias

    def policy(self, frame: Frame, unit: float) -> FloatPolicy:
        """The network in arrays; what has no rate has no weight either."""
        still = frame.rate == 0
        layers = []
        for matrix, bias in zip(self.matrices, self.biases, strict=True):
            layers.append((_array(matrix), _array(bias)))
        layers[0][0][:, still] = 0
        skip = np.where(still, np.float32(0), unit * _array(self.skip)).astype(np.float32)
        head, bias = (unit * _array(self.head)).astype(np.float32), np.float32(unit * self.bias.item())
        return FloatPolicy(tuple(layers), Frame(frame.center, frame.rate, head, skip, bias, frame.least, frame.most))


def _fit(
    training: tuple[Tensor, Tensor],
    held_out: tuple[Tensor, Tensor],
    ends: tuple[float, float],
    config: DistilConfig,
) -> tuple[_Student, float]:
    """The student with the least held-out error of all epochs, and that error."""
    generator = torch.Generator().manual_seed(config.seed)
    student = _Student(*training, generator)
    decayed = [*student.matrices, student.head]
    others = [*student.biases, student.skip, student.bias]
    groups = [{"params": decayed, "weight_decay": config.decay}, {"params": others, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, config.learning_rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, config.epochs)
    best, least, waited = _copied(student), _error(student, *held_out, ends), 0
    for _ in range(config.epochs):
        for rows in torch.split(torch.randperm(len(training[0]), generator=generator), config.batch):
            optimizer.zero_grad(set_to_none=True)
            x, wanted = training[0][rows], training[1][rows]
            loss = _beyond(student(x), wanted, ends).square().mean()
            torch.autograd.backward([loss])
            optimizer.step()
        schedule.step()
        error = _error(student, *held_out, ends)
        waited = 0 if error < least else waited + 1
        if error < least:
            best, least = _copied(student), error
        if waited >= config.patience:
            break
    student.load_state_dict(best)
    return student, least


def _beyond(found: Tensor, wanted: Tensor, ends: tuple[float, float]) -> Tensor:
    """Differences from what is wanted, none where both are at or beyond the same end: clipping makes them equal."""
    difference = found - wanted
    same = ((wanted >= ends[1]) & (found > ends[1])) | ((wanted <= ends[0]) & (found < ends[0]))
    return difference.masked_fill(same, 0.0)


def _error(student: _Student, x: Tensor, wanted: Tensor, ends: tuple[float, float]) -> float:
    with torch.no_grad():
        return float((student(x).clamp(*ends) - wanted).square().mean().sqrt())


def _copied(student: _Student) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in student.state_dict().items()}


def _array(tensor: Tensor) -> Float32:
    return np.array(tensor.detach().numpy(), dtype=np.float32)
