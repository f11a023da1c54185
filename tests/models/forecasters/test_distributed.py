"""Two gloo processes under torchrun take the steps of one."""

from __future__ import annotations

import runpy
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from models.forecasters.distributed import Ranks, join

ROOT = Path(__file__).resolve().parents[3]

PROGRAM = """
import os, sys
from pathlib import Path
import numpy as np, torch
from models.forecasters.fit import FitConfig, Supervision, fit
from models.forecasters.lstm import LSTM

torch.set_num_threads(1)
generator = np.random.default_rng(0)
x = generator.normal(0, 1, (5, 400, 2)).astype(np.float32)
z = np.exp(0.6 * np.roll(x[..., :1], 2, axis=1)) * generator.normal(0, 1, (5, 400, 1))
z[generator.random(z.shape) < 0.2] = np.nan  # shares of a batch do not know equally many targets, nor teachers
teacher = generator.normal(0, 0.1, (5, 400, 1, 4))
teacher[generator.random(z.shape) < 0.3] = np.nan
arrays = (x, np.zeros((5, 400, 1, 4)), z, np.linspace(-2.3, 2.3, 9)[None], teacher)
data = Supervision(*(torch.from_numpy(a.astype(np.float32)) for a in arrays))
torch.manual_seed(0)
body = LSTM(2, 8, 1, 0.0, 10, 1)
distributed = sys.argv[1] == "distributed"
config = FitConfig(5, 5, 5e-3, 0.1, 0, batch=4, chunk=32, distributed=distributed, teacher_weight=0.5)
fitted = fit(body, data, slice(0, 300), slice(310, 400), config, directory=Path(sys.argv[2]))
rank = torch.distributed.get_rank() if distributed else 0
weights = np.concatenate([v.numpy().ravel() for v in body.state_dict().values()])
np.savez(Path(sys.argv[2]) / f"rank{rank}", curve=fitted.curve, train=fitted.train_curve, weights=weights)
if distributed:
    # With torch 2.13 one exit in ten aborts in a thread of gloo, long after training, group destroyed or not.
    torch.distributed.barrier()
    os._exit(0)
"""


def test_two_processes_reach_the_loss_of_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "program.py"
    program.write_text(f"import sys; sys.path.insert(0, {str(ROOT)!r})\n" + PROGRAM)
    one, two = tmp_path / "one", tmp_path / "two"
    monkeypatch.setattr(sys, "argv", [str(program), "alone", str(one)])
    runpy.run_path(str(program))
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    done = subprocess.run(
        [*torchrun, str(program), "distributed", str(two)], timeout=200, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-4000:]
    alone, first, second = (np.load(path) for path in (one / "rank0.npz", two / "rank0.npz", two / "rank1.npz"))
    assert alone["curve"][-1] < alone["curve"][0]
    for name in ("curve", "train", "weights"):
        assert first[name].tobytes() == second[name].tobytes()
    np.testing.assert_allclose(first["curve"], alone["curve"], atol=1e-4, rtol=0)
    np.testing.assert_allclose(first["train"], alone["train"], atol=1e-4, rtol=0)
    assert len(list(two.glob("fit-*.pt"))) == 1  # rank 0 writes


def test_outside_of_torchrun_it_says_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(ValueError, match=r"needs RANK, WORLD_SIZE, MASTER_ADDR, MASTER_PORT.*start it with torchrun"):
        join(True, torch.device("cpu"))
    assert join(False, torch.device("cpu")) == Ranks(0, 1)


def test_shares_of_a_batch_make_the_batch() -> None:
    group = list(range(5))
    assert sorted(Ranks(0, 2).share(group) + Ranks(1, 2).share(group)) == group
    assert Ranks(2, 3).share([7]) == []
