from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from models.compact.network import DILATIONS, FIELD, Network
from models.forecasters import tcn
from models.forecasters.fit import FitConfig, Supervision, body_outputs, evaluate, fit
from models.forecasters.tcn import TCN, TCNConfig

CONFIG = FitConfig(epochs=6, patience=6, learning_rate=3e-3, weight_decay=0.01, seed=3)
SHAPE = np.array([[-2.33, -1.64, -1.28, -0.67, 0.0, 0.67, 1.28, 1.64, 2.33]], dtype=np.float32)


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def planted(seed: int = 0, tickers: int = 8, sessions: int = 1200) -> Supervision:
    """Scale depends on a feature of 40 sessions ago: the skip, which sees one session, cannot know it."""
    generator = np.random.default_rng(seed)
    x = generator.normal(0, 1, (tickers, sessions, 2)).astype(np.float32)
    log_scale = np.zeros((tickers, sessions))
    log_scale[:, 40:] = 0.6 * np.tanh(x[:, :-40, 0])
    z = np.exp(log_scale) * generator.normal(0, 1, log_scale.shape)
    skip = np.zeros((tickers, sessions, 1, 4), dtype=np.float32)
    arrays = (x, skip, z[..., None].astype(np.float32), SHAPE)
    return Supervision(*(torch.from_numpy(a) for a in arrays))


def body(seed: int = 0) -> TCN:
    torch.manual_seed(seed)
    return TCN(TCNConfig(body_features=2, width=8, horizons=1))


def test_constants_agree_with_the_exported_network() -> None:
    assert (tcn.DILATIONS, tcn.FIELD) == (DILATIONS, FIELD)


def test_untrained_student_is_the_skip() -> None:
    assert not body()(torch.randn(2, 70, 2)).any()


def test_field_is_exactly_64_sessions_and_causal() -> None:
    net = body()
    torch.nn.init.normal_(net.head.weight)
    x = torch.randn(1, 128, 2, dtype=torch.float32)
    base = net(x)  # (1, 65, 1, 4)
    early, late = x.clone(), x.clone()
    early[:, 0] += 10
    late[:, 100] += 10
    assert not torch.equal(net(early)[:, 0], base[:, 0])
    assert torch.equal(net(early)[:, 1:], base[:, 1:])
    assert torch.equal(net(late)[:, : 100 - 63], base[:, : 100 - 63])
    assert not torch.equal(net(late)[:, 100 - 63], base[:, 100 - 63])


def test_numpy_network_computes_the_same_function() -> None:
    net = body()
    torch.nn.init.normal_(net.head.weight)
    state = {name: value.numpy() for name, value in net.state_dict().items()}
    plain = Network(
        conv_weight=tuple(state[f"convolutions.{i}.weight"] for i in range(3)),
        conv_bias=tuple(state[f"convolutions.{i}.bias"] for i in range(3)),
        head_weight=state["head.weight"].T,
        head_bias=state["head.bias"],
        skip_weight=np.zeros((2, 4), np.float32),
        skip_bias=np.zeros(4, np.float32),
        body_features=np.arange(2),
    )
    x = np.random.default_rng(0).normal(0, 1, (3, 90, 2)).astype(np.float32)
    np.testing.assert_allclose(plain.forward_panel(x), body_outputs(net, x)[:, 63:], atol=1e-5)
    np.testing.assert_array_equal(np.isnan(body_outputs(net, x)[:, :63]), True)


def test_learns_a_planted_lag_out_of_sample() -> None:
    data, net = planted(), body()
    before = evaluate(net, data, slice(900, 1200))
    fitted = fit(net, data, slice(0, 850), slice(900, 1200), replace(CONFIG, epochs=60, learning_rate=1e-2))
    after = evaluate(net, data, slice(900, 1200))
    assert fitted.best_epoch > 0
    assert after == pytest.approx(min(fitted.curve))
    assert after < before * 0.98


def test_same_seed_same_bytes() -> None:
    weights = []
    for _ in range(2):
        net = body(1)
        fit(net, planted(), slice(0, 850), None, replace(CONFIG, epochs=2))
        weights.append(b"".join(v.numpy().tobytes() for v in net.state_dict().values()))
    assert weights[0] == weights[1]


def test_training_never_reads_past_its_slice() -> None:
    weights = []
    for altered in (False, True):
        data = planted()
        if altered:
            data.x[:, 850:] = 7.0
            data.z[:, 850:] = -7.0
        net = body(1)
        fit(net, data, slice(0, 850), None, replace(CONFIG, epochs=1))
        weights.append(net.head.weight.detach().numpy().tobytes())
    assert weights[0] == weights[1]


def test_stops_after_patience_and_keeps_the_best() -> None:
    data = planted()
    data.z[:] = torch.randn(data.z.shape, generator=torch.Generator().manual_seed(0))
    net = body()
    start = evaluate(net, data, slice(900, 1200))
    fitted = fit(net, data, slice(0, 850), slice(900, 1200), replace(CONFIG, epochs=50, patience=2, learning_rate=0.05))
    assert len(fitted.curve) <= fitted.best_epoch + 3
    assert evaluate(net, data, slice(900, 1200)) <= start


def test_a_loss_that_is_not_finite_is_an_error() -> None:
    data = planted()
    data.x[0, 300] = float("inf")
    net = body()
    torch.nn.init.normal_(net.head.weight)
    with pytest.raises(FloatingPointError, match="training loss is nan in epoch 1; lower the learning rate"):
        fit(net, data, slice(0, 850), None, CONFIG)
