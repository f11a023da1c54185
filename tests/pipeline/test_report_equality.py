"""The report's section on the small model: what holds, what is not certain, what was pruned, and older runs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pipeline.reporting import equality, inputs
from tests.pipeline.report_equality import PAIRS
from tests.pipeline.report_fixture import build
from tests.pipeline.report_pieces import HORIZONS


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> inputs.Inputs:
    root: Path = tmp_path_factory.mktemp("report")
    return inputs.load(build(root))


def with_(loaded: inputs.Inputs, **parts: Any) -> inputs.Inputs:
    return replace(loaded, equality={**loaded.equality, **parts})


def test_every_pair_and_horizon_has_a_row_with_its_floor_and_verdict(loaded: inputs.Inputs) -> None:
    table = equality.costs_table(loaded)
    assert table is not None
    assert len(table.rows) == len(PAIRS) * len(HORIZONS)
    assert {len(row) for row in table.rows} == {len(table.head)}
    verdicts = {(row[0], row[1], row[2]): row[6] for row in table.rows}
    assert verdicts["Int8 student", "pruned student", "5 sessions"] == "holds"
    last = f"{HORIZONS[-1]} sessions"
    assert verdicts["Student network", "stack of the learners", last] == "holds, not certain"


def test_a_claim_that_fails_says_so(loaded: inputs.Inputs) -> None:
    rows = [{**row, "holds": False} if row["claim"] == "net_profit" else row for row in loaded.equality["claims"]]
    table = equality.decisions_table(with_(loaded, claims=rows))
    assert table is not None
    assert [row[-1] for row in table.rows if "profit" in row[0]] == ["does NOT hold"]


def test_decisions_are_shown_at_their_worst_horizon(loaded: inputs.Inputs) -> None:
    worse = {("var_95", 20): 99.0, ("median_flips", 1): 0.9}
    rows = [
        {**row, "figure": worse.get((row["claim"], row["horizon"]), row["figure"])} for row in loaded.equality["claims"]
    ]
    table = equality.decisions_table(with_(loaded, claims=rows))
    assert table is not None
    shown = {row[0]: row[1:3] for row in table.rows}
    assert shown["95% VaR is breached in both or in neither"] == ("20 sessions", "99.00%")
    assert shown["Volatility on the other side of the session's median"] == ("1 session", "0.90%")
    assert shown["Net profit a year"][1] == "\N{MINUS SIGN}0.30 bp"


def test_the_sentences_count_what_holds_and_what_was_pruned(loaded: inputs.Inputs) -> None:
    first, second = equality.sentences(loaded)
    judged = [row for row in loaded.equality["claims"] if row["floor"] is not None]
    certain = sum(row["certain"] for row in judged)
    assert f"{len(judged)} of {len(judged)} claims of equality hold, {certain} of them" in first
    assert "trained with rounding" not in first
    assert second == (
        "In 1 of 3 fits the network is the skip alone, without a body to prune. "
        "1 of 2 bodies lost channels; validation chose how many."
    )


def test_training_with_rounding_is_told(loaded: inputs.Inputs) -> None:
    assert "trained with rounding in the loop" in equality.sentences(with_(loaded, method="qat"))[0]


def test_bodies_kept_whole_are_told_with_the_reason(loaded: inputs.Inputs) -> None:
    folds = [{**each, "chosen": 0, "reason": "not asked for"} for each in loaded.equality["pruning"]["folds"][:2]]
    sentences = equality.sentences(with_(loaded, pruning={"folds": folds}))
    assert sentences[1] == "None of 2 bodies was pruned: not asked for."


def test_the_curve_is_drawn_where_there_is_one(loaded: inputs.Inputs) -> None:
    chart = equality.size_chart(loaded)
    assert chart is not None
    assert chart.title == "Bodies of 50 to 100% of the multiply-adds cost at most +0.01% of pinball on validation."
    assert equality.size_chart(with_(loaded, pruning={"folds": []})) is None


def test_a_run_from_before_there_were_claims_still_has_a_section(loaded: inputs.Inputs) -> None:
    kept = {k: v for k, v in loaded.equality.items() if k not in ("claims", "losses", "pruning", "source", "method")}
    older = replace(loaded, equality=kept)
    assert equality.costs_table(older) is None
    assert equality.decisions_table(older) is None
    assert equality.losses_table(older) is None
    assert equality.size_chart(older) is None
    assert len(equality.sentences(older)) == 1
    assert len(equality.equality_table(older).rows) == 4
