"""score: three kinds of file, one answer; on a machine that has nothing but the scorer."""

from __future__ import annotations

import csv
import json
import os
import shutil
import subprocess
import sys
import venv
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from models.compact.bundle import Bundle, BundleError
from models.compact.runtime import Scorer, target_weights
from models.receptive_field import FIELD
from pipeline import score
from pipeline.errors import DataError, UsageError
from tests.models.compact import bundle_fixture as small
from tests.pipeline.score_fixture import KINDS, arrays, feature_rows, forecasts, run, write

ROOT = Path(__file__).resolve().parent.parent.parent
HEAVY = (
    "torch",
    "sklearn",
    "pandas",
    "prefect",
    "textblob",
    "pyarrow",
    "deltalake",
    "onnx",
    "arch",
    "exchange_calendars",
)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return small.write(tmp_path_factory.mktemp("bundles") / "v1")


@pytest.fixture(scope="module")
def rows() -> pd.DataFrame:
    return feature_rows()


@pytest.mark.parametrize("every", [False, True])
def test_every_kind_of_file_gives_the_same(bundle: Bundle, rows: pd.DataFrame, tmp_path: Path, every: bool) -> None:
    found = [run(bundle, write(tmp_path / f"x{kind}", rows), every_session=every) for kind in KINDS]
    for other in found[1:]:
        pd.testing.assert_frame_equal(other, found[0], check_exact=True)


@pytest.mark.parametrize("known", [True, False])
def test_scoring_another_universe_warns(rows: pd.DataFrame, tmp_path: Path, known: bool) -> None:
    trained = [*rows["ticker"].unique(), *([] if known else ["ZZZ"])]
    bundle = small.write(tmp_path / "v1", training={"run_id": "r1", "tickers": trained})
    found = score.run(bundle.directory, write(tmp_path / "x.npz", rows), tmp_path / "out.csv")
    assert ("ZZZ not here" in found.lines[-1], found.figures["warnings"] == []) == (not known, known)


def test_every_kind_of_output_holds_the_same(bundle: Bundle, rows: pd.DataFrame, tmp_path: Path) -> None:
    features = write(tmp_path / "x.npz", rows)
    found = []
    for kind in KINDS:
        out = tmp_path / "deep" / f"out{kind}"
        score.run(bundle.directory, features, out)
        found.append(forecasts(out))
        assert [path.name for path in out.parent.glob(f"*{kind}")] == [out.name]
    for other in found[1:]:
        pd.testing.assert_frame_equal(other, found[0], check_dtype=False, check_exact=True)


@pytest.mark.parametrize("kind", KINDS)
def test_the_order_of_rows_and_columns_and_further_columns_do_not_matter(
    bundle: Bundle, rows: pd.DataFrame, tmp_path: Path, kind: str
) -> None:
    expected = run(bundle, write(tmp_path / f"a{kind}", rows))
    mixed = rows.assign(moon=1.0)[["moon", *rows.columns[:3], *rows.columns[3:][::-1]]]
    if kind != ".npz":
        mixed = mixed[mixed.columns[::-1]].sample(frac=1, random_state=0)
    pd.testing.assert_frame_equal(run(bundle, write(tmp_path / f"b{kind}", mixed)), expected, check_exact=True)


def test_the_forecasts_are_the_scorers(bundle: Bundle, rows: pd.DataFrame, tmp_path: Path) -> None:
    found = run(bundle, write(tmp_path / "x.npz", rows))
    panel = arrays(rows)
    held = Scorer(bundle).panel(panel["x"], panel["vol"])
    newest = {"AAA": 89, "BBB": 89, "NEW": 89, "OLD": 79}
    assert found["ticker"].tolist() == [ticker for ticker in sorted(newest) for _ in small.HORIZONS]
    for n, ticker in enumerate(sorted(newest)):
        own, t = found[found["ticker"] == ticker], newest[ticker]
        assert own["horizon"].tolist() == list(small.HORIZONS)
        assert (own["session"] == pd.Timestamp(panel["session"][t])).all()
        np.testing.assert_allclose(own["sigma"], held.sigma[n, t], rtol=1e-5)
        np.testing.assert_allclose(own[list(score.QUANTILE_COLUMNS)], held.quantiles[n, t], rtol=1e-4, atol=1e-7)
        np.testing.assert_allclose(own["p_up"], held.p_up[n, t], rtol=1e-5)
        weight = target_weights(held.sigma[n, t], small.HORIZONS, bundle.manifest["sizing"])
        np.testing.assert_allclose(own["weight"], [weight, weight], rtol=1e-5)
    assert set(found["bundle_version"]) == {"v1"}
    assert set(found["model"]) == {"student"}


