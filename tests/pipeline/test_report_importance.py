"""The report's section on feature families: what carries the gain comes first, and nothing is claimed of the rest."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import pytest

from pipeline.reporting import importance, inputs
from tests.pipeline.report_fixture import build
from tests.pipeline.report_importance import IMPORTANCE, row


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> inputs.Inputs:
    return inputs.load(build(tmp_path_factory.mktemp("run")))


def held(bare: inputs.Inputs, **changes: Any) -> inputs.Inputs:
    return replace(bare, evidence={**bare.evidence, "importance": {**IMPORTANCE, **changes}})


def test_the_family_that_carries_most_is_named(bare: inputs.Inputs) -> None:
    lines = importance.sentences(held(bare))
    assert lines[0] == (
        "Volatility features carry most: without them the student network loses 0.51 points [+0.31, +0.71] of its gain "
        "of +0.90% over trailing EWMA."
    )
    assert lines[1] == "Nothing that can be told from zero is lost without your own and returns."
    assert "between blocks of sessions and between tickers of each test slice" in lines[2]
    assert "mean of 3 shuffles" in lines[2]


def test_the_chart_ranks_families_and_marks_what_is_shown(bare: inputs.Inputs) -> None:
    chart = importance.importance_chart(held(bare))
    assert chart is not None
    assert chart.title == importance.sentences(held(bare))[0]
    for svg in (chart.wide, chart.narrow):
        assert svg.index("Volatility") < svg.index("Your own") < svg.index("Returns")
        bars = re.findall(r"fill: var\(--(accent|grey)\)", svg)
        assert bars == ["accent", "grey", "grey"]
    again = importance.importance_chart(held(bare))
    assert again == chart


def test_the_table_holds_every_horizon(bare: inputs.Inputs) -> None:
    table = importance.importance_table(held(bare))
    assert table is not None
    assert table.head[-2:] == ("1 session", "5 sessions")
    assert table.rows[0] == (
        "Volatility",
        "2",
        "+0.51",
        "[+0.31, +0.71]",
        "0.01",
        "+0.51 [+0.31, +0.71]",
        "+0.51 [+0.31, +0.71]",
    )
    assert table.rows[1][3] == "–"  # noqa: RUF001
    assert "+0.80% at 1 session, +1.00% at 5 sessions" in table.caption


def test_no_family_is_praised_when_none_stands_out(bare: inputs.Inputs) -> None:
    rows = [row(family, h, 0.01, 0.3) for family in IMPORTANCE["families"] for h in (None, 1, 5)]
    weak = held(bare, rows=rows)
    expected = "No family of features alone carries a part of the gain that can be told from zero."
    assert importance.sentences(weak)[0] == expected
    chart = importance.importance_chart(weak)
    assert chart is not None
    assert chart.title == expected


def test_a_large_loss_without_an_interval_is_no_finding(bare: inputs.Inputs) -> None:
    rows = [*(r for r in IMPORTANCE["rows"] if r["family"] != "own"), *(row("own", h, 0.9, None) for h in (None, 1, 5))]
    chart = importance.importance_chart(held(bare, rows=rows))
    assert chart is not None
    assert chart.title.startswith("Volatility features carry most")


def test_a_run_without_families_says_nothing(bare: inputs.Inputs) -> None:
    none = held(bare, rows=[])
    assert importance.sentences(none) == ()
    assert importance.importance_chart(none) is None
    assert importance.importance_table(none) is None


def test_unknown_figures_are_left_out(bare: inputs.Inputs) -> None:
    unknown = {**row("volatility", None, 0.5, None), "lost": None}
    assert importance.importance_chart(held(bare, rows=[unknown])) is None
