from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from models.compact.network import Network
from models.forecasters import tcn
from models.forecasters.fit import FitConfig, Supervision, body_outputs, evaluate, fit
from models.forecasters.tcn import TCN, TCNConfig
from models.receptive_field import DILATIONS, FIELD

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


def weights_of(net: TCN) -> bytes:
    return b"".join(v.numpy().tobytes() for v in net.state_dict().values())


def taught() -> Supervision:
    """Labels of pure noise, and a teacher that knows what the scale would follow: a feature of 40 sessions ago."""
    data = planted()
    teacher = torch.zeros(*data.z.shape, 4)
    teacher[:, 40:, 0, 1] = teacher[:, 40:, 0, 2] = 0.3 * torch.tanh(data.x[:, :-40, 0])
    z = torch.randn(data.z.shape, generator=torch.Generator().manual_seed(0))
    return replace(data, z=z, teacher=teacher)


def test_a_teacher_without_weight_moves_no_byte() -> None:
    found = []
    for data in (planted(), replace(planted(), teacher=torch.ones(8, 1200, 1, 4))):
        net = body(1)
        fit(net, data, slice(0, 850), None, replace(CONFIG, epochs=1))
        found.append(weights_of(net))
    assert found[0] == found[1]


def test_what_the_teacher_knows_is_learnt_though_labels_say_nothing() -> None:
    data, follows = taught(), []
    for weight in (0.0, 10.0):
        net = body()
        settings = replace(CONFIG, epochs=25, learning_rate=1e-2, teacher_weight=weight)
        fit(net, data, slice(0, 850), None, settings)
        added = body_outputs(net, data.x.numpy())[:, 900:, 0, 1]
        follows.append(np.corrcoef(added.ravel(), data.teacher[:, 900:, 0, 1].numpy().ravel())[0, 1])
    assert follows[0] < 0.3
    assert follows[1] > 0.8


def test_a_teacher_after_the_training_slice_is_not_read() -> None:
    found = []
    for later in (0.0, 5.0):
        data, net = taught(), body(1)
        data.teacher[:, 850:] = later
        fit(net, data, slice(0, 850), None, replace(CONFIG, epochs=1, teacher_weight=1.0))
        found.append(weights_of(net))
    assert found[0] == found[1]


def test_noise_is_the_seed_s_and_not_in_what_is_judged() -> None:
    found, data = [], planted()
    for noise in (0.0, 0.5, 0.5):
        net = body(1)
        fitted = fit(net, data, slice(0, 850), slice(900, 1200), replace(CONFIG, epochs=1, noise=noise))
        assert fitted.curve[0] == evaluate(body(1), data, slice(900, 1200))
        found.append(weights_of(net))
    assert found[0] != found[1] == found[2]