def test_all_scores_every_session_from_the_64th(bundle: Bundle, rows: pd.DataFrame, tmp_path: Path) -> None:
    found = run(bundle, write(tmp_path / "x.csv", rows), every_session=True)
    assert found.groupby("ticker").size().to_dict() == {
        "AAA": 27 * 2, "BBB": 22 * 2, "OLD": 17 * 2, "NEW": 20 * 2,
    }  # fmt: skip
    newest = run(bundle, write(tmp_path / "x.csv", rows)).set_index(["ticker", "horizon"])
    last = found.groupby(["ticker", "horizon"]).last().loc[newest.index, newest.columns]
    pd.testing.assert_frame_equal(last, newest, rtol=1e-5)


def test_too_short_is_listed_and_the_others_are_scored(bundle: Bundle, rows: pd.DataFrame, tmp_path: Path) -> None:
    known = rows.assign(vol=rows["vol"].where(rows["ticker"] != "NEW"))
    early = rows["session"].sort_values().unique()[FIELD - 2]
    cut = known[(known["ticker"] != "OLD") | (known["session"] <= early)]
    features = write(tmp_path / "x.csv", cut)
    summary = score.run(bundle.directory, features, tmp_path / "out.csv")
    assert summary.figures["too_short"] == ["NEW", "OLD"]
    assert summary.lines[1:] == ("too short to score: NEW", "too short to score: OLD")
    assert set(forecasts(tmp_path / "out.csv")["ticker"]) == {"AAA", "BBB"}


@pytest.mark.parametrize("every", [False, True])
def test_nothing_to_score_is_an_error_and_writes_nothing(
    bundle: Bundle, rows: pd.DataFrame, tmp_path: Path, every: bool
) -> None:
    short = rows[rows["session"] < rows["session"].sort_values().unique()[FIELD - 1]]
    for kind in KINDS:
        features = write(tmp_path / f"x{kind}", short)
        with pytest.raises(DataError, match="no ticker has 64 sessions with a volatility"):
            score.run(bundle.directory, features, tmp_path / "out.csv", every)
    header_only = write(tmp_path / "none.csv", rows.iloc[:0])
    with pytest.raises(DataError, match="no ticker has 64 sessions with a volatility"):
        score.run(bundle.directory, header_only, tmp_path / "out.csv", every)
    assert not (tmp_path / "out.csv").exists()


def test_a_second_run_gives_the_same_bytes(bundle: Bundle, rows: pd.DataFrame, tmp_path: Path) -> None:
    features = write(tmp_path / "x.npz", rows)
    written = []
    for name in ("a.csv", "b.csv"):
        score.run(bundle.directory, features, tmp_path / name)
        written.append((tmp_path / name).read_bytes())
    assert written[0] == written[1]


# -- refusals -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_a_missing_feature_is_named(bundle: Bundle, rows: pd.DataFrame, tmp_path: Path, kind: str) -> None:
    features = write(tmp_path / f"x{kind}", rows.drop(columns=["gap", "tone"]))
    with pytest.raises(DataError, match="lacks gap, tone, which the bundle needs"):
        run(bundle, features)


@pytest.mark.parametrize("kind", [".csv", ".parquet", ".arrow"])
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda r: pd.concat([r, r.iloc[:1]]), r"holds a \(ticker, session\) twice"),
        (lambda r: r.drop(columns="vol"), "lacks vol"),
        (lambda r: r.assign(session="not a day"), "column session"),
        (lambda r: r.assign(session=r["session"].where(r.index > 0)), "column session: a row has no date"),
        (lambda r: r.assign(gap="much"), "column gap"),
        (lambda r: r.assign(vol=0.0), "vol of AAA on 2012-01-02 is 0; a volatility is above zero, or missing"),
        (lambda r: r.assign(vol=-0.01), "is -0.01; a volatility is above zero"),
        (lambda r: r.assign(vol=np.inf), "is inf; a volatility is above zero"),
    ],
)
def test_rows_that_cannot_be_used(
    bundle: Bundle, rows: pd.DataFrame, tmp_path: Path, kind: str, change: Any, message: str
) -> None:
    features = write(tmp_path / f"x{kind}", change(rows))
    with pytest.raises(DataError, match=message):
        run(bundle, features)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 cut short", b"\xff\xfe\x00rubbish", b"a,b\n\x00\xff,1\n"])
