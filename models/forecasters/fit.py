"""The supervised torch loop: panel mode, so that one pass over a sequence supervises every session in it."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from models.decode import QUANTILES
from models.forecasters.tcn import FIELD

CHUNK = 256
BATCH = 8
LOCATION_PENALTY = 10.0
UP_WEIGHT = 0.05


@dataclass(frozen=True)
class Supervision:
    """What the body is trained on; arrays share the axes (N tickers, T sessions).

    Attributes:
        x: (N, T, Fb) float32, scaled and finite.
        skip: (N, T, H, 4) float32, outputs of the frozen skip.
        z: (N, T, H) float32 targets, NaN = not known: no loss there.
        shape: (H, 9) float32, residual shape of the skip.
    """

    x: Tensor
    skip: Tensor
    z: Tensor
    shape: Tensor


@dataclass(frozen=True)
class FitConfig:
    """How to train: passes, patience, AdamW's peak learning rate and decoupled weight decay, seed."""

    epochs: int
    patience: int
    learning_rate: float
    weight_decay: float
    seed: int


@dataclass
class Fitted:
    """The course of a fit: validation loss after each epoch, and the best epoch (0 = the skip alone)."""

    best_epoch: int = 0
    curve: list[float] = field(default_factory=list)


def fit(
    body: nn.Module,
    data: Supervision,
    train: slice,
    validation: slice | None,
    config: FitConfig,
    progress: Callable[[int], None] = lambda epoch: None,
) -> Fitted:
    """Train `body` in place on the sessions of `train`.

    With a validation slice it stops after `patience` epochs without a better loss and keeps the best epoch's
    weights; without one it runs all `epochs` (a refit). The same seed and thread count give the same bytes.

    Raises:
        FloatingPointError: the loss is not finite.
    """
    torch.manual_seed(config.seed)
    generator = np.random.default_rng(config.seed)
    optimizer = torch.optim.AdamW(body.parameters(), config.learning_rate, weight_decay=config.weight_decay)
    steps = config.epochs * max(1, -(-len(_chunks(data, train)) // BATCH))
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _warm_cosine(step / steps))
    fitted = Fitted()
    best, best_loss = copy.deepcopy(body.state_dict()), np.inf
    if validation is not None:
        best_loss = evaluate(body, data, validation)
        fitted.curve.append(best_loss)
    for epoch in range(1, config.epochs + 1):
        body.train()
        for batch in _batches(data, train, generator):
            optimizer.zero_grad(set_to_none=True)
            value = loss(body(batch.x), batch.skip, batch.z, data.shape)
            if not torch.isfinite(value):
                raise FloatingPointError(f"training loss is {value.item()} in epoch {epoch}; lower the learning rate")
            value.backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_norm_(body.parameters(), 1.0)
            optimizer.step()
            schedule.step()
        progress(epoch)
        if validation is None:
            fitted.best_epoch = epoch
            continue
        fitted.curve.append(evaluate(body, data, validation))
        if fitted.curve[-1] < best_loss:
            best, best_loss, fitted.best_epoch = copy.deepcopy(body.state_dict()), fitted.curve[-1], epoch
        elif epoch - fitted.best_epoch >= config.patience:
            break
    if validation is not None:
        body.load_state_dict(best)
    return fitted


def loss(added: Tensor, skip: Tensor, z: Tensor, shape: Tensor) -> Tensor:
    """Mean pinball loss over nine quantiles and all known targets, each horizon counted alike, plus a little
    cross-entropy of p_up and a penalty that shrinks the location towards zero.

    Args:
        added: (B, S, H, 4) what the body adds. skip: (B, S, H, 4). z: (B, S, H). shape: (H, 9).
    """
    y = skip + added
    known = torch.isfinite(z)
    target = torch.where(known, z, torch.zeros_like(z))
    scale = torch.where(shape < 0, y[..., 1:2].exp(), y[..., 2:3].exp())  # (B, S, H, 9)
    levels = torch.tensor(QUANTILES, dtype=z.dtype)
    error = target[..., None] - (y[..., 0:1] + scale * shape)  # (B, S, H, 9)
    pinball = torch.maximum(levels * error, (levels - 1) * error).mean(-1)
    up = nn.functional.binary_cross_entropy_with_logits(y[..., 3], (target > 0).to(z.dtype), reduction="none")
    each = pinball + UP_WEIGHT * up + LOCATION_PENALTY * y[..., 0] ** 2
    return (each * known).sum() / known.sum().clamp(min=1)


def evaluate(body: nn.Module, data: Supervision, sessions: slice) -> float:
    """The loss of `body` on a slice of sessions; the first 63 sessions have no output and are left out."""
    body.eval()
    start = max(sessions.start, FIELD - 1)
    with torch.no_grad():
        added = body(data.x[:, start - FIELD + 1 : sessions.stop])
        where = slice(start, sessions.stop)
        return float(loss(added, data.skip[:, where], data.z[:, where], data.shape))


def body_outputs(body: nn.Module, x: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """(N, T, Fb) -> (N, T, H, 4) float32: the body's addition at every session, NaN at the first 63."""
    body.eval()
    with torch.no_grad():
        added = body(torch.from_numpy(x)).numpy()
    out = np.full((x.shape[0], x.shape[1], *added.shape[2:]), np.nan, dtype=np.float32)
    out[:, FIELD - 1 :] = added
    return out


def _warm_cosine(done: float) -> float:
    """Share of the peak learning rate: linear up over the first fifth of training, then half a cosine down."""
    if done < 0.2:
        return 0.05 + 0.95 * done / 0.2
    return 0.5 * (1 + math.cos(math.pi * (done - 0.2) / 0.8))


def _chunks(data: Supervision, sessions: slice) -> npt.NDArray[np.int64]:
    """(ticker, first session) of every chunk that holds a known target."""
    first = max(sessions.start, FIELD - 1)
    known = torch.isfinite(data.z).any(-1).numpy()  # (N, T)
    starts = np.arange(first, max(first, sessions.stop - CHUNK) + 1, CHUNK)
    pairs = [(n, s) for s in starts for n in range(len(known)) if known[n, s : min(s + CHUNK, sessions.stop)].any()]
    return np.asarray(pairs, dtype=np.int64).reshape(-1, 2)


def _batches(data: Supervision, sessions: slice, generator: np.random.Generator) -> Iterator[Supervision]:
    """Shuffled batches of chunks, their grid shifted at random each epoch; views of the panel, cut when used."""
    shift = int(generator.integers(0, CHUNK))
    pairs = _chunks(data, slice(sessions.start + shift, sessions.stop))
    if not len(pairs):
        pairs = _chunks(data, sessions)
    pairs = pairs[generator.permutation(len(pairs))]
    for at in range(0, len(pairs), BATCH):
        group = [(int(n), int(s)) for n, s in pairs[at : at + BATCH]]
        size = min(CHUNK, min(sessions.stop - s for _, s in group))
        yield Supervision(
            torch.stack([data.x[n, s - FIELD + 1 : s + size] for n, s in group]),
            torch.stack([data.skip[n, s : s + size] for n, s in group]),
            torch.stack([data.z[n, s : s + size] for n, s in group]),
            data.shape,
        )
