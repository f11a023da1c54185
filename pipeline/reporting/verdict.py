"""The verdict: what was found, in three plain sentences and four figures, good or bad."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pipeline import universe
from pipeline.reporting.formats import (
    drawdown,
    fraction,
    inside,
    interval,
    known,
    model_label,
    number,
    percent,
    sessions,
)
from pipeline.reporting.inputs import Inputs
from pipeline.reporting.strategy import narrower, row_of, tickers_of, typical_range

DATA_LABELS = {"sample": "Bundled sample data", "files": "Your own files", "yahoo": "Yahoo Finance data"}
SIMULATED = (
    "Headlines are SIMULATED: recaps generated from prices, because no freely licensed dated ones exist. "
    "Simulated text: plumbing only, evidence of nothing."
)
SAME_FOR_ALL = "Strategies hold the same tickers, so that comparisons between them suffer less. Cash earns nothing."


@dataclass(frozen=True)
class Figure:
    """One big figure: a question, its answer, what stands behind it; tone is good, neutral or bad."""

    question: str
    value: str
    detail: str
    tone: str


def heading(inputs: Inputs) -> str:
    """The page in one line."""
    if inputs.promoted:
        return "The forecast of risk beats its baseline and ships."
    if any(row["passed"] for row in inputs.evidence["verdicts"]):
        return "A model beat the baselines, but not the one that can ship; the baseline ships."
    return "Nothing beat the baseline; the baseline ships."


def shipped(inputs: Inputs) -> str:
    """What ships, and why it is that baseline where another one was better."""
    label = model_label(inputs.model)
    return label if _ships_best(inputs) else f"{label}, the baseline the runtime can run"


def gate_sentence(inputs: Inputs) -> str:
    """What the gate found, and what ships."""
    gate = inputs.evidence["gate"]
    if not known(gate["low"]) or inputs.evidence["n_effective_blocks"] < inputs.config.evidence.min_blocks:
        return _too_few(inputs)
    against = inside(model_label(gate["against"]))
    figures = (
        f"{percent(gate['gain_percent'], 2)} of {gate['measure']} loss {interval(gate['low'], gate['high'], 2)}, mean "
        "over horizons"
    )
    level = fraction(inputs.evidence["gate_level"], 0)
    text = f"At the gate, the {inside(model_label(gate['model']))} against {against}, the best baseline: {figures}. "
    if gate["passed"]:
        return f"{text}It is promoted at the {level} level."
    return f"{text}That does not pass at the {level} level; {_what_ships(inputs)}."


def sentences(inputs: Inputs) -> list[str]:
    """The verdict in plain words: the forecast, its use, the direction."""
    return [_forecast_sentence(inputs), _use_sentence(inputs), str(inputs.evidence["direction"]["sentence"])]


def big_figures(inputs: Inputs) -> list[Figure]:
    """The four figures at the top."""
    return [_gain(inputs), _risk(inputs), _fall(inputs), _int8(inputs)]


def caveats(inputs: Inputs) -> list[str]:
    """What a reader must know of the data before the figures."""
    found = [universe.sentence(inputs.universe), SAME_FOR_ALL]
    return [SIMULATED, *found] if inputs.simulated else found


def _forecast_sentence(inputs: Inputs) -> str:
    gate = inputs.evidence["gate"]
    model, against = model_label(gate["model"]), inside(model_label(gate["against"]))
    gain = f"{percent(gate['gain_percent'], 2)} {interval(gate['low'], gate['high'], 2)}"
    if inputs.promoted:
        return (
            f"How far prices may move can be forecast better than by {against}: out of sample the "
            f"{inside(model)} saves {gain} of the {gate['measure']} loss, and is promoted."
        )
    if not known(gate["low"]) or inputs.evidence["n_effective_blocks"] < inputs.config.evidence.min_blocks:
        return _too_few(inputs)
    text = (
        f"The {inside(model)} does not beat {against} at the gate's level "
        f"({gain} of {gate['measure']} loss), so {_what_ships(inputs)}"
    )
    smallest = gate.get("smallest_detectable_percent")
    return text + (
        f"; the smallest gain these data would show four times in five is {percent(smallest, 2, sign=False)}."
        if known(smallest)
        else "."
    )


def _too_few(inputs: Inputs) -> str:
    model = inside(model_label(inputs.evidence["gate"]["model"]))
    return f"Too few independent sessions for a verdict on the {model}: {_what_ships(inputs)}."


def _ships_best(inputs: Inputs) -> bool:
    """Whether what ships is the model at the gate, or else the baseline that it was held against."""
    return inputs.promoted or bool(inputs.model == inputs.evidence["gate"]["against"])


def _what_ships(inputs: Inputs) -> str:
    if _ships_best(inputs):
        return "the baseline ships"
    return f"the baseline ships: {inside(model_label(inputs.model))}, the one the runtime can run"


def _use_sentence(inputs: Inputs) -> str:
    held, hold = row_of(inputs, "vol_target"), row_of(inputs, "buy_and_hold")
    if not held or not hold:
        return "No portfolio was backtested."
    target = fraction(inputs.backtest["target_volatility"], 0)
    by_ewma = row_of(inputs, "ewma_target").get("max_drawdown") if inputs.promoted else None
    beside = f"; sized by trailing EWMA it was {drawdown(by_ewma)}" if known(by_ewma) else ""
    text = (
        f"Sized by the shipped forecast to {target}, the median ticker's volatility stayed within "
        f"{typical_range(inputs, 'vol_target')} nine sessions in ten (bought and held: "
        f"{typical_range(inputs, 'buy_and_hold')}), and the portfolio's largest fall was "
        f"{drawdown(held['max_drawdown'])} against {drawdown(hold['max_drawdown'])} bought and held{beside}."
    )
    return f"{text} {_sharpe_sentence(held)}"


def _sharpe_sentence(held: dict[str, Any]) -> str:
    """Whether the return for the risk taken is higher than at constant exposure of equal volatility."""
    name = "at constant exposure of equal volatility"
    gain, low, high = (held.get(f"sharpe_gain{end}") for end in ("", "_low", "_high"))
    if not (known(gain) and known(low) and known(high)):
        return f"A higher Sharpe ratio than {name} is not claimed."
    shown = f"{number(gain, 2, sign=True)} {interval(low, high, 2, unit='')}"
    if low > 0:
        return f"Its Sharpe ratio is higher than {name}: {shown}."
    if high < 0:
        return f"Its Sharpe ratio is lower than {name}: {shown}."
    return f"A higher Sharpe ratio than {name} cannot be claimed: {shown}."


def _gain(inputs: Inputs) -> Figure:
    gate = inputs.evidence["gate"]
    detail = f"of {gate['measure']} loss saved {interval(gate['low'], gate['high'], 2)}"
    qlike = _qlike(inputs)
    tone = "good" if gate["passed"] else "neutral"
    question = f"Does the scale forecast beat {inside(model_label(gate['against']))}?"
    return Figure(question, percent(gate["gain_percent"], 2), f"{detail}{qlike}", tone)


def _qlike(inputs: Inputs) -> str:
    gate, horizon = inputs.evidence["gate"], inputs.config.backtest.horizon
    for gain in inputs.evidence["gains"]:
        key = (gain["model"], gain["against"], gain["measure"], gain["horizon"])
        if key == (gate["model"], gate["against"], "qlike", horizon) and known(gain["gain_percent"]):
            span = interval(gain["low"], gain["high"])
            return f"; QLIKE at {sessions(horizon)} {percent(gain['gain_percent'])} {span}"
    return ""


def _risk(inputs: Inputs) -> Figure:
    target = fraction(inputs.backtest["target_volatility"], 0)
    held, constant, ewma = (typical_range(inputs, name) for name in ("vol_target", "constant", "ewma_target"))
    detail = f"volatility of the median ticker, nine sessions in ten; constant exposure {constant}, EWMA {ewma}"
    tickers = tickers_of(inputs)
    steadier = bool(tickers) and 2 * sum(narrower(inputs, ticker) for ticker in tickers) > len(tickers)
    tone = "good" if steadier else "neutral"
    return Figure(f"Does it hold its target of {target}?", held.replace("% to ", "\N{EN DASH}"), detail, tone)


def _fall(inputs: Inputs) -> Figure:
    held = row_of(inputs, "vol_target").get("max_drawdown")
    others = {
        name: row_of(inputs, strategy).get("max_drawdown")
        for name, strategy in (
            ("buy and hold", "buy_and_hold"),
            ("constant exposure", "constant"),
            ("sized by EWMA", "ewma_target"),
        )
    }
    falls = [abs(fall) for name, fall in others.items() if name != "sized by EWMA" and known(fall)]
    best = known(held) and bool(falls) and abs(held) < min(falls)
    detail = "largest fall; " + ", ".join(f"{name} {drawdown(fall)}" for name, fall in others.items())
    return Figure("Does it fall less far?", drawdown(held), detail, "good" if best else "neutral")


def _int8(inputs: Inputs) -> Figure:
    outputs = inputs.equality["outputs"]
    lowest = min((o["r2"] for o in outputs if o.get("rule") != "max_difference" and known(o["r2"])), default=None)
    passed = bool(inputs.equality["passed"])
    parts = [f"{sum(bool(o['passed']) for o in outputs)} of {len(outputs)} outputs equal"]
    if known(lowest):
        parts.append(f"lowest centred R² {number(lowest, 5)}")
    size = inputs.equality.get("bundle_bytes")
    if known(size):
        parts.append(f"bundle of {number(size / 1024, 0)} KB")
    return Figure("Is int8 equal to float?", "Yes" if passed else "No", ", ".join(parts), "good" if passed else "bad")
