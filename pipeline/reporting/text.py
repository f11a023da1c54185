"""What the text adds: its lift on scale and on direction, and where training let it be used."""

from __future__ import annotations

from typing import Any

from pipeline.reporting.formats import Table, fraction, interval, number, percent, sessions
from pipeline.reporting.inputs import Inputs

PLUMBING = "Simulated text: plumbing only."
MEASURES = {
    "pinball": "Pinball loss, z",
    "log_error": "R² of log|z|",
    "brier": "Brier score",
    "log_loss": "Log-loss",
    "rank": "Rank correlation of the chance to rise",
}


def sentences(inputs: Inputs) -> tuple[str, ...]:
    """What was found, on how many headlines, and what training decided by it."""
    found = inputs.evidence["text_ablation"]
    text = str(found["sentence"])
    if inputs.simulated and "plumbing only" not in text:
        text = f"{PLUMBING} {text}"
    lines = [text]
    if found.get("coverage"):
        own, any_ = (fraction(found["coverage"][name], 0) for name in ("cells", "sessions"))
        lines.append(
            f"Measured on forecasts of {found['first']} to {found['last']}; {own} of them had a headline of their own "
            f"ticker, and {any_} of the sessions a headline of any."
        )
    decided = str((inputs.training.get("text") or {}).get("sentence", ""))
    return (*lines, decided) if decided else tuple(lines)


def lift_table(inputs: Inputs) -> Table | None:
    """With text features against without, measure by measure; None if it was not measured."""
    rows = inputs.evidence["text_ablation"].get("rows") or []
    if not rows:
        return None
    level = percent(inputs.evidence["confidence"] * 100, 0, sign=False)
    return Table(
        f"With text features against without; right of zero is for text. {level} intervals over blocks of sessions.",
        ("Forecast of", "Measure", "Horizon", "Without", "With", "Text saves", "Interval", "Blocks", "Verdict"),
        tuple(_cells(row) for row in rows),
        left=3,
    )


def decisions_table(inputs: Inputs) -> Table | None:
    """Fit by fit, whether text was used and why; None if it did not have to earn its place."""
    folds = (inputs.training.get("text") or {}).get("folds") or []
    if not folds:
        return None
    return Table(
        "Text is used where the lift of earlier forecasts, known by the end of training, was above zero.",
        ("Fit", "Text", "Forecasts up to", "Why"),
        tuple(
            (each["fold"], "yes" if each["used"] else "no", each["last"] or "none", each["reason"]) for each in folds
        ),
        left=4,
    )


def _cells(row: dict[str, Any]) -> tuple[str, ...]:
    rank = row["measure"] == "rank"
    gain, low, high = row["gain_percent"], row["low"], row["high"]
    return (
        str(row["part"]).capitalize(),
        MEASURES.get(row["measure"], str(row["measure"])),
        sessions(row["horizon"]),
        number(row["without_text"], 4),
        number(row["with_text"], 4),
        number(gain, 4, sign=True) if rank else percent(gain, 2),
        interval(low, high, 4, unit="") if rank else interval(low, high, 2),
        number(row["blocks"], 1),
        str(row["verdict"]),
    )
