"""Checkpoints and curves of a fit: written whole or not at all, read without running any code of the file."""

from __future__ import annotations

import csv
import hashlib
import io
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True)
class Checkpoint:
    """Where one fit keeps its state; another fit (other data, weights or settings) has another identity and file."""

    path: Path

    @classmethod
    def of(cls, directory: Path, name: str, identity: str) -> Checkpoint:
        """The file of the fit `name` with this identity under `directory`, which is made if need be."""
        directory.mkdir(parents=True, exist_ok=True)
        return cls(directory / f"{name}-{identity[:16]}.pt")

    def load(self, device: torch.device) -> dict[str, Any] | None:
        """The state kept, None if there is none yet. Tensors and plain values only: no code is run."""
        if not self.path.is_file():
            return None
        state: dict[str, Any] = torch.load(self.path, map_location=device, weights_only=True)
        return state

    def save(self, state: dict[str, Any]) -> None:
        """Replace the file in one step: whoever is killed here leaves the one before."""
        buffer = io.BytesIO()
        torch.save(state, buffer)
        replace(self.path, buffer.getvalue())


def identity(parts: Iterable[str | Tensor]) -> str:
    """Hash of everything that decides the outcome of a fit: settings as text, data and first weights as bytes."""
    found = hashlib.sha256()
    for part in parts:
        found.update(part.encode() if isinstance(part, str) else part.detach().cpu().contiguous().numpy().tobytes())
        found.update(b"\0")
    return found.hexdigest()


def replace(path: Path, content: bytes) -> None:
    """Write beside, flush to the disk, rename."""
    beside = path.with_name(path.name + ".part")
    with beside.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    beside.replace(path)


class Curves:
    """Losses by epoch: always `NAME.csv`; as TensorBoard events beside it where tensorboard is installed.

    The CSV is written whole after each epoch from what the checkpoint holds, so that a resumed fit leaves the file of
    an undisturbed one. `pip install 'tradewind[train]'` brings tensorboard; `tensorboard --logdir DIRECTORY` shows it.
    """

    def __init__(self, directory: Path, name: str, epochs_done: int) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self.path = directory / f"{name}.csv"
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            self.events: Any = None
        else:
            self.events = SummaryWriter(str(directory / name), purge_step=epochs_done + 1)

    def write(self, train: list[float], validation: list[float], rate: float) -> None:
        """Losses after each epoch so far: train from epoch 1, validation from epoch 0 (the skip alone) or empty."""
        text = io.StringIO()
        rows = csv.writer(text, lineterminator="\n")
        rows.writerow(("epoch", "train_loss", "validation_loss"))
        for epoch in range(len(train) + 1):
            before = ("" if not epoch else repr(train[epoch - 1]),)
            rows.writerow((epoch, *before, repr(validation[epoch]) if epoch < len(validation) else ""))
        replace(self.path, text.getvalue().encode())
        if self.events is not None:
            self.events.add_scalar("loss/train", train[-1], len(train))
            if validation:
                self.events.add_scalar("loss/validation", validation[-1], len(train))
            self.events.add_scalar("learning_rate", rate, len(train))

    def close(self) -> None:
        """Flush the events."""
        if self.events is not None:
            self.events.close()
