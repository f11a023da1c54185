"""A fit that is killed and started again ends in the bytes of one that nobody disturbed."""

from __future__ import annotations

import runpy
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from models.forecasters.checkpoint import Checkpoint, Curves, identity, replace
from models.forecasters.fit import FitConfig, Supervision, fit
from models.forecasters.lstm import LSTM

ROOT = Path(__file__).resolve().parents[3]

# Dropout and noise, so that the random state counts; a teacher; early stopping; a checkpoint every third step, so that
# a kill falls between.
PROGRAM = """
import os, signal, sys
from pathlib import Path
import numpy as np, torch
from models.forecasters.fit import FitConfig, Supervision, fit
from models.forecasters.lstm import LSTM

torch.set_num_threads(1)
directory, out, kill_at = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
calls = 0

class Mortal(LSTM):
    def forward(self, x):
        global calls
        calls += 1
        if calls == kill_at:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().forward(x)

generator = np.random.default_rng(0)
x = generator.normal(0, 1, (6, 400, 2)).astype(np.float32)
z = np.exp(0.6 * np.roll(x[..., :1], 2, axis=1)) * generator.normal(0, 1, (6, 400, 1))
shape = np.linspace(-2.3, 2.3, 9)[None]
arrays = (x, np.zeros((6, 400, 1, 4)), z, shape, generator.normal(0, 0.1, (6, 400, 1, 4)))
data = Supervision(*(torch.from_numpy(a.astype(np.float32)) for a in arrays))
torch.manual_seed(0)
body = Mortal(2, 8, 1, 0.3, 10, 1)
config = FitConfig(6, 2, 5e-3, 0.1, 0, batch=4, chunk=32, checkpoint_steps=3, teacher_weight=0.5, noise=0.1)
fitted = fit(body, data, slice(0, 300), slice(310, 400), config, directory=directory)
np.savez(out, *[v.numpy() for v in body.state_dict().values()], fitted.curve, fitted.train_curve, fitted.best_epoch)
"""


def test_killed_twice_and_resumed_it_ends_in_the_same_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "program.py"
    program.write_text(f"import sys; sys.path.insert(0, {str(ROOT)!r})\n" + PROGRAM)

    def argv(name: str, kill_at: int) -> list[str]:
        return [str(program), str(tmp_path / name), str(tmp_path / f"{name}.npz"), str(kill_at)]

    for kill_at in (9, 25):  # within the first epoch, after a checkpoint; within a later one
        killed = subprocess.run([sys.executable, *argv("hard", kill_at)], check=False, timeout=120)
        assert killed.returncode == -signal.SIGKILL
        assert len(list((tmp_path / "hard").glob("fit-*.pt"))) == 1
    assert not (tmp_path / "hard.npz").exists()
    for name in ("hard", "calm"):
        monkeypatch.setattr(sys, "argv", argv(name, 0))
        runpy.run_path(str(program))
    calm, hard = np.load(tmp_path / "calm.npz"), np.load(tmp_path / "hard.npz")
    assert len(calm.files) > 6
    for name in calm.files:
        assert calm[name].tobytes() == hard[name].tobytes()
    assert (tmp_path / "calm" / "fit.csv").read_bytes() == (tmp_path / "hard" / "fit.csv").read_bytes()


def small() -> tuple[LSTM, Supervision]:
    torch.manual_seed(0)
    x, z = torch.randn(2, 100, 2), torch.randn(2, 100, 1)
    shape = torch.linspace(-2, 2, 9)[None]
    return LSTM(2, 4, 1, 0.0, 5, 1), Supervision(x, torch.zeros(2, 100, 1, 4), z, shape)


CONFIG = FitConfig(epochs=2, patience=2, learning_rate=1e-3, weight_decay=0.1, seed=0, chunk=32)


def test_a_finished_fit_is_not_repeated_and_another_one_never_resumes_it(tmp_path: Path) -> None:
    body, data = small()
    seen: list[int] = []
    fit(body, data, slice(0, 80), None, CONFIG, seen.append, tmp_path)
    again, data = small()
    fit(again, data, slice(0, 80), None, CONFIG, seen.append, tmp_path)
    assert seen == [1, 2]
    assert all(torch.equal(a, b) for a, b in zip(body.state_dict().values(), again.state_dict().values(), strict=True))
    other, data = small()
    data.z[0, 20] += 1
    fit(other, data, slice(0, 80), None, CONFIG, seen.append, tmp_path)
    assert seen == [1, 2, 1, 2]
    assert len(list(tmp_path.glob("fit-*.pt"))) == 2


def test_a_checkpoint_runs_no_code_of_its_file(tmp_path: Path) -> None:
    checkpoint = Checkpoint.of(tmp_path, "fit", identity(["a"]))
    assert checkpoint.load(torch.device("cpu")) is None
    torch.save({"body": Path("x")}, checkpoint.path)
    with pytest.raises(Exception, match=r"[Ww]eights.only"):
        checkpoint.load(torch.device("cpu"))


def test_a_write_that_fails_leaves_the_file_before(tmp_path: Path) -> None:
    checkpoint = Checkpoint.of(tmp_path, "fit", identity(["a"]))
    checkpoint.save({"epoch": 1})
    with pytest.raises((AttributeError, TypeError), match=r"pickle|local"):
        checkpoint.save({"epoch": 2, "wrong": lambda: None})
    assert checkpoint.load(torch.device("cpu")) == {"epoch": 1}
    replace(tmp_path / "text", b"whole")
    assert sorted(path.name for path in tmp_path.iterdir()) == [checkpoint.path.name, "text"]


def test_identity_tells_settings_and_data_apart() -> None:
    base = identity(["a", torch.zeros(2)])
    assert base == identity(["a", torch.zeros(2)])
    assert len({base, identity(["b", torch.zeros(2)]), identity(["a", torch.ones(2)]), identity(["a"])}) == 4


def test_curves_are_a_row_an_epoch(tmp_path: Path) -> None:
    curves = Curves(tmp_path, "fit", 0)
    curves.write([0.5, 0.25], [0.75, 0.5, 0.375], 1e-3)
    curves.write([0.5, 0.25, 0.125], [], 1e-3)
    curves.close()
    assert curves.path.read_text().splitlines() == [
        "epoch,train_loss,validation_loss", "0,,", "1,0.5,", "2,0.25,", "3,0.125,"
    ]  # fmt: skip


def test_tensorboard_is_handed_the_same_curves(tmp_path: Path) -> None:
    event_accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    body, data = small()
    fitted = fit(body, data, slice(0, 80), slice(85, 100), CONFIG, directory=tmp_path)
    events = event_accumulator.EventAccumulator(str(tmp_path / "fit")).Reload()
    shown = [(point.step, point.value) for point in events.Scalars("loss/validation")]
    assert shown == [(n, pytest.approx(fitted.curve[n], rel=1e-6)) for n in (1, 2)]
