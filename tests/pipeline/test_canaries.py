"""The eight planted leaks: each is found, in its feature, from the session on that a hand computation gives."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from features.alterations import ALTERATIONS, World
from features.audit import LEAK, Cells, audit, cuts
from pipeline import canaries
from pipeline.audited import cells_of, decisions, views
from pipeline.config import Config
from tests.pipeline.audit_fixture import sessions_and_closes, world_of

SESSIONS = 400
SEED = 3
DAYS, CLOSES = sessions_and_closes(SESSIONS)


@pytest.fixture(scope="module")
def world() -> World:
    return world_of(sessions=SESSIONS, news=200)


def first_cut(lead_minutes: int = 0) -> int:
    """The session at whose decision the first cut falls."""
    used_at = decisions(CLOSES, lead_minutes)
    (cut,) = cuts(used_at, 2, SEED)[:1]
    return int(np.flatnonzero(used_at == np.datetime64(cut.tz_localize(None), "us"))[0])


def test_the_first_cut_lies_in_the_warm_up_of_sixty_sessions() -> None:
    assert 5 < first_cut() == first_cut(15) < 20


FIRST_TEST = int(np.flatnonzero(np.random.default_rng(0).random(SESSIONS) < 0.2)[0])
EXPECTED = {
    # Decided before the close that it is made of: wrong from the session of the cut on, the next bar is after it.
    "same-session market return": ("market_return", first_cut(15)),
    # Five sessions around: the one before the cut is the first that holds a bar after the cut, two sessions on.
    "centred window": ("centred_5", first_cut() - 1),
    # Everything up to the sixtieth return is filled with what is known at the sixtieth, after the cut.
    "back-fill": ("filled_60", 0),
    # The first sum of five returns; session 0 has none.
    "full-sample scaler": ("scaled_ret_5", 5),
    # The first session drawn for the test, as sigma is that of all the others.
    "random split": ("sigma_of_random_split", FIRST_TEST),
    # A tweet one second after the decision is of the same day, and so is its date.
    "same-day tweets": ("tweets", first_cut()),
    "news stamped by date only": ("news_by_date", first_cut()),
    # A later dividend rewrites the whole history.
    "adjusted close re-based later": ("log_adj_close", 0),
}


def test_there_are_the_eight_that_the_tests_know() -> None:
    assert [each.leak for each in canaries.CANARIES] == list(EXPECTED)
    assert FIRST_TEST > 0


@pytest.mark.parametrize("canary", canaries.CANARIES, ids=lambda each: each.leak)
def test_it_is_found_from_its_first_session_on(canary: canaries.Canary, world: World) -> None:
    verdicts = canaries.judge(Config(), world, canary, 2, SEED)
    feature, session = EXPECTED[canary.leak]
    assert list(verdicts) == [feature]
    found = verdicts[feature]
    assert found.status == LEAK
    assert found.first is not None
    assert pd.Timestamp(found.first.session) == DAYS[session]
    assert f"{feature}: leak on {DAYS[session]:%Y-%m-%d} (" in found.sentence()


def test_after_its_warm_up_a_back_fill_is_found_by_a_hole(world: World) -> None:
    def subject(tables: World) -> dict[str, Cells]:
        view = next(views(Config(), None, tables))
        return {name: cells_of(name, frame, view) for name, frame in canaries.back_fill(view).items()}

    others = [each for each in ALTERATIONS if each.name != "added"]  # a new ticker's past would be filled as well
    found = audit(subject, world, [CLOSES[150]], others)["filled_60"]
    assert found.shown_by == ["prices perturbed after a hole"]
    assert found.first is not None
    assert pd.Timestamp(found.first.session) == DAYS[149]  # the first of the two sessions without a bar


def test_without_any_headline_those_of_news_are_found_too(world: World) -> None:
    for canary in canaries.CANARIES[5:7]:
        (found,) = canaries.judge(Config(), world._replace(news=world.news.iloc[:0]), canary, 2, SEED).values()
        assert found.status == LEAK
