"""What the headlines of a session tell: figures by hand, and what must not move them."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from features.calendars import calendar_sessions
from features.classifier import Classifier, train
from features.news import CATALOGUE, NAMES, News, decayed, sentiment_features

GOOD, BAD, PLAIN = "Excellent results", "Terrible losses", "The meeting is on Tuesday"
TICKERS = ["AAPL", "IBM"]
K = np.exp(-1 / 5)
Found = dict[str, np.ndarray]


def news(*rows: tuple[str, str, str]) -> pd.DataFrame:
    frame = pd.DataFrame(rows, columns=["ticker", "known_at", "title"], dtype="str")
    frame["known_at"] = pd.to_datetime(frame["known_at"], utc=True, format="ISO8601").astype("datetime64[us, UTC]")
    return frame.assign(summary=pd.Series("", index=frame.index, dtype="str"))


def features(rows: pd.DataFrame, first: str = "2013-03-04", last: str = "2013-03-07", **more: object) -> Found:
    sessions, closes = calendar_sessions("XNYS", first, last)
    return sentiment_features(News(rows, closes, 0, 0.1, **more), TICKERS, sessions)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def classifier() -> Classifier:
    subjects = [
        f"{name} of the {part}" for name in ("profit", "outlook", "demand") for part in ("bank", "shop", "mine")
    ]
    words = {"negative": ("plunges", "slumps"), "neutral": ("unchanged", "scheduled"), "positive": ("soars", "jumps")}
    pairs = [(f"{s} {verb}", label) for s in subjects for label, verbs in words.items() for verb in verbs]
    return train(*zip(*pairs, strict=True))


@pytest.fixture(scope="module")
def history() -> pd.DataFrame:
    """Some 2,000 headlines of four years, many at the turns of years, of tickers, of the market and of strangers."""
    generator = np.random.default_rng(5)
    start, end = pd.Timestamp("2009-12-20T12:00Z"), pd.Timestamp("2014-01-05T12:00Z")
    days = [*generator.uniform(0, (end - start).days, 1600), *generator.choice([11, 12, 376, 741, 1107, 1472], 400)]
    words = ["profit", "outlook", "soars", "plunges", "good", "bad", "great", "unchanged", "very", "not", "12", "%"]
    titles = [" ".join(generator.choice(words, generator.integers(1, 7))) for _ in days]
    tickers = generator.choice([*TICKERS, "", "*", "XYZ"], len(days))
    times = [str(start + pd.Timedelta(days=float(day))) for day in days]
    return news(*zip(tickers.tolist(), times, titles, strict=True))


def test_features_of_a_small_week():
    rows = news(
        ("AAPL", "2013-03-04T15:00Z", GOOD),
        ("AAPL", "2013-03-04T16:00Z", PLAIN),
        ("AAPL", "2013-03-04T22:00Z", BAD),
        ("*", "2013-03-06T15:00Z", GOOD),
        ("", "2013-03-06T15:00Z", PLAIN),
        ("XYZ", "2013-03-05T15:00Z", BAD),
        ("AAPL", "2013-03-07T22:00Z", BAD),
    )
    found = features(rows)
    assert tuple(found) == NAMES
    assert {(a.shape, a.dtype) for a in found.values()} == {((2, 4), np.dtype("float32"))}
    expected = {
        "news_count": np.log1p([2, 1, 0, 0]),
        "no_news": [0, 0, 1, 1],
        "since_news_20": [0, 0, 0.05, 0.1],
        "attention_decay_5": np.log1p([2, 1 + 2 * K, K + 2 * K**2, K**2 + 2 * K**3]),
        "novelty_20": [1, 1, 0, 0],
        "chance_negative": [0, 1, 0, 0],  # Excellent 1, Terrible -1
        "chance_neutral": [0.5, 0, 0, 0],
        "chance_positive": [0.5, 0, 0, 0],
        "negative_share": [0, 1, 0, 0],
        "positive_share": [0.5, 0, 0, 0],
        "tone_mean": [0.5, -1, 0, 0],
        "tone_dispersion": [0.5, 0, 0, 0],
        "tone_decay_5": [1 / 3, (K - 1) / (2 + 2 * K), (K**2 - K) / (1 + K + 2 * K**2),
                         (K**3 - K**2) / (1 + K**2 + 2 * K**3)],
        "polarity_mean": [0.5, -1, 0, 0],
        "polarity_decay_5": [0.5, 0.5 * K - 1, 0.5 * K**2 - K, 0.5 * K**3 - K**2],
        "market_count": [0, 0, np.log(3), 0],
        "market_tone": [0, 0, 0.5, 0],
        "market_dispersion": [0, 0, 0.5, 0],
        "market_polarity": [0, 0, 0.5, 0],
    }  # fmt: skip
    for name, values in expected.items():
        np.testing.assert_allclose(found[name][0], values, rtol=1e-6, err_msg=name)
    assert (found["compound_mean"][0] != 0).tolist() == [True, True, False, False]
    assert (found["subjectivity_mean"][0] != 0).tolist() == [True, True, False, False]
    for name in NAMES:  # IBM has no news, but the market's is its too
        nothing = found[name][0] if name.startswith("market_") else np.full(4, name in ("no_news", "since_news_20"))
        np.testing.assert_array_equal(found[name][1], nothing, err_msg=name)


def test_every_feature_has_a_formula():
    assert len(set(NAMES)) == len(NAMES)
    assert all(formula for _, formula, _ in CATALOGUE)


def test_a_summary_counts_with_its_title():
    rows = news(("AAPL", "2013-03-04T15:00Z", PLAIN)).assign(summary=GOOD)
    assert features(rows)["positive_share"][0, 0] == 1


@pytest.mark.parametrize("rows", [news(), news(("XYZ", "2013-03-04T15:00Z", GOOD))])
def test_without_news_everything_is_zero_but_its_absence(rows: pd.DataFrame):
    found = features(rows)
    assert found.pop("no_news").all()
    assert (found.pop("since_news_20") == 1).all()
    assert not any(array.any() for array in found.values())


def test_a_classifier_gives_chances_and_classes(classifier: Classifier):
    titles = ["profit of the mine soars", "outlook plunges", "demand unchanged"]
    rows = news(*[("IBM", "2013-03-05T15:00Z", title) for title in titles])
    found, lexicon = features(rows, scorer=classifier), features(rows)
    chances = classifier.probabilities(titles)
    for i, name in enumerate(("negative", "neutral", "positive")):
        np.testing.assert_allclose(found[f"chance_{name}"][1, 1], chances[:, i].mean(), rtol=1e-6)
    tone = chances[:, 2] - chances[:, 0]
    np.testing.assert_allclose(found["tone_mean"][1, 1], tone.mean(), atol=1e-7)
    np.testing.assert_allclose(found["tone_dispersion"][1, 1], tone.std(), rtol=1e-6)
    np.testing.assert_allclose(found["positive_share"][1, 1], 1 / 3, rtol=1e-6)
    np.testing.assert_allclose(found["negative_share"][1, 1], 1 / 3, rtol=1e-6)
    for name in ("polarity_mean", "subjectivity_mean", "compound_mean", "polarity_decay_5", "market_polarity"):
        np.testing.assert_array_equal(found[name], lexicon[name], err_msg=name)


def test_the_first_session_takes_one_day_of_news():
    hours = {"2013-03-03T21:00:00Z": 1, "2013-03-03T21:00:01Z": 0, "2013-03-01T12:00Z": 1}  # it decides at 21:00 UTC
    for known_at, absent in hours.items():
        assert features(news(("IBM", known_at, GOOD)))["no_news"][1, 0] == absent, known_at
    later = features(news(("IBM", "2013-03-08T22:00Z", GOOD)), last="2013-03-11")
    assert later["no_news"][1].tolist() == [1, 1, 1, 1, 1, 0], "a weekend's news is Monday's"


@pytest.mark.parametrize("cut", range(1, 9))
def test_later_headlines_change_nothing_before(cut: int, classifier: Classifier):
    _, closes = calendar_sessions("XNYS", "2013-03-04", "2013-03-15")
    times = pd.date_range("2013-03-04T01:30Z", "2013-03-15T20:00Z", freq="3h")
    tickers = [*TICKERS, "*"]
    rows = news(*[(tickers[i % 3], str(at), (GOOD, BAD, PLAIN)[i // 3 % 3]) for i, at in enumerate(times)])
    later = rows["known_at"] > closes[cut - 1]
    altered = rows.assign(title=rows["title"].where(~later, "Horrible, awful, the worst"))
    altered["ticker"] = altered["ticker"].where(~later, "AAPL")
    before = features(rows, last="2013-03-15", scorer=classifier)
    after = features(altered, last="2013-03-15", scorer=classifier)
    for name in NAMES:
        assert before[name][:, :cut].tobytes() == after[name][:, :cut].tobytes(), name
        assert before[name].tobytes() != after[name].tobytes(), name


HEADLINES = st.lists(
    st.tuples(
        st.sampled_from([*TICKERS, "*", "", "XYZ"]),
        st.integers(0, 24 * 12).map(lambda hour: str(pd.Timestamp("2013-03-04T00:00Z") + pd.Timedelta(hours=hour))),
        st.lists(st.sampled_from(["good", "bad", "soars", "very", "not", "12", ":)"]), max_size=4).map(" ".join),
    ),
    max_size=25,
)


@settings(max_examples=40, deadline=None)
@given(rows=HEADLINES, seed=st.integers(0, 99))
def test_order_and_other_tickers_are_of_no_matter(classifier: Classifier, rows: list[tuple[str, str, str]], seed: int):
    table = news(*rows)
    sessions, closes = calendar_sessions("XNYS", "2013-03-04", "2013-03-15")
    shuffled = table.sample(frac=1, random_state=seed)
    one = sentiment_features(News(table, closes, 0, 0.1, classifier), TICKERS, sessions)
    two = sentiment_features(News(shuffled, closes, 0, 0.1, classifier), ["A", *TICKERS[::-1], "XYZ"], sessions)
    for name in NAMES:
        assert np.isfinite(one[name]).all(), name
        assert one[name].tobytes() == two[name][[2, 1]].tobytes(), name
    for name in ("chance_neutral", "positive_share", "novelty_20", "since_news_20", "no_news", "subjectivity_mean"):
        assert (one[name] >= 0).all(), name
        assert (one[name] <= 1).all(), name
    assert (np.abs(one["tone_decay_5"]) < 1).all()


@pytest.mark.parametrize("year", [2012, 2013])
@pytest.mark.parametrize("whole", [True, False], ids=["all headlines", "headlines of the three years"])
@pytest.mark.parametrize("calendar", ["XNYS", "24/7", "none"])
def test_a_year_depends_on_three_years(
    classifier: Classifier, history: pd.DataFrame, calendar: str, year: int, whole: bool
):
    sessions, closes = calendar_sessions(calendar, "2010-01-01", "2013-12-31")
    if calendar == "none":  # some twenty sessions a year, so that every window spans years
        some = np.sort(np.random.default_rng(year).choice(len(sessions), 80, replace=False))
        sessions, closes = sessions[some], closes[some]
    full = sentiment_features(News(history, closes, 0, 0.1, classifier), TICKERS, sessions)
    kept = (sessions.year >= year - 2) & (sessions.year <= year)
    rows = history if whole else history[history["known_at"] >= pd.Timestamp(f"{year - 2}-01-01", tz="UTC")]
    part = sentiment_features(News(rows, closes[kept], 0, 0.1, classifier), TICKERS, sessions[kept])
    here, there = sessions.year == year, sessions[kept].year == year
    assert full["no_news"][:, here].min() == 0
    for name in NAMES:
        assert full[name][:, here].tobytes() == part[name][:, there].tobytes(), name


def test_every_session_needs_its_close():
    sessions, closes = calendar_sessions("XNYS", "2013-03-04", "2013-03-07")
    with pytest.raises(ValueError, match="4 closes for 3 sessions"):
        sentiment_features(News(news(), closes, 0, 0.1), TICKERS, sessions[1:])


def test_no_sessions_no_tickers():
    sessions, closes = calendar_sessions("XNYS", "2013-03-04", "2013-03-07")
    rows = news(("IBM", "2013-03-04T15:00Z", GOOD), ("", "2013-03-04T15:00Z", BAD))
    assert sentiment_features(News(rows, closes[:0], 0, 0.1), TICKERS, sessions[:0])["tone_mean"].shape == (2, 0)
    assert sentiment_features(News(rows, closes, 0, 0.1), [], sessions)["market_tone"].shape == (0, 4)


def test_decay_is_a_causal_recursion():
    values = np.array([[1.0, 0.0, 0.0, 2.0]])
    keep = np.exp(-1 / 3)
    one_year = np.full(4, 2013)
    np.testing.assert_allclose(decayed(values, one_year, 3), [[1, keep, keep**2, 2 + keep**3]])
    np.testing.assert_array_equal(values, [[1.0, 0.0, 0.0, 2.0]])


def test_decay_remembers_the_year_before_and_no_more():
    values = np.array([1.0, 0.0, 0.0, 0.0, 0.0])
    keep = np.exp(-1 / 3)
    np.testing.assert_allclose(
        decayed(values, np.array([2011, 2011, 2012, 2012, 2013]), 3), [1, keep, keep**2, keep**3, 0]
    )
    np.testing.assert_allclose(decayed(values, np.array([2011, 2011, 2013, 2013, 2013]), 3), [1, keep, 0, 0, 0])
