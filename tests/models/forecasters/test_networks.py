from __future__ import annotations

import pytest
import torch

from models.forecasters.body import Body
from models.forecasters.convolution import Convolution, ConvolutionConfig
from models.forecasters.lstm import LSTM, LSTMConfig
from models.forecasters.network_forecaster import NetworkConfig
from models.forecasters.seq2seq import Seq2SeqConfig
from models.forecasters.transformer import Transformer, TransformerConfig

CONFIGS = [
    LSTMConfig(width=8, layers=2, warm_up=20),
    Seq2SeqConfig(width=8, decoder_width=4, warm_up=20),
    ConvolutionConfig(width=8, dilations=(1, 2, 4)),
    TransformerConfig(width=16, heads=2, window=8),
]
HORIZONS = (1, 5, 20)


def body(config: NetworkConfig) -> Body:
    """An untrained body whose head is not zero, so that it says something."""
    torch.manual_seed(0)
    made = config.network(3, HORIZONS).eval()
    torch.nn.init.normal_(made.head.weight)
    return made


@pytest.fixture(params=CONFIGS, ids=lambda config: type(config).__name__)
def config(request: pytest.FixtureRequest) -> NetworkConfig:
    found: NetworkConfig = request.param
    return found


def test_untrained_it_adds_nothing_to_the_skip(config: NetworkConfig) -> None:
    made = config.network(3, HORIZONS)
    y = made(torch.randn(2, 50, 3))
    assert y.shape == (2, 50 - made.context, 3, 4)
    assert not y.any()


@torch.no_grad()
def test_no_output_byte_changes_before_an_altered_session(config: NetworkConfig) -> None:
    made, x = body(config), torch.randn(3, 90, 3)
    base = made(x)
    for t in (0, made.context, 41, 89):
        altered = x.clone()
        altered[:, t:] += 5
        after = made(altered)
        first = max(0, t - made.context)
        assert torch.equal(after[:, :first], base[:, :first])
        assert not torch.equal(after[:, first], base[:, first])


@pytest.mark.parametrize("config", CONFIGS[2:], ids=["convolution", "transformer"])
@torch.no_grad()
def test_the_field_is_exactly_the_context_and_the_session(config: NetworkConfig) -> None:
    made, x = body(config), torch.randn(1, 80, 3)
    base = made(x)[0]
    altered = x.clone()
    altered[:, 30] += 5
    changed = (made(altered)[0] != base).any(-1).any(-1)  # of sessions context .. 79
    touched = torch.arange(made.context, 80)[changed]
    assert (int(touched.min()), int(touched.max())) == (30, 30 + made.context)


@torch.no_grad()
def test_transformer_over_a_chunk_equals_the_whole_pass_bit_for_bit() -> None:
    made = body(TransformerConfig(width=16, heads=2, window=8))
    assert isinstance(made, Transformer)
    x = torch.randn(4, 200, 3)
    whole = made(x)
    for start in (8, 64, 120):  # multiples of the window
        chunk = made(x[:, start : start + 64])
        assert torch.equal(chunk, whole[:, start : start + 64 - made.context])
    off_grid = made(x[:, 13:77])
    torch.testing.assert_close(off_grid, whole[:, 13 : 77 - made.context], atol=1e-6, rtol=1e-5)


@torch.no_grad()
def test_transformer_agrees_with_attention_written_out() -> None:
    """One layer against the definition: every query against the keys in its window, one at a time."""
    torch.manual_seed(3)
    attention = Transformer(3, 8, 2, 1, 5, 0.0, 1).blocks[0].attention
    hidden = torch.randn(1, 23, 8)
    q, k, v = attention.qkv(hidden)[0].view(23, 3, 2, 4).unbind(1)  # (T, heads, 4)
    frequency = 10000.0 ** (-torch.arange(0, 4, 2) / 4)

    def turned(row: torch.Tensor, position: int) -> torch.Tensor:
        left, right = row.chunk(2, dim=-1)
        turn = torch.polar(torch.ones(2), position * frequency)
        both = torch.complex(left, right) * turn
        return torch.cat([both.real, both.imag], dim=-1)

    expected = []
    for t in range(23):
        seen = range(max(0, t - 4), t + 1)
        heads = []
        for h in range(2):
            scores = torch.stack([turned(q[t, h], t) @ turned(k[s, h], s) for s in seen]) / 2
            heads.append(torch.softmax(scores, 0) @ torch.stack([v[s, h] for s in seen]))
        expected.append(torch.cat(heads))
    torch.testing.assert_close(attention(hidden)[0], attention.out(torch.stack(expected)), atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_convolution_over_a_chunk_equals_the_whole_pass() -> None:
    made = body(ConvolutionConfig(width=8, dilations=(1, 2, 4)))
    assert isinstance(made, Convolution)
    x = torch.randn(4, 200, 3)
    torch.testing.assert_close(made(x[:, 64:128]), made(x)[:, 64 : 128 - made.context], atol=1e-6, rtol=1e-5)


@torch.no_grad()
def test_lstm_goes_on_from_a_state_as_if_it_had_never_stopped() -> None:
    made = body(LSTMConfig(width=8, layers=2, warm_up=20))
    assert isinstance(made, LSTM)
    x = torch.randn(4, 200, 3)
    state, parts = None, []
    for start in range(0, 200, 50):
        outputs, state = made.resume(x[:, start : start + 50], state)
        parts.append(outputs)
    torch.testing.assert_close(torch.cat(parts, 1)[:, 20:], made(x), atol=1e-6, rtol=1e-5)


def test_heads_that_rotary_positions_cannot_turn_are_refused() -> None:
    with pytest.raises(ValueError, match="width 6 over 2 heads is not an even number"):
        TransformerConfig(width=6, heads=2).network(3, HORIZONS)
