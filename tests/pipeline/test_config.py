"""The configuration: what it refuses and how it says so, what it writes, and that it reads what it wrote."""

from __future__ import annotations

import datetime as dt
import tomllib
from pathlib import Path

import pytest
from pydantic import ValidationError

from pipeline import config
from pipeline.config import Config, defaults, load
from pipeline.config_text import reference, starter
from pipeline.errors import ConfigError

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where `tradewind.toml` of the working directory would be."""
    monkeypatch.chdir(tmp_path)
    return tmp_path / "tradewind.toml"


def test_without_a_file_the_defaults_hold(file: Path) -> None:
    found = load()
    assert found.universe == Config().universe
    assert found.data.lake == str(file.parent / "lake")


def test_the_file_of_the_working_directory_is_read(file: Path) -> None:
    file.write_text('[universe]\ntickers = ["IBM"]\nsince = 2003-04-05\n')
    assert load().universe.tickers == ("IBM",)
    assert load().universe.since == dt.date(2003, 4, 5)


def test_relative_paths_belong_to_the_file(tmp_path: Path, file: Path) -> None:
    elsewhere = tmp_path / "elsewhere" / "my.toml"
    elsewhere.parent.mkdir()
    elsewhere.write_text('[data]\nprices = ["a.csv", "/b.csv"]\nlake = "pond"\n')
    data = load(elsewhere).data
    assert data.prices == (str(elsewhere.parent / "a.csv"), "/b.csv")
    assert data.lake == str(elsewhere.parent / "pond")


@pytest.mark.parametrize(
    ("written", "nearest"),
    [
        ("univers.since", "universe"),
        ("universe.sinse", "universe.since"),
        ("backtest.half_spread", "backtest.half_spread_bps"),
        ("models.student.widht", "models.student.width"),
        ("compress.body_feature", "compress.body_features"),
        ("models.sed", "models.seed"),
        ("data.x", "data.rss"),
    ],
)
def test_an_unknown_key_names_the_nearest_one(file: Path, written: str, nearest: str) -> None:
    section, _, key = written.rpartition(".")
    with pytest.raises(ConfigError) as from_override:
        load(None, (f"{written}=1",))
    file.write_text(f"[{section}]\n{key} = 1\n")
    with pytest.raises(ConfigError) as from_file:
        load()
    assert str(from_override.value) == str(from_file.value)
    assert f"did you mean {nearest}?" in str(from_file.value)
    assert from_file.value.exit_code == 2


def test_every_misspelt_key_is_told_at_once(file: Path) -> None:
    file.write_text("[target]\nhorizon = [1]\n[splits]\nembargos = 3\n")
    with pytest.raises(ConfigError, match=r"target\.horizon;.*target\.horizons.*splits\.embargos;.*splits\.embargo\?"):
        load()


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("models.gru.width=8", r"unknown model gru; the models are scale, student, har, garch, regression"),
        (
            "models.xgboosted_trees=1",
            r"unknown model xgboosted_trees; the models are scale, student, har, garch, regression",
        ),
        ('models.race=["lstm","lstm"]', r"models\.race = .*a learner is named twice"),
        ('models.race=["gru"]', r"models\.race\.0 = 'gru': .*'regression', 'boosting'"),
        ('models.own.ewma.model="m.py:M"', r"'ewma' cannot name a model of yours"),
        ("models.seed={a=1}", r"models\.seed = \{'a': 1\}: .*integer"),
        ("data.provider=bloomberg", r"data\.provider = 'bloomberg': .*'sample', 'files' or 'yahoo'"),
        ("target.horizons=[5,1]", r"ascending whole numbers from 1 to 60"),
        ("target.horizons=[]", r"ascending whole numbers from 1 to 60"),
        ("universe.since=2010", r"universe\.since = 2010: expected a date, like 2010-01-01"),
        ("universe.since=soon", r"universe\.since = 'soon'"),
        ("universe.tickers=AAPL", r"expected a list, like \[\"A\", \"B\"\]"),
        ('universe.tickers=["A","A"]', r"distinct"),
        ("universe.min_sessions=ten", r"universe\.min_sessions = 'ten'"),
        ("universe.min_sessions=3", r"greater than or equal to 300"),
        ("universe=3", r"expected section\.key=value"),
        ("universe.since", r"expected section\.key=value"),
        (".since=1", r"expected section\.key=value"),
        ("data.provider.x=3", r"data\.provider"),
    ],
)
def test_a_wrong_override_is_one_clear_line(file: Path, override: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        load(None, (override,))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[universe\n", "is not valid TOML"),
        ("universe = 3\n", "universe = 3"),
        ("[data]\nprovider = 7\n", r"data\.provider = 7"),
    ],
)
def test_a_wrong_file_is_named(file: Path, text: str, message: str) -> None:
    file.write_text(text)
    with pytest.raises(ConfigError, match=message) as caught:
        load()
    assert "tradewind.toml" in str(caught.value)


def test_text_that_is_not_utf8(file: Path) -> None:
    file.write_bytes(b"[data]\nlake = '\xff'\n")
    with pytest.raises(ConfigError, match="not valid TOML"):
        load()


def test_a_directory_is_not_a_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read: Is a directory"):
        load(tmp_path)


def test_a_missing_file_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no configuration file at .*absent\.toml; .*tradewind init"):
        load(tmp_path / "absent.toml")


def test_an_override_goes_over_the_file_and_keeps_the_rest(file: Path) -> None:
    file.write_text("[backtest]\nband = 0.2\nhorizon = 1\n")
    found = load(None, ("backtest.band=0.1", "models.student.width=16", "flows.timezone=Europe/Zurich"))
    assert (found.backtest.band, found.backtest.horizon) == (0.1, 1)
    assert found.models.student.width == 16
    assert found.flows.timezone == "Europe/Zurich"


def test_a_section_cannot_be_overridden_through_a_value(file: Path) -> None:
    file.write_text("universe = 3\n")
    with pytest.raises(ConfigError, match="universe is a value, not a section"):
        load(None, ("universe.since=2010-01-01",))


def test_what_was_read_cannot_be_changed() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        Config().universe.calendar = "XLON"  # type: ignore[misc]


def test_the_starter_reads_back_as_what_it_was_written_from(file: Path) -> None:
    wanted = defaults(
        (
            'data.provider="files"', 'data.prices=["my \\"own\\" prices.csv"]', "universe.since=2010-01-01",
            "models.scale.alphas=[1.0,2.5]", "compress.max_difference=1e-7",
        )
    )  # fmt: skip
    file.write_text(starter(wanted))
    found = load()
    assert found.model_copy(update={"data": wanted.data}) == wanted
    assert found.data.prices == (str(file.parent / 'my "own" prices.csv'),)


def test_the_starter_says_what_every_key_means() -> None:
    text = starter(Config())
    for heading, section in config.sections(Config()):
        assert f"[{heading}]" in text
        for name, field in type(section).model_fields.items():
            if not isinstance(getattr(section, name), config.Section):
                assert field.description
                assert f"# {field.description}\n" in text
    assert "# since = \n" in text  # a key without a value stays a comment
    assert set(tomllib.loads(text)) == set(Config.model_fields)


def test_defaults_leave_paths_alone() -> None:
    assert defaults(("data.lake=pond",)).data.lake == "pond"
    with pytest.raises(ConfigError, match=r"--set: unknown key data\.lak; did you mean data\.lake\?"):
        defaults(("data.lak=pond",))


def test_the_reference_in_the_repository_is_current() -> None:
    assert (ROOT / "CONFIG.md").read_text() == reference(), "run: make docs"
