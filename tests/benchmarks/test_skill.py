"""The picture of skill against cost: what it reads from a run, and what it draws."""

from pathlib import Path

import pytest

from benchmarks import skill

GAIN = {"against": "ewma", "measure": "pinball", "horizon": 5, "low": 0.5, "high": 1.5}
EVIDENCE = {
    "gains": [
        GAIN | {"model": "student", "gain_percent": 1.0},
        GAIN | {"model": "student", "gain_percent": 9.0, "horizon": 1},
        GAIN | {"model": "lstm", "gain_percent": 0.8},
        GAIN | {"model": "lstm", "gain_percent": 9.0, "against": "garch"},
        GAIN | {"model": "lstm", "gain_percent": 9.0, "measure": "qlike"},
        GAIN | {"model": "stack", "gain_percent": 1.1},
    ],
    "losses": [
        {"model": model, "horizon": 5, "pinball": loss}
        for model, loss in (("ewma", 0.5), ("har", 0.49), ("garch", 0.48))
    ],
}
EQUALITY = {
    "losses": [{"model": model, "horizon": 5, "pinball": loss} for model, loss in (("student", 0.400), ("int8", 0.401))]
}


def test_skill_is_that_of_the_evidence_and_int8_pays_what_it_takes():
    found = skill.skills(EVIDENCE, EQUALITY, 5)
    assert found["lstm"] == (0.8, 0.5, 1.5)
    assert found["har"].gain == pytest.approx(2.0)
    assert found["garch"].gain == pytest.approx(4.0)
    # .001 of .5 is .2 %.
    assert found[skill.PANEL] == pytest.approx((0.8, 0.3, 1.3))


def test_the_stack_costs_its_members_and_the_picture_names_everybody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    cost = {"har": 1.0, "student": 2.0, "scale_skip": 3.0, "lstm": 10.0, skill.PANEL: 4.0, skill.WINDOW: 5.0}
    monkeypatch.setattr(skill, "nanoseconds", lambda run, rounds, patience: dict(cost))
    found = skill.points({}, skill.skills(EVIDENCE, EQUALITY, 5) | {"scale_skip": skill.Gain(1, 0, 2)}, 1, 0.0)
    assert found[0].model == "har"
    assert {point.model: point.nanoseconds for point in found}["stack"] == 13.0
    skill.draw(found, 5, tmp_path / "skill.svg")
    assert "<svg" in (tmp_path / "skill.svg").read_text()
