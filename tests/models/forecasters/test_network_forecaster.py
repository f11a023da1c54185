from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from models.forecasters.convolution import ConvolutionConfig
from models.forecasters.interface import Fitted, Forecaster, Inputs, Slices, Training
from models.forecasters.lstm import LSTMConfig
from models.forecasters.network_forecaster import FittedNetwork, NetworkConfig
from models.forecasters.seq2seq import Seq2SeqConfig
from models.forecasters.transformer import TransformerConfig

SMALL = {"alphas": (300.0,), "epochs": 2, "patience": 2, "dropout": 0.1, "location_penalties": (10.0,)}
CONFIGS = [
    LSTMConfig(width=8, warm_up=20, **SMALL),
    Seq2SeqConfig(width=8, decoder_width=4, warm_up=20, **SMALL),
    ConvolutionConfig(width=8, dilations=(1, 2, 4), **SMALL),
    TransformerConfig(width=16, heads=2, window=8, **SMALL),
]
LSTM = CONFIGS[0]
LEARNER = ConvolutionConfig(
    alphas=(300.0,), width=16, dilations=(1, 2), dropout=0.0, epochs=10, patience=10, learning_rate=5e-3, chunk=64
)


def outputs(fitted: object, inputs: Inputs) -> np.ndarray:
    assert isinstance(fitted, FittedNetwork)
    return fitted.outputs(inputs)


def changed(training: Training, **fields: np.ndarray) -> Training:
    return replace(training, inputs=replace(training.inputs, **fields))


@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: type(config).__name__)
def test_forecasts_causally_and_alike_each_time(config: NetworkConfig, make_training) -> None:
    training = make_training(present=0.8, tickers=4, sessions=400)
    assert isinstance(config, Forecaster)
    forced = replace(config, alphas=(1e9,), body_weights=(1.0,), epochs=3, learning_rate=1e-2, chunk=64, batch=2)
    fitted, again = forced.fit(training), forced.fit(training)
    assert isinstance(fitted, Fitted)
    assert fitted.choices["body_weight"] == 1.0
    base = fitted.forecast(training.inputs)
    for one, other in zip(base, again.forecast(training.inputs), strict=True):
        assert one.tobytes() == other.tobytes()
    x = training.inputs.x.copy()
    x[:, 300:] = 4.0
    after = fitted.forecast(replace(training.inputs, x=x))
    for one, other in zip(base, after, strict=True):
        assert one[:, :300].tobytes() == other[:, :300].tobytes()
        assert not np.array_equal(one[:, 300:], other[:, 300:])
        assert np.isnan(one[:, : fitted.context]).all()
        assert np.isfinite(one[:, fitted.context :]).all()
    assert (np.diff(base.quantiles[:, fitted.context :], axis=-1) >= 0).all()


def test_recovers_a_lagged_pattern_in_scale(make_training) -> None:
    training = make_training(scale=0.4, tickers=12)
    fitted = LEARNER.fit(training)
    unseen = make_training(scale=0.4, seed=9).inputs
    signal = (unseen.x[:, 8:-2, 1] - unseen.x[:, 7:-3, 1]) / np.sqrt(2)  # of sessions 10 on
    found = outputs(fitted, unseen)[:, 10:, 0, 1]
    assert np.corrcoef(found.ravel(), signal.ravel())[0, 1] ** 2 > 0.8
    assert fitted.choices["location_penalty"] == 10.0  # nothing to free the location for


def test_frees_the_location_where_validation_shows_a_pattern_in_it(make_training) -> None:
    training = make_training(location=0.4, tickers=12)
    fitted = LEARNER.fit(training)
    assert fitted.choices["location_penalty"] == 0.003
    unseen = make_training(location=0.4, seed=9).inputs
    signal = 0.4 * (unseen.x[:, 8:-2, 1] - unseen.x[:, 7:-3, 1]) / np.sqrt(2)
    error = signal - outputs(fitted, unseen)[:, 10:, 0, 0]
    assert 1 - error.var() / signal.var() > 0.8


def test_without_a_candidate_but_zero_the_skip_forecasts(make_training) -> None:
    training = make_training(scale=0.5, tickers=3, sessions=300)
    fitted = replace(LSTM, body_weights=(0.0,)).fit(training)
    assert (fitted.body, fitted.choices["body_weight"], fitted.choices["epochs"]) == (None, 0.0, 0)
    skip = fitted.foundation.outputs(training.inputs.x)[:, fitted.context :]
    np.testing.assert_array_equal(outputs(fitted, training.inputs)[:, fitted.context :], skip)


def test_short_tickers_and_constant_features_are_left_out_and_counted(make_training) -> None:
    training = make_training(scale=0.5, tickers=4, sessions=300)
    x, vol = training.inputs.x.copy(), training.inputs.vol.copy()
    vol[3, :-15] = np.nan
    x[3, :-15] = 0.0
    x[..., 2] = 0.25
    z = np.where(np.isfinite(vol)[..., None], training.z, np.nan)
    training = replace(changed(training, x=x, vol=vol), z=z)
    fitted = replace(LSTM, body_weights=(1.0,)).fit(training)
    assert fitted.choices["short_tickers"] == 1
    assert fitted.choices["body_features"] == ["a", "b"]
    assert fitted.choices["constant_features"] == ["c"]
    y = outputs(fitted, training.inputs)[3, -15:]
    np.testing.assert_array_equal(y, fitted.foundation.outputs(training.inputs.x)[3, -15:])
    assert np.isnan(fitted.forecast(training.inputs).sigma[3, :-15]).all()


def test_what_cannot_support_a_network_is_refused_with_the_reason(make_training) -> None:
    training = make_training(tickers=3, sessions=300)
    with pytest.raises(ValueError, match="fit slice has 225 sessions and the network needs 230 as context"):
        replace(LSTM, warm_up=230).fit(training)
    short = training.inputs.vol.copy()
    short[:, :-20] = np.nan
    with pytest.raises(ValueError, match="no ticker has more than 20 bars"):
        LSTM.fit(changed(training, vol=short))
    with pytest.raises(ValueError, match="all 3 features are constant in training"):
        LSTM.fit(changed(training, x=np.zeros_like(training.inputs.x)))
    wrong = training.inputs.x.copy()
    wrong[1, 7, 1] = np.nan
    with pytest.raises(ValueError, match='feature "b" is not finite in training'):
        LSTM.fit(changed(training, x=wrong))
    far = training.z.copy()
    far[..., 1] = np.nan
    with pytest.raises(ValueError, match="no known target of horizon 5 in the fit slice"):
        LSTM.fit(replace(training, z=far))
    far[:, :100, 1] = 1.0
    with pytest.raises(ValueError, match="no known target of horizon 5 in the validation slice of 70 sessions"):
        LSTM.fit(replace(training, z=far))
    with pytest.raises(ValueError, match="do not fit 290 sessions and 2 horizons"):
        LSTM.fit(replace(training, slices=Slices(200, 210, 290)))


def test_a_loss_that_is_not_finite_is_an_error(make_training) -> None:
    training = make_training(tickers=3, sessions=300)
    with pytest.raises(FloatingPointError, match="validation loss is nan after epoch 1; lower the learning rate"):
        replace(LSTM, learning_rate=1e30, epochs=5).fit(training)