def test_a_damaged_file_is_an_error_a_user_can_read(bundle: Bundle, tmp_path: Path, kind: str, content: bytes) -> None:
    features = tmp_path / f"x{kind}"
    features.write_bytes(content)
    with pytest.raises(DataError, match=str(features)):
        run(bundle, features)


def test_a_line_of_another_length_is_named(bundle: Bundle, rows: pd.DataFrame, tmp_path: Path) -> None:
    features = write(tmp_path / "x.csv", rows)
    lines = features.read_text().splitlines()
    lines[4] += ",1"
    features.write_text("\n".join(lines))
    with pytest.raises(DataError, match="line 5 has 9 values, the header has 8"):
        run(bundle, features)


def damaged_npz(path: Path, rows: pd.DataFrame, **changes: Any) -> Path:
    with np.load(write(path, rows)) as held:
        arrays = dict(held)
    arrays |= {name: change(arrays) for name, change in changes.items()}
    np.savez(path, **{name: value for name, value in arrays.items() if value is not None})
    return path


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"vol": lambda a: None}, "has no array vol; it holds"),
        ({"vol": lambda a: a["vol"][:, 1:]}, "not tickers x sessions"),
        ({"x": lambda a: a["x"][0]}, "not tickers x sessions x features"),
        ({"x": lambda a: a["x"][..., :4]}, "not tickers x sessions x features"),
        ({"session": lambda a: a["session"][::-1]}, "sessions must be ascending"),
        ({"session": lambda a: np.repeat(a["session"][:1], 90)}, "sessions must be ascending"),
        ({"ticker": lambda a: np.repeat(a["ticker"][:1], 4)}, "holds a ticker twice"),
        ({"ticker": lambda a: a["ticker"].astype(object)}, "not a readable NPZ without pickle"),
        ({"session": lambda a: np.repeat("soon", 90)}, "not a readable NPZ without pickle"),
        ({"vol": lambda a: a["vol"] * 0}, "vol of AAA on 2012-01-16 is 0; a volatility is above zero, or missing"),
        ({"x": lambda a: a["x"].astype(object)}, "array x holds objects"),
    ],
)
def test_an_npz_that_cannot_be_used(
    bundle: Bundle, rows: pd.DataFrame, tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(DataError, match=message):
        run(bundle, damaged_npz(tmp_path / "x.npz", rows, **changes))


def test_a_single_array_is_no_npz(bundle: Bundle, tmp_path: Path) -> None:
    with (tmp_path / "x.npz").open("wb") as file:
        np.save(file, np.zeros(3))
    with pytest.raises(DataError, match="not a readable NPZ"):
        run(bundle, tmp_path / "x.npz")


def test_a_missing_file_says_how_to_make_one(bundle: Bundle, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="tradewind features --out"):
        run(bundle, tmp_path / "x.npz")


@pytest.mark.parametrize(("features", "out"), [("x.txt", "y.csv"), ("x.csv", "y.json")])
def test_another_suffix_is_refused(bundle: Bundle, tmp_path: Path, features: str, out: str) -> None:
    with pytest.raises(UsageError, match=r"the suffix must be one of \.npz, \.csv, \.parquet, \.arrow"):
        score.run(bundle.directory, tmp_path / features, tmp_path / out)


def test_a_place_that_cannot_be_written_is_named(bundle: Bundle, rows: pd.DataFrame, tmp_path: Path) -> None:
    features = write(tmp_path / "x.npz", rows)
    with pytest.raises(UsageError, match=r"x\.npz/out\.csv cannot be written: "):
        score.run(bundle.directory, features, features / "out.csv")


def test_a_damaged_bundle_scores_nothing(bundle: Bundle, rows: pd.DataFrame, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(bundle.directory, tmp_path / "v1"))
    (copy / "window.onnx").write_bytes((copy / "window.onnx").read_bytes() + b"\0")
    features = write(tmp_path / "x.npz", rows)
    with pytest.raises(BundleError, match=r"window\.onnx does not match its checksum"):
        score.run(copy, features, tmp_path / "out.csv")
    assert not (tmp_path / "out.csv").exists()


@pytest.mark.parametrize(("features", "out"), [("x.parquet", "y.csv"), ("x.csv", "y.arrow")])
def test_parquet_without_pyarrow_says_what_to_install(
    bundle: Bundle, rows: pd.DataFrame, tmp_path: Path, features: str, out: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / features, rows)
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    with pytest.raises(DataError, match=r"pip install 'tradewind\[arrow\]'"):
        score.run(bundle.directory, tmp_path / features, tmp_path / out)
    assert [path.name for path in tmp_path.iterdir()] == [features]


# -- a machine that has nothing but the scorer ----------------------------------------------------------------

BARE = f"""
import sys
for name in {HEAVY!r}:
    sys.modules[name] = None
from pipeline.cli import main
try:
    main()
except SystemExit as stop:
    code = stop.code
found = sorted(name for name in (*{HEAVY!r}, "pipeline.config") if sys.modules.get(name) is not None)
print("imported:", found, file=sys.stderr)
sys.exit(code)
"""


def command_line(bundle: Bundle, features: Path, out: Path) -> list[str]:
    return ["score", "--bundle", str(bundle.directory), "--features", str(features), "--out", str(out)]


@pytest.mark.parametrize("kind", [".npz", ".csv"])
def test_the_command_runs_with_no_heavy_library(bundle: Bundle, rows: pd.DataFrame, tmp_path: Path, kind: str) -> None:
    features, out = write(tmp_path / f"x{kind}", rows), tmp_path / "out.csv"
    command = [sys.executable, "-c", BARE, *command_line(bundle, features, out), "--all", "--json"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stderr == "imported: []\n"
    assert json.loads(done.stdout)["figures"]["bundle"] == "v1"
    with out.open(newline="") as file:
        assert len(list(csv.reader(file))) == 1 + json.loads(done.stdout)["figures"]["rows"] == 1 + 172


def test_the_stage_alone_needs_no_pydantic_either(bundle: Bundle, rows: pd.DataFrame, tmp_path: Path) -> None:
    """A later typer may bring pydantic; nothing of ours asks for either."""
    features = write(tmp_path / "x.npz", rows)
    code = f"""
import sys
from pathlib import Path
for name in {(*HEAVY, "pydantic", "typer")!r}:
    sys.modules[name] = None
from pipeline import score
score.run(Path({str(bundle.directory)!r}), Path({str(features)!r}), Path("out.csv"))
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert len(forecasts(tmp_path / "out.csv")) == 8


def test_a_command_that_needs_more_says_what_to_install(bundle: Bundle, rows: pd.DataFrame, tmp_path: Path) -> None:
    features = write(tmp_path / "x.parquet", rows)
    command = [sys.executable, "-c", BARE, *command_line(bundle, features, tmp_path / "out.csv")]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.splitlines()[0] == "error: Parquet and Arrow need pyarrow: pip install 'tradewind[arrow]'"
    assert "Traceback" not in done.stderr


def copied_into_the_image() -> list[str]:
    lines = (ROOT / "Dockerfile").read_text().splitlines()
    copies = [line.split()[1:-1] for line in lines if line.startswith("COPY ") and "--from" not in line]
    return [name for names in copies for name in names]


def test_the_image_copies_what_is_there_and_what_its_context_lets_through() -> None:
    names = copied_into_the_image()
    assert all((ROOT / name).exists() for name in names)
    allowed = [line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")]
    assert sorted(names) == sorted(allowed)
    install = next(line for line in (ROOT / "Dockerfile").read_text().splitlines() if "pip install" in line)
    assert install.endswith("-c constraints.txt .")  # the base, no extra


@pytest.mark.slow
def test_a_base_install_scores(bundle: Bundle, rows: pd.DataFrame, tmp_path: Path) -> None:
    """The recipe of the image, without the image: its sources alone, into an environment of their own."""
    sources = tmp_path / "sources"
    sources.mkdir()
    kept = shutil.ignore_patterns("__pycache__")
    for name in copied_into_the_image():
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, sources / name, ignore=kept)
        else:
            shutil.copy(ROOT / name, sources / name)
    venv.create(tmp_path / "venv", with_pip=True)
    binaries = tmp_path / "venv" / "bin"
    environment = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "VIRTUAL_ENV")}

    def call(*command: str) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, env=environment)
        assert done.returncode == 0, done.stdout + done.stderr
        return done

    call(str(binaries / "python"), "-m", "pip", "install", "-q", "-c", str(sources / "constraints.txt"), str(sources))
    probe = f"import importlib.util as u; print([n for n in {HEAVY!r} if u.find_spec(n)])"
    assert call(str(binaries / "python"), "-c", probe).stdout.strip() == "[]"
    out = tmp_path / "out.csv"
    done = call(str(binaries / "tradewind"), *command_line(bundle, write(tmp_path / "x.csv", rows), out))
    assert "4 forecasts x 2 horizons by bundle v1 (promoted)" in done.stdout
    pd.testing.assert_frame_equal(forecasts(out), run(bundle, write(tmp_path / "y.npz", rows)), rtol=1e-6)
