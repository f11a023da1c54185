"""The supervised torch loop: panel mode, so that one pass over a sequence supervises every session in it.

A fit with a directory can be killed at any moment and started again: it goes on from its last checkpoint and ends in
the bytes of an undisturbed one. On CPU the same seed and thread count give the same bytes; on CUDA the kernels of
recurrent layers and atomic sums do not promise it.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from models.compact.distill import match_terms
from models.decode import QUANTILES
from models.forecasters.body import Body
from models.forecasters.checkpoint import Checkpoint, Curves, identity
from models.forecasters.distributed import Ranks, join, pick_device

LOCATION_PENALTY = 10.0
UP_WEIGHT = 0.05
TICKERS_AT_ONCE = 64
"""Whole histories are passed through a body in groups of so many tickers, to bound the memory."""


@dataclass(frozen=True)
class Supervision:
    """What the body is trained on; arrays share the axes (N tickers, T sessions).

    Attributes:
        x: (N, T, Fb) float32, scaled and finite.
        skip: (N, T, H, 4) float32, outputs of the frozen skip.
        z: (N, T, H) float32 targets, NaN = not known: no loss there.
        shape: (H, 9) float32, residual shape of the skip.
        teacher: (N, T, H, 4) float32, a teacher's outputs, NaN = none: nothing to match there. None = no teacher.
    """

    x: Tensor
    skip: Tensor
    z: Tensor
    shape: Tensor
    teacher: Tensor | None = None

    def to(self, device: torch.device) -> Supervision:
        """The same arrays on a device."""
        teacher = None if self.teacher is None else self.teacher.to(device)
        return Supervision(self.x.to(device), self.skip.to(device), self.z.to(device), self.shape.to(device), teacher)


@dataclass(frozen=True)
class FitConfig:
    """How to train.

    Attributes:
        epochs: most passes. patience: passes without a better validation loss before stopping.
        learning_rate: peak of AdamW's schedule. weight_decay: decoupled. seed: of every random choice.
        batch: sequences a step. chunk: supervised sessions of a sequence. clip: largest norm of a gradient.
        location_penalty: of the squared location, which shrinks it towards zero.
        device: "cpu", "cuda", or "auto": CUDA when present. mixed_precision: bfloat16 products on a device that has
            them (CUDA); never on CPU.
        distributed: share every batch among the processes of torchrun.
        checkpoint_steps: steps between checkpoints, where a directory is handed in.
        teacher_weight: of the match to the teacher, beside the labels of weight one; 0 = no teacher is looked at.
        noise: standard deviation of what is added to every scaled feature in training, drawn anew each step.
    """

    epochs: int
    patience: int
    learning_rate: float
    weight_decay: float
    seed: int
    batch: int = 8
    chunk: int = 256
    clip: float = 1.0
    location_penalty: float = LOCATION_PENALTY
    device: str = "auto"
    mixed_precision: bool = True
    distributed: bool = False
    checkpoint_steps: int = 200
    teacher_weight: float = 0.0
    noise: float = 0.0


@dataclass
class Fitted:
    """The course of a fit: losses by epoch, and the best epoch (0 = the skip alone).

    curve: on validation, from epoch 0, the skip alone; empty without a validation slice. train_curve: from epoch 1.
    """

    best_epoch: int = 0
    curve: list[float] = field(default_factory=list)
    train_curve: list[float] = field(default_factory=list)


def fit(
    body: Body,
    data: Supervision,
    train: slice,
    validation: slice | None,
    config: FitConfig,
    progress: Callable[[int], None] = lambda epoch: None,
    directory: Path | None = None,
    name: str = "fit",
) -> Fitted:
    """Train `body` in place on the sessions of `train`.

    With a validation slice it stops after `patience` epochs without a better loss and keeps the best epoch's
    weights; without one it runs all `epochs` (a refit). The same seed and thread count give the same bytes, also when
    the fit was killed and resumed.

    Args:
        body: left on the CPU. data: on the CPU. train, validation: sessions.
        progress: called with each epoch done.
        directory: of checkpoints and curves, None = none. name: of its files.

    Raises:
        FloatingPointError: the loss is not finite.
        ValueError: no target to train on after the body's context.
    """
    if not len(_chunks(data, train, body.context, config.chunk)):
        raise ValueError(
            f"no known target in sessions {train.start} to {train.stop} after the first {body.context}, which the"
            " network needs as context; lengthen the training slice or shorten the context"
        )
    device = pick_device(config.device)
    ranks = join(config.distributed, device)
    torch.manual_seed(config.seed)
    checkpoint = None
    if directory is not None:
        settings = replace(config, checkpoint_steps=0, distributed=False)
        parts = (repr((settings, train, validation, device.type, body)), *body.state_dict().values())
        arrays = (data.x, data.skip, data.z, data.shape, *(() if data.teacher is None else (data.teacher,)))
        checkpoint = Checkpoint.of(directory, name, identity((*parts, *arrays)))
    body.to(device)
    run = _Run(body, data.to(device), train, validation, config, ranks, checkpoint)
    run.start()
    curves = Curves(directory, name, run.epoch) if directory is not None and ranks.rank == 0 else None
    while not run.finished:
        run.one_epoch()
        progress(run.epoch)
        if curves is not None:
            curves.write(run.fitted.train_curve, run.fitted.curve, float(run.schedule.get_last_lr()[0]))
    if curves is not None:
        curves.close()
    if validation is not None:
        body.load_state_dict(run.best)
    body.to("cpu")
    return run.fitted


class _Run:
    """A fit in progress: everything that a checkpoint holds."""

    def __init__(
        self,
        body: Body,
        data: Supervision,
        train: slice,
        validation: slice | None,
        config: FitConfig,
        ranks: Ranks,
        checkpoint: Checkpoint | None,
    ) -> None:
        self.body, self.data, self.train, self.validation = body, data, train, validation
        self.config, self.ranks, self.checkpoint = config, ranks, checkpoint
        self.parallel = ranks.wrapped(body)
        self.generator = np.random.default_rng(config.seed)
        self.optimizer = torch.optim.AdamW(body.parameters(), config.learning_rate, weight_decay=config.weight_decay)
        batches = -(-len(_chunks(data, train, body.context, config.chunk)) // config.batch)
        steps = config.epochs * max(1, batches)
        self.schedule = torch.optim.lr_scheduler.LambdaLR(self.optimizer, lambda step: _warm_cosine(step / steps))
        self.fitted = Fitted()
        self.best, self.best_loss = copy.deepcopy(body.state_dict()), math.inf
        self.epoch, self.position, self.losses = 0, 0, 0.0
        self.sampler = self.generator.bit_generator.state  # at the start of the epoch under way
        self.finished = config.epochs < 1

    def start(self) -> None:
        """From the checkpoint, or from the untrained body, whose validation loss is the skip's."""
        state = self.checkpoint.load(self.data.x.device) if self.checkpoint else None
        if state is not None:
            self._restore(state)
        elif self.validation is not None:
            self.best_loss = self._validation_loss()
            self.fitted.curve.append(self.best_loss)
        if self.ranks.size > 1 and state is None:  # the draws of dropout differ between processes
            torch.manual_seed(self.config.seed + 7919 * self.ranks.rank)

    def one_epoch(self) -> None:
        """The rest of the epoch under way, then its verdict."""
        self.body.train()
        self.generator.bit_generator.state = self.sampler
        groups = _groups(self.data, self.train, self.body.context, self.config, self.generator)
        for group in groups[self.position :]:
            self._step(group)
            self.position += 1
            if int(self.schedule.last_epoch) % self.config.checkpoint_steps == 0 and self.position < len(groups):
                self._save()
        self.epoch += 1
        self.fitted.train_curve.append(self.losses / max(1, len(groups)))
        self.position, self.losses, self.sampler = 0, 0.0, self.generator.bit_generator.state
        out_of_patience = self._judge()
        self.finished = out_of_patience or self.epoch >= self.config.epochs
        if self.validation is None:
            self.fitted.best_epoch = self.epoch
        self._save()

    def _step(self, group: list[tuple[int, int]]) -> None:
        config, epoch = self.config, self.epoch + 1
        batch = _cut(self.data, group, self.train.stop, self.body.context, config.chunk, self.ranks)
        device = batch.x.device.type
        self.optimizer.zero_grad(set_to_none=True)
        x = batch.x + config.noise * torch.randn_like(batch.x) if config.noise else batch.x
        with torch.autocast(device, torch.bfloat16, enabled=config.mixed_precision and device == "cuda"):
            added = self.parallel(x).float()
        total, known = loss_terms(added, batch.skip, batch.z, self.data.shape, config.location_penalty)
        # gradients are averaged over processes, so each one's share of the sum is scaled up by their number
        value = total * self.ranks.size / self.ranks.summed(known).clamp(min=1)
        if batch.teacher is not None and config.teacher_weight:
            total, known = match_terms(batch.skip + added, batch.teacher, config.location_penalty, UP_WEIGHT)
            value = value + config.teacher_weight * total * self.ranks.size / self.ranks.summed(known).clamp(min=1)
        shown = self.ranks.summed(value) / self.ranks.size
        if not torch.isfinite(shown):
            raise FloatingPointError(f"training loss is {shown.item()} in epoch {epoch}; lower the learning rate")
        value.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(self.body.parameters(), config.clip)
        self.optimizer.step()
        self.schedule.step()
        self.losses += float(shown)

    def _judge(self) -> bool:
        """Keep the best epoch's weights; True when patience is over."""
        if self.validation is None:
            return False
        self.fitted.curve.append(self._validation_loss())
        if self.fitted.curve[-1] < self.best_loss:
            self.best, self.best_loss = copy.deepcopy(self.body.state_dict()), self.fitted.curve[-1]
            self.fitted.best_epoch = self.epoch
        return self.epoch - self.fitted.best_epoch >= self.config.patience

    def _validation_loss(self) -> float:
        assert self.validation is not None
        found = evaluate(self.body, self.data, self.validation, self.config.location_penalty)
        value = self.ranks.gathered(found)[0]  # one verdict for all, to the last bit
        if not math.isfinite(value):
            raise FloatingPointError(f"validation loss is {value} after epoch {self.epoch}; lower the learning rate")
        return value

    def _save(self) -> None:
        if self.checkpoint is None:
            return
        random = torch.cuda.get_rng_state() if self.data.x.device.type == "cuda" else torch.get_rng_state()
        randoms = self.ranks.gathered(random)
        if self.ranks.rank:
            return
        self.checkpoint.save(
            {
                "body": self.body.state_dict(),
                "optimizer": self.optimizer.state_dict(),
                "schedule": self.schedule.state_dict(),
                "random": randoms,
                "sampler": self.sampler,
                "epoch": self.epoch,
                "position": self.position,
                "losses": self.losses,
                "best": self.best,
                "best_loss": self.best_loss,
                "fitted": (self.fitted.best_epoch, self.fitted.curve, self.fitted.train_curve),
                "finished": self.finished,
            }
        )

    def _restore(self, state: dict[str, Any]) -> None:
        if len(state["random"]) != self.ranks.size:
            raise ValueError(
                f"the checkpoint was written by {len(state['random'])} processes and {self.ranks.size} would resume it;"
                " start as many, or remove it"
            )
        self.body.load_state_dict(state["body"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.schedule.load_state_dict(state["schedule"])
        random = state["random"][self.ranks.rank].cpu()
        if self.data.x.device.type == "cuda":
            torch.cuda.set_rng_state(random)
        else:
            torch.set_rng_state(random)
        self.sampler, self.epoch, self.position = state["sampler"], state["epoch"], state["position"]
        self.losses, self.best, self.best_loss = state["losses"], state["best"], state["best_loss"]
        self.fitted, self.finished = Fitted(*state["fitted"]), state["finished"]


def loss(added: Tensor, skip: Tensor, z: Tensor, shape: Tensor, location_penalty: float = LOCATION_PENALTY) -> Tensor:
    """Mean pinball loss over nine quantiles and all known targets, each horizon counted alike, plus a little
    cross-entropy of p_up and a penalty that shrinks the location towards zero.

    Args:
        added: (B, S, H, 4) what the body adds. skip: (B, S, H, 4). z: (B, S, H). shape: (H, 9).
    """
    total, known = loss_terms(added, skip, z, shape, location_penalty)
    return total / known.clamp(min=1)


def loss_terms(added: Tensor, skip: Tensor, z: Tensor, shape: Tensor, location_penalty: float) -> tuple[Tensor, Tensor]:
    """The sum of `loss` over known targets, and their number."""
    y = skip + added
    known = torch.isfinite(z)
    target = torch.where(known, z, torch.zeros_like(z))
    scale = torch.where(shape < 0, y[..., 1:2].exp(), y[..., 2:3].exp())  # (B, S, H, 9)
    levels = torch.tensor(QUANTILES, dtype=z.dtype, device=z.device)
    error = target[..., None] - (y[..., 0:1] + scale * shape)  # (B, S, H, 9)
    pinball = torch.maximum(levels * error, (levels - 1) * error).mean(-1)
    up = nn.functional.binary_cross_entropy_with_logits(y[..., 3], (target > 0).to(z.dtype), reduction="none")
    each = pinball + UP_WEIGHT * up + location_penalty * y[..., 0] ** 2
    return (each * known).sum(), known.sum()


def evaluate(body: Body, data: Supervision, sessions: slice, location_penalty: float = LOCATION_PENALTY) -> float:
    """The loss of `body` on a slice of sessions; the body's first `context` have no output and are left out."""
    body.eval()
    start = max(sessions.start, body.context)
    before, where = slice(start - body.context, sessions.stop), slice(start, sessions.stop)
    with torch.no_grad():
        totals = [
            loss_terms(body(data.x[at, before]), data.skip[at, where], data.z[at, where], data.shape, location_penalty)
            for at in _ticker_groups(len(data.x))
        ]
        total, known = (torch.stack(each).sum() for each in zip(*totals, strict=True))
        return float(total / known.clamp(min=1))


def body_outputs(body: Body, x: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """(N, T, Fb) -> (N, T, H, 4) float32: the body's addition at every session, NaN at the first `context`."""
    body.eval()
    with torch.no_grad():
        added = np.concatenate([body(torch.from_numpy(x[at])).numpy() for at in _ticker_groups(len(x))])
    out = np.full((x.shape[0], x.shape[1], *added.shape[2:]), np.nan, dtype=np.float32)
    out[:, body.context :] = added
    return out


def _ticker_groups(tickers: int) -> Iterator[slice]:
    return (slice(at, at + TICKERS_AT_ONCE) for at in range(0, tickers, TICKERS_AT_ONCE))


def _warm_cosine(done: float) -> float:
    """Share of the peak learning rate: linear up over the first fifth of training, then half a cosine down."""
    if done < 0.2:
        return 0.05 + 0.95 * done / 0.2
    return 0.5 * (1 + math.cos(math.pi * (done - 0.2) / 0.8))


def _chunks(data: Supervision, sessions: slice, context: int, chunk: int) -> npt.NDArray[np.int64]:
    """(ticker, first session) of every chunk that holds a known target."""
    first = max(sessions.start, context)
    known = torch.isfinite(data.z).any(-1).cpu().numpy()  # (N, T)
    starts = np.arange(first, max(first, sessions.stop - chunk) + 1, chunk)
    pairs = [(n, s) for s in starts for n in range(len(known)) if known[n, s : min(s + chunk, sessions.stop)].any()]
    return np.asarray(pairs, dtype=np.int64).reshape(-1, 2)


def _groups(
    data: Supervision, sessions: slice, context: int, config: FitConfig, generator: np.random.Generator
) -> list[list[tuple[int, int]]]:
    """Shuffled batches of chunks, as (ticker, first session), their grid shifted at random each epoch."""
    shift = int(generator.integers(0, config.chunk))
    pairs = _chunks(data, slice(sessions.start + shift, sessions.stop), context, config.chunk)
    if not len(pairs):
        pairs = _chunks(data, sessions, context, config.chunk)
    pairs = pairs[generator.permutation(len(pairs))]
    return [[(int(n), int(s)) for n, s in pairs[at : at + config.batch]] for at in range(0, len(pairs), config.batch)]


def _cut(
    data: Supervision, group: list[tuple[int, int]], stop: int, context: int, chunk: int, ranks: Ranks
) -> Supervision:
    """This process's share of a batch: sequences of context and as many supervised sessions as all of them have."""
    size = min(chunk, min(stop - s for _, s in group))
    mine = ranks.share(group) or group[:1]
    z, skip = (torch.stack([part[n, s : s + size] for n, s in mine]) for part in (data.z, data.skip))
    taught = data.teacher
    teacher = None if taught is None else torch.stack([taught[n, s : s + size] for n, s in mine])
    if not ranks.share(group):  # takes part in the step, without a target
        z = torch.full_like(z, torch.nan)
        teacher = None if teacher is None else torch.full_like(teacher, torch.nan)
    x = torch.stack([data.x[n, s - context : s + size] for n, s in mine])
    return Supervision(x, skip, z, data.shape, teacher)
