"""score: whatever is read at a time, however many threads, straight from the lake, as codes: one answer."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from models.compact.bundle import Bundle, BundleError
from models.compact.runtime import Scorer
from pipeline import feature_rows as row_files
from pipeline import score
from pipeline.config import Config
from pipeline.errors import DataError, StoreError, UsageError
from pipeline.registry import Registry
from pipeline.store import Lake
from tests.models.compact import bundle_fixture as small
from tests.pipeline.score_fixture import KINDS, arrays, feature_rows, forecasts, run, write

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return small.write(tmp_path_factory.mktemp("bundles") / "v1")


@pytest.fixture(scope="module")
def rows() -> pd.DataFrame:
    return feature_rows()


@pytest.fixture
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """A ticker at a time, from batches that end within tickers."""
    monkeypatch.setattr(score, "BLOCK_BYTES", 1)
    monkeypatch.setattr(row_files, "BATCH_ROWS", 7)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("every", [False, True])
def test_what_is_read_at_a_time_does_not_matter(
    bundle: Bundle, rows: pd.DataFrame, tmp_path: Path, kind: str, every: bool, request: pytest.FixtureRequest
) -> None:
    features = write(tmp_path / f"x{kind}", rows)
    whole = run(bundle, features, every_session=every)
    request.getfixturevalue("small_pieces")
    pd.testing.assert_frame_equal(run(bundle, features, every_session=every), whole, rtol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.usefixtures("small_pieces")
def test_pieces_of_every_output_are_one_file(bundle: Bundle, rows: pd.DataFrame, tmp_path: Path, kind: str) -> None:
    features, out = write(tmp_path / "x.npz", rows), tmp_path / "deep" / f"out{kind}"
    score.run(bundle.directory, features, out, every_session=True)
    pd.testing.assert_frame_equal(
        forecasts(out), run(bundle, features, every_session=True), check_dtype=False, check_exact=True
    )
    assert [path.name for path in out.parent.iterdir()] == [out.name]


@pytest.mark.parametrize("every", [False, True])
def test_two_threads_and_numpy_forecast_the_same(
    bundle: Bundle, rows: pd.DataFrame, tmp_path: Path, every: bool
) -> None:
    features = write(tmp_path / "x.npz", rows)
    expected = run(bundle, features, every_session=every)
    pd.testing.assert_frame_equal(run(bundle, features, every_session=every, threads=2), expected, rtol=1e-6)
    pd.testing.assert_frame_equal(run(bundle, features, every_session=every, runtime="numpy"), expected, rtol=1e-5)


def test_the_newest_session_is_the_last_of_every_session(bundle: Bundle, rows: pd.DataFrame, tmp_path: Path) -> None:
    """Window and panel: halts, a new listing and a delisted ticker among them."""
    features = write(tmp_path / "x.npz", rows)
    newest = run(bundle, features).set_index(["ticker", "horizon"])
    every = run(bundle, features, every_session=True).groupby(["ticker", "horizon"]).last()
    pd.testing.assert_frame_equal(every.loc[newest.index, newest.columns], newest, rtol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_a_failure_on_the_way_leaves_nothing(
    bundle: Bundle, rows: pd.DataFrame, tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    features, calls = write(tmp_path / "x.npz", rows), []
    whole = score._columns

    def failing(*arguments: Any) -> score.Columns:
        calls.append(1)
        if len(calls) == 3:
            raise DataError("the third piece is bad")
        return whole(*arguments)

    monkeypatch.setattr(score, "BLOCK_BYTES", 1)
    monkeypatch.setattr(score, "_columns", failing)
    with pytest.raises(DataError, match="the third piece is bad"):
        score.run(bundle.directory, features, tmp_path / f"out{kind}", every_session=True)
    assert [path.name for path in tmp_path.iterdir()] == ["x.npz"]


# -- memory ---------------------------------------------------------------------------------------------------

MEASURE = """
import json, re, sys
from pathlib import Path
sys.path.insert(0, {root!r})
from pipeline import feature_rows, score
bundle, small, large, out, every = json.loads(sys.argv[1])
score.CELLS, feature_rows.BATCH_ROWS = 2048, 256
def peak():  # of this program alone: the kernel's other figure includes what started it
    return int(re.findall(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[0]) * 1024
score.run(Path(bundle), Path(small), Path(out), every)
before = peak()
score.run(Path(bundle), Path(large), Path(out), every)
print(peak() - before)
"""


def wide(path: Path, tickers: int, width: int) -> Path:
    """Feature files of which the bundle needs five columns; `tickers` x 200 x `width` random figures."""
    days = np.datetime64("2001-01-01", "s") + np.arange(200) * np.timedelta64(1, "D")
    names = [*small.FEATURES, *(f"other_{i}" for i in range(width - len(small.FEATURES)))]
    x = np.random.default_rng(0).standard_normal((tickers, len(days), width), dtype=np.float32)
    ticker, vol = np.array([f"T{i:04}" for i in range(tickers)]), np.full(x.shape[:2], 0.01, np.float32)
    if path.suffix == ".npz":
        held = {"x": x, "vol": vol, "session": days.astype("datetime64[D]"), "ticker": ticker}
        np.savez(path, **held, feature=np.array(names))
        return path
    keys = {"ticker": np.repeat(ticker, len(days)), "session": np.tile(days, tickers), "vol": vol.ravel()}
    return write(path, pd.DataFrame(keys).join(pd.DataFrame(x.reshape(-1, width), columns=names)), 2000)


@pytest.mark.parametrize(
    ("kind", "every", "width"),
    [(".npz", True, 150), (".npz", False, 150), (".parquet", True, 150), (".arrow", True, 150), (".csv", True, 40)],
)
def test_memory_does_not_grow_with_the_file(bundle: Bundle, tmp_path: Path, kind: str, every: bool, width: int) -> None:
    """The second file is many times the first, which is several pieces already."""
    files = [wide(tmp_path / f"{n}{kind}", n, width) for n in (20, 200)]
    arguments = json.dumps([str(bundle.directory), *map(str, files), str(tmp_path / "out.npz"), every])
    command = [sys.executable, "-c", MEASURE.format(root=str(ROOT)), arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    small_bytes, large_bytes = (file.stat().st_size for file in files)
    assert int(done.stdout) < 0.25 * (large_bytes - small_bytes)


# -- the lake -------------------------------------------------------------------------------------------------


def later(rows: pd.DataFrame) -> pd.DataFrame:
    """In two calendar years, those of the lake's partitions."""
    return rows.assign(session=rows["session"] + pd.Timedelta(days=250))


@pytest.fixture
def lake(small_config: Config, rows: pd.DataFrame) -> Lake:
    lake = Lake(small_config.data.lake)
    lake.replace("features", later(rows).astype({"ticker": "str", "vol": "float32"}))
    return lake


@pytest.mark.parametrize("every", [False, True])
@pytest.mark.usefixtures("lake")
def test_the_lake_gives_what_its_file_would(
    bundle: Bundle, rows: pd.DataFrame, small_config: Config, tmp_path: Path, every: bool
) -> None:
    expected = run(bundle, write(tmp_path / "x.npz", later(rows)), every_session=every)
    out = tmp_path / "lake.csv"
    summary = score.run_from_lake(small_config, out, bundle.directory, every)
    pd.testing.assert_frame_equal(forecasts(out), expected, check_exact=True)
    assert summary.figures["rows"] == len(expected)
    assert set(expected["session"].dt.year) == {2012, 2013}


@pytest.mark.usefixtures("lake")
def test_the_champion_scores_the_lake(bundle: Bundle, small_config: Config, tmp_path: Path) -> None:
    registry = Registry(small_config.data.artifacts)
    with pytest.raises(StoreError, match="no bundle has been published yet"):
        score.run_from_lake(small_config, tmp_path / "out.csv")
    shutil.copytree(bundle.directory, registry.root / "bundles" / "v1")
    registry.set_champion("v1")
    assert score.run_from_lake(small_config, tmp_path / "out.csv").figures["bundle"] == "v1"


def test_a_lake_without_the_features(bundle: Bundle, small_config: Config, rows: pd.DataFrame, tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="features"):
        score.run_from_lake(small_config, tmp_path / "out.csv", bundle.directory)
    Lake(small_config.data.lake).replace("features", rows.drop(columns=["gap", "tone"]).astype({"ticker": "str"}))
    with pytest.raises(DataError, match=r"the lake .* lacks gap, tone, which the bundle needs"):
        score.run_from_lake(small_config, tmp_path / "out.csv", bundle.directory)


@pytest.mark.usefixtures("lake")
def test_the_lake_is_scored_without_what_trains(bundle: Bundle, small_config: Config, tmp_path: Path) -> None:
    code = f"""
import sys
for name in ("torch", "sklearn", "onnx", "prefect"):
    sys.modules[name] = None
from pathlib import Path
from pipeline import score
from pipeline.config import Config, Data
config = Config(data=Data(provider="files", lake=Path({str(small_config.data.lake)!r})))
print(score.run_from_lake(config, Path("out.csv"), Path({str(bundle.directory)!r})).figures["rows"])
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "8\n"), done.stderr


# -- codes ----------------------------------------------------------------------------------------------------


def coded(bundle: Bundle, features: Path, every: bool = True) -> Path:
    out = features.with_name("codes.npz")
    score.write_codes(bundle.directory, features, out, every)
    return out


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("every", [False, True])
@pytest.mark.usefixtures("small_pieces")
def test_codes_score_to_the_same_bytes(
    bundle: Bundle, rows: pd.DataFrame, tmp_path: Path, kind: str, every: bool
) -> None:
    features = write(tmp_path / f"x{kind}", rows)
    expected = run(bundle, features, every_session=every)
    codes = coded(bundle, features, every)
    for runtime in ("onnxruntime", "numpy"):
        found = run(bundle, codes, every_session=every, runtime=runtime)
        pd.testing.assert_frame_equal(found, expected, check_exact=runtime == "onnxruntime")
    with np.load(codes) as held:
        assert held["x_u8"].dtype == np.uint8
        assert held["x_u8"].shape == (4, 90, len(small.BODY))


def test_codes_of_every_session_hold_the_newest(bundle: Bundle, rows: pd.DataFrame, tmp_path: Path) -> None:
    features = write(tmp_path / "x.npz", rows)
    expected = run(bundle, features)
    pd.testing.assert_frame_equal(run(bundle, coded(bundle, features)), expected, check_exact=True)


def test_codes_that_cannot_be_scored(bundle: Bundle, rows: pd.DataFrame, tmp_path: Path) -> None:
    features = write(tmp_path / "x.npz", rows)
    newest = coded(bundle, features, every=False)
    with pytest.raises(DataError, match="was coded for each ticker's newest session; code it again with --all"):
        run(bundle, newest, every_session=True)
    other = small.write(tmp_path / "other" / "v2", features=[f | {"scale": 3.0} for f in small.manifest()["features"]])
    with pytest.raises(DataError, match="was coded for a bundle with other features or scaling; code it again"):
        run(other, newest)
    with pytest.raises(DataError, match=r"codes\.npz holds codes already"):
        score.write_codes(bundle.directory, newest, tmp_path / "again.npz")
    with pytest.raises(UsageError, match=r"again\.csv: codes are written as \.npz"):
        score.write_codes(bundle.directory, features, tmp_path / "again.csv")
    short = write(tmp_path / "short.npz", rows[rows["session"] < rows["session"].min() + pd.Timedelta(days=50)])
    with pytest.raises(DataError, match="no ticker has 64 sessions with a volatility"):
        score.write_codes(bundle.directory, short, tmp_path / "again.npz")
    old = Bundle(bundle.directory, bundle.manifest | {"files": {}})
    with pytest.raises(BundleError, match="has no graphs for uint8 features"):
        Scorer(old).window(np.zeros((1, 64, 3), np.uint8), np.ones(1, np.float32), np.zeros((1, 5), np.float32))
    assert sorted(path.name for path in tmp_path.glob("*.npz")) == ["codes.npz", "short.npz", "x.npz"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"x_u8": lambda a: a["x_u8"].astype(np.int16)}, "x_u8 is int16, not uint8"),
        ({"last": lambda a: a["last"][1:]}, "last, n and t are not one row a cell, by ticker and session"),
        ({"n": lambda a: a["n"][::-1]}, "last, n and t are not one row a cell, by ticker and session"),
        ({"t": lambda a: None}, "has no array t; it holds"),
        ({"x_u8": lambda a: a["x_u8"][:, 1:]}, "not tickers x sessions x features"),
    ],
)
def test_a_file_of_codes_that_is_damaged(
    bundle: Bundle, rows: pd.DataFrame, tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    codes = coded(bundle, write(tmp_path / "x.npz", rows))
    with np.load(codes) as held:
        content = dict(held)
    content |= {name: change(content) for name, change in changes.items()}
    np.savez(codes, **{name: value for name, value in content.items() if value is not None})
    with pytest.raises(DataError, match=message):
        run(bundle, codes)


# -- files as others write them -------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["compressed", "fortran", "float64", "big endian"])
@pytest.mark.parametrize("every", [False, True])
@pytest.mark.usefixtures("small_pieces")
def test_any_npz_of_the_same_figures(bundle: Bundle, rows: pd.DataFrame, tmp_path: Path, how: str, every: bool) -> None:
    held = arrays(rows)
    expected = run(bundle, write(tmp_path / "x.npz", rows), every_session=every)
    changed = {
        "compressed": held["x"], "fortran": np.asfortranarray(held["x"]), "float64": held["x"].astype(float),
        "big endian": held["x"].astype(">f4"),
    }[how]  # fmt: skip
    (np.savez_compressed if how == "compressed" else np.savez)(tmp_path / "y.npz", **held | {"x": changed})
    pd.testing.assert_frame_equal(run(bundle, tmp_path / "y.npz", every_session=every), expected, check_exact=True)


def test_a_damaged_array_is_found(bundle: Bundle, rows: pd.DataFrame, tmp_path: Path) -> None:
    """Every byte is read in order, so the archive's own checksum is held against it."""
    path = write(tmp_path / "x.npz", rows)
    content = bytearray(path.read_bytes())
    content[content.index(b"x.npy") + 2000] ^= 1
    path.write_bytes(content)
    with pytest.raises(DataError, match="not a readable NPZ without pickle: Bad CRC-32"):
        run(bundle, path, every_session=True)
    assert not (tmp_path / "out.csv").exists()
