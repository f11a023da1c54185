"""The scorer: one forecast however it is asked for, nothing where nothing is known, and proof before use."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from models.compact import bundle as bundles
from models.compact import integer, runtime
from models.compact.bundle import MANIFEST, BundleError
from models.compact.numpy_graph import NumpyGraph
from models.compact.onnx_graph import OnnxGraph
from models.compact.runtime import Runtime, Scorer, target_weights
from models.decode import Forecast, decode
from models.receptive_field import FIELD
from tests.models.compact import bundle_fixture as small

HORIZONS = small.HORIZONS


@pytest.fixture(scope="module")
def scorer(tmp_path_factory: pytest.TempPathFactory) -> Scorer:
    return Scorer(small.write(tmp_path_factory.mktemp("bundle") / "v1"))


@pytest.fixture(scope="module")
def x() -> np.ndarray:
    return small.raw(10, 5, 150, missing=0.1)


@pytest.fixture(scope="module")
def vol() -> np.ndarray:
    vol = np.random.default_rng(11).uniform(0.005, 0.03, (5, 150)).astype(np.float32)
    vol[1, :100] = np.nan  # listed late
    vol[2, 90] = np.nan  # one unknown
    vol[3] = np.nan
    return vol


def close(found: Forecast, expected: Forecast, rtol: float = 1e-5) -> None:
    for part, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(part, other, rtol=rtol, atol=1e-9)


def every_window(x: np.ndarray) -> np.ndarray:
    """(N, T, K) -> (N * (T - 63), 64, K)."""
    windows = np.lib.stride_tricks.sliding_window_view(x, FIELD, axis=1)  # (N, S, K, 64)
    return windows.transpose(0, 1, 3, 2).reshape(-1, FIELD, x.shape[2])


@pytest.mark.parametrize("runtime", ["onnxruntime", "numpy"])
@pytest.mark.parametrize("coded", [False, True])
def test_every_window_is_its_cell_of_the_panel(
    scorer: Scorer, x: np.ndarray, vol: np.ndarray, runtime: Runtime, coded: bool
) -> None:
    """Every ticker and session: one is missing for a while, one is listed late, one leaves early."""
    x = x.copy()
    x[0, 90:104] = np.nan
    x[1, :100] = np.nan
    x[4, 110:] = np.nan
    vol = np.where(np.isnan(x).all(-1), np.nan, vol)
    held = Scorer(scorer.bundle, runtime=runtime)
    of = scorer.bundle.codes(x) if coded else x
    last = x[:, FIELD - 1 :] if coded else None
    panel = held.panel(of, vol, last)
    rows = None if last is None else last.reshape(-1, last.shape[2])
    windows = held.window(every_window(of), vol[:, FIELD - 1 :].ravel(), rows)
    cells = Forecast(*(part[:, FIELD - 1 :].reshape(found.shape) for part, found in zip(panel, windows, strict=True)))
    close(windows, cells)
    assert 100 < np.isfinite(cells.sigma[:, 0]).sum() < len(cells.sigma)


def test_the_integer_body_of_every_window_is_the_panels(scorer: Scorer, x: np.ndarray) -> None:
    """What the shipped files say, bit for bit."""
    panel, window = (NumpyGraph(scorer.bundle.directory / f"{name}.onnx").layers for name in ("panel", "window"))
    codes = scorer.bundle.codes(x)
    expected = integer.hidden_panel(panel, codes)[-1]
    found = integer.hidden_window(window, every_window(codes))[-1]
    np.testing.assert_array_equal(found.reshape(expected.shape), expected)


@pytest.mark.parametrize("threads", [1, 2])
def test_numpy_forecasts_as_onnx_runtime_does(scorer: Scorer, x: np.ndarray, vol: np.ndarray, threads: int) -> None:
    other = Scorer(scorer.bundle, threads, "numpy")
    assert other.self_check() <= 1e-5
    close(other.panel(x, vol), scorer.panel(x, vol))
    close(other.window(x[:, :FIELD], vol[:, 101]), scorer.window(x[:, :FIELD], vol[:, 101]))


@pytest.mark.parametrize("runtime", ["onnxruntime", "numpy"])
def test_codes_forecast_what_the_features_do(scorer: Scorer, x: np.ndarray, vol: np.ndarray, runtime: Runtime) -> None:
    held, codes = Scorer(scorer.bundle, runtime=runtime), scorer.bundle.codes(x)
    for found, expected in (
        (held.panel(codes, vol, x[:, FIELD - 1 :]), held.panel(x, vol)),
        (held.window(codes[:, :FIELD], vol[:, 101], x[:, FIELD - 1]), held.window(x[:, :FIELD], vol[:, 101])),
    ):
        for part, other in zip(found, expected, strict=True):
            np.testing.assert_array_equal(part, other)


@pytest.mark.parametrize("value", [np.inf, -np.inf, 1e30, -1e30])
def test_beyond_the_limit_is_the_limit(scorer: Scorer, x: np.ndarray, vol: np.ndarray, value: float) -> None:
    """Winsorised to 5 scaled, infinities too; the features' own units are far from both."""
    beyond, at = x.copy(), x.copy()
    beyond[:, 60:80, 1] = value
    at[:, 60:80, 1] = small.CENTER[1] + 5 * small.SCALE[1] * np.sign(value)
    close(scorer.panel(beyond, vol), scorer.panel(at, vol), rtol=0)


def test_int8_is_near_the_float_student(scorer: Scorer, x: np.ndarray) -> None:
    scaled = scorer.bundle.scaler.transform(x)
    graph = OnnxGraph(scorer.bundle.directory / "panel.onnx")
    exact, found = small.network().forward_panel(scaled), graph(scorer.bundle.scaled_body(x), scaled[:, FIELD - 1 :])
    assert 1 - ((found - exact) ** 2).mean() / exact.var() > 0.999


def test_shapes_and_what_is_unknown(scorer: Scorer, x: np.ndarray, vol: np.ndarray) -> None:
    found = scorer.panel(x, vol)
    h = len(HORIZONS)
    assert (found.sigma.shape, found.quantiles.shape, found.p_up.shape) == ((5, 150, h), (5, 150, h, 9), (5, 150, h))
    known = np.isfinite(vol)
    known[:, : FIELD - 1] = False
    for part in found:
        cells = np.isfinite(part).reshape(5, 150, -1)
        assert (cells.all(-1) == known).all()
        assert (cells.any(-1) == known).all()


def test_a_missing_feature_counts_as_its_centre(scorer: Scorer, vol: np.ndarray) -> None:
    missing = small.raw(10, 5, 150)
    missing[..., 4] = np.nan
    centred = missing.copy()
    centred[..., 4] = small.CENTER[4]
    close(scorer.panel(missing, vol), scorer.panel(centred, vol), rtol=0)


@pytest.mark.parametrize("cells", [1, 149, 150, 301, 10_000])
def test_the_size_of_the_chunks_does_not_matter(
    scorer: Scorer, x: np.ndarray, vol: np.ndarray, cells: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = scorer.panel(x, vol)
    windows, at = np.repeat(x[:, -FIELD:], 3, axis=0), np.repeat(vol[:, -1], 3)
    newest = scorer.window(windows, at)
    monkeypatch.setattr(runtime, "PANEL_CELLS", cells)
    monkeypatch.setattr(runtime, "WINDOW_CHUNK", max(1, cells % 7))
    close(scorer.panel(x, vol), whole, rtol=1e-6)
    close(scorer.window(windows, at), newest, rtol=1e-6)


def test_a_ticker_alone_is_the_ticker_among_others(scorer: Scorer, x: np.ndarray, vol: np.ndarray) -> None:
    whole = scorer.panel(x, vol)
    close(scorer.panel(x[2:3], vol[2:3]), Forecast(*(part[2:3] for part in whole)), rtol=1e-6)


def test_later_sessions_change_no_earlier_byte(scorer: Scorer, x: np.ndarray, vol: np.ndarray) -> None:
    altered = x.copy()
    altered[:, 120:] = 99
    for before, after in zip(scorer.panel(x, vol), scorer.panel(altered, vol), strict=True):
        assert before[:, :120].tobytes() == after[:, :120].tobytes()


def test_threads_do_not_change_the_forecast(scorer: Scorer, x: np.ndarray, vol: np.ndarray) -> None:
    close(Scorer(scorer.bundle, threads=2).panel(x, vol), scorer.panel(x, vol), rtol=1e-6)


def test_nothing_in_nothing_out(scorer: Scorer) -> None:
    none = scorer.window(small.raw(0, 0, FIELD), np.zeros(0, np.float32))
    assert none.quantiles.shape == (0, len(HORIZONS), 9)
    assert scorer.panel(small.raw(0, 0, 70), np.zeros((0, 70), np.float32)).sigma.shape == (0, 70, len(HORIZONS))


def test_a_panel_of_one_window(scorer: Scorer, x: np.ndarray, vol: np.ndarray) -> None:
    found = scorer.panel(x[:, :FIELD], vol[:, :FIELD])
    close(Forecast(*(part[:, -1] for part in found)), scorer.window(x[:, :FIELD], vol[:, FIELD - 1]))


@pytest.mark.parametrize(
    ("shape", "vol_shape", "message"),
    [
        ((2, 63, 5), (2,), "a window holds 64 sessions, got 63"),
        ((2, 65, 5), (2,), "a window holds 64 sessions, got 65"),
        ((2, 64, 4), (2,), r"features must be \(rows, sessions, 5\), got \(2, 64, 4\)"),
        ((64, 5), (2,), r"features must be \(rows, sessions, 5\), got \(64, 5\)"),
        ((2, 64, 5), (1,), r"volatilities must be \(2,\), got \(1,\)"),
        ((2, 64, 5), (2, 64), r"volatilities must be \(2,\), got \(2, 64\)"),
    ],
)
def test_windows_of_another_shape(
    scorer: Scorer, shape: tuple[int, ...], vol_shape: tuple[int, ...], message: str
) -> None:
    with pytest.raises(BundleError, match=message):
        scorer.window(np.zeros(shape, np.float32), np.ones(vol_shape, np.float32))


@pytest.mark.parametrize(
    ("shape", "vol_shape", "message"),
    [
        ((2, 63, 5), (2, 63), "a forecast needs 64 sessions of features, got 63"),
        ((2, 70, 6), (2, 70), r"features must be \(rows, sessions, 5\), got \(2, 70, 6\)"),
        ((70, 5), (70,), r"features must be \(rows, sessions, 5\), got \(70, 5\)"),
        ((2, 70, 5), (1, 70), r"volatilities must be \(2, 70\), got \(1, 70\)"),
        ((2, 70, 5), (2,), r"volatilities must be \(2, 70\), got \(2,\)"),
    ],
)
def test_panels_of_another_shape(
    scorer: Scorer, shape: tuple[int, ...], vol_shape: tuple[int, ...], message: str
) -> None:
    with pytest.raises(BundleError, match=message):
        scorer.panel(np.zeros(shape, np.float32), np.ones(vol_shape, np.float32))


@pytest.mark.parametrize(
    ("x", "last", "message"),
    [
        (np.zeros((2, 64, 5), np.uint8), np.zeros((2, 5)), r"features must be \(rows, sessions, 3\), got \(2, 64, 5\)"),
        (np.zeros((2, 64, 3), np.uint8), None, "uint8 features need the last sessions beside them, .* x is uint8"),
        (np.zeros((2, 64, 5), np.float32), np.zeros((2, 5)), "they alone; x is float32"),
        (np.zeros((2, 64, 3), np.uint8), np.zeros((2, 3)), r"last sessions must be \(2, 5\), got \(2, 3\)"),
    ],
)
def test_codes_and_last_sessions_belong_together(
    scorer: Scorer, x: np.ndarray, last: np.ndarray | None, message: str
) -> None:
    with pytest.raises(BundleError, match=message):
        scorer.window(x, np.ones(2, np.float32), last)


@pytest.mark.parametrize("runtime", ["onnxruntime", "numpy"])
@pytest.mark.parametrize("with_skip", [True, False])
def test_the_skip_alone_and_the_baseline_are_bundles_too(
    tmp_path: Path, x: np.ndarray, vol: np.ndarray, runtime: Runtime, with_skip: bool
) -> None:
    """The same schema and runtime: the ridge on the last session's features, and a constant; no convolution."""
    whole = small.network()
    silent = {"head_weight": np.zeros_like(whole.head_weight), "head_bias": np.zeros_like(whole.head_bias)}
    for name in ("conv_weight", "conv_bias"):
        silent[name] = tuple(np.zeros_like(part) for part in getattr(whole, name))
    if not with_skip:
        silent["skip_weight"] = np.zeros_like(whole.skip_weight)
    student = replace(whole, **silent)
    held = Scorer(small.write(tmp_path / "v1", student), runtime=runtime)
    assert held.self_check() <= 1e-5
    found, b = held.panel(x, vol), held.bundle
    last = b.scaler.transform(x) @ student.skip_weight + student.skip_bias  # (N, T, H * 4)
    expected = decode(last.reshape(*vol.shape, -1, 4), vol, b.horizons, b.residual_shape, b.sigma_factor)
    close(Forecast(*(part[:, FIELD - 1 :] for part in found)), Forecast(*(part[:, FIELD - 1 :] for part in expected)))


# -- proof before use -----------------------------------------------------------------------------------------


def resealed(scorer: Scorer, directory: Path) -> Path:
    copy = Path(shutil.copytree(scorer.bundle.directory, directory))
    manifest = json.loads((copy / MANIFEST).read_text())
    for key in ("schema_version", "files", "manifest_sha256"):
        del manifest[key]
    (copy / MANIFEST).write_text(json.dumps(manifest))
    return copy


def reseal(directory: Path) -> Scorer:
    return Scorer(bundles.seal(directory, json.loads((directory / MANIFEST).read_text())))


def test_the_check_passes_and_says_how_closely(scorer: Scorer) -> None:
    assert 0 <= scorer.self_check() <= 1e-5


@pytest.mark.parametrize("change", [1e-3, -1.0, np.nan, np.inf])
def test_other_golden_outputs_are_caught(scorer: Scorer, tmp_path: Path, change: float) -> None:
    copy = resealed(scorer, tmp_path / "v1")
    with np.load(copy / "golden.npz") as golden:
        x, y = golden["x"], golden["y"].copy()
    y[3, 0, 1] += change
    np.savez(copy / "golden.npz", x=x, y=y)
    with pytest.raises(
        BundleError, match=r"window\.onnx differs from golden\.npz by \S+, more than 1e-05, on this machine"
    ):
        reseal(copy).self_check()


def test_other_golden_shapes_are_caught(scorer: Scorer, tmp_path: Path) -> None:
    copy = resealed(scorer, tmp_path / "v1")
    with np.load(copy / "golden.npz") as golden:
        x, y = golden["x"], golden["y"]
    np.savez(copy / "golden.npz", x=x, y=y[:1])
    with pytest.raises(BundleError, match=r"golden\.npz holds \(8, 64, 5\) inputs and \(1, 2, 4\) outputs"):
        reseal(copy).self_check()


def test_a_graph_that_does_not_belong_is_caught(scorer: Scorer, tmp_path: Path) -> None:
    copy = resealed(scorer, tmp_path / "v1")
    (copy / "panel.onnx").write_bytes((copy / "window.onnx").read_bytes())
    with pytest.raises(BundleError, match=r"panel\.onnx cannot be run"):
        reseal(copy).self_check()


def test_a_file_that_is_no_graph_is_named(scorer: Scorer, tmp_path: Path) -> None:
    copy = resealed(scorer, tmp_path / "v1")
    (copy / "window.onnx").write_bytes(b"not a graph")
    with pytest.raises(BundleError, match=r"window\.onnx cannot be run"):
        reseal(copy).self_check()


# -- sizing ---------------------------------------------------------------------------------------------------


def test_weights_by_hand() -> None:
    sizing = {"target_volatility": 0.1, "horizon": 7, "max_weight": 1.5}
    sigma = np.array([[9.0, 0.04, 9.0], [9.0, 0.001, 9.0], [np.nan, np.nan, np.nan]])
    weight = target_weights(sigma, (1, 5, 20), sizing)  # 5 is the nearest horizon not above 7
    np.testing.assert_allclose(weight, [0.1 / (0.04 * np.sqrt(252 / 5)), 1.5, np.nan])


def test_the_shortest_horizon_sizes_where_none_is_short_enough() -> None:
    sizing = {"target_volatility": 0.1, "horizon": 1, "max_weight": 9.0}
    np.testing.assert_allclose(target_weights(np.array([[0.04, 9.0]]), (5, 20), sizing), 0.1 / (0.04 * np.sqrt(50.4)))


def run_python(code: str) -> str:
    environment = dict(os.environ) | {"PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


SCORE = """
import sys
from pathlib import Path
import numpy as np
from models.compact.bundle import BundleError, load
from models.compact.runtime import Scorer
scorer = Scorer(load(Path({directory!r})), runtime={runtime!r})
x = np.load({x!r})
"""


def test_only_numpy_and_onnx_runtime_are_imported(scorer: Scorer, x: np.ndarray, tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", x)
    code = SCORE.format(directory=str(scorer.bundle.directory), runtime="onnxruntime", x=str(tmp_path / "x.npy"))
    code += """
scorer.panel(x, np.ones(x.shape[:2], np.float32))
heavy = {'torch', 'sklearn', 'pandas', 'prefect', 'pydantic', 'pyarrow', 'deltalake', 'onnx', 'typer'}
print(sorted(heavy & set(sys.modules)), 'onnxruntime' in sys.modules)
"""
    assert run_python(code) == "[] True"


@pytest.mark.parametrize(("wanted", "kept"), [({}, False), ({"ORT_DISABLE_TELEMETRY": "0"}, True)])
def test_onnx_runtime_keeps_no_record_of_what_is_scored_unless_asked_to(
    scorer: Scorer, x: np.ndarray, tmp_path: Path, wanted: dict[str, str], kept: bool
) -> None:
    np.save(tmp_path / "x.npy", x)
    code = SCORE.format(directory=str(scorer.bundle.directory), runtime="onnxruntime", x=str(tmp_path / "x.npy"))
    code += "scorer.panel(x, np.ones(x.shape[:2], np.float32))"
    home = tmp_path / "home"
    home.mkdir()
    subprocess.run([sys.executable, "-c", code], cwd=Path.cwd(), env={"HOME": str(home)} | wanted, check=True)
    assert any(home.rglob("*")) == kept


def test_numpy_scores_where_onnx_runtime_cannot_be_imported(
    scorer: Scorer, x: np.ndarray, vol: np.ndarray, tmp_path: Path
) -> None:
    np.save(tmp_path / "x.npy", x)
    np.save(tmp_path / "vol.npy", vol)
    gone = "import sys; sys.modules['onnxruntime'] = None\n"
    names = {"directory": str(scorer.bundle.directory), "x": str(tmp_path / "x.npy")}
    vols, out = str(tmp_path / "vol.npy"), str(tmp_path / "out.npz")
    run_python(
        f"{gone}{SCORE.format(runtime='numpy', **names)}\nscorer.self_check()\n"
        f"np.savez({out!r}, **scorer.panel(x, np.load({vols!r}))._asdict())"
    )
    with np.load(tmp_path / "out.npz") as held:
        close(Forecast(**held), scorer.panel(x, vol))
    asked = f"""
try:
    scorer.panel(x, np.load({vols!r}))
except BundleError as error:
    print(error)
"""
    said = run_python(gone + SCORE.format(runtime="onnxruntime", **names) + asked)
    assert said.startswith("ONNX Runtime cannot be imported here (")
    assert said.endswith("; score without it: --runtime numpy")


def test_a_year_round_the_clock_has_more_sessions() -> None:
    """By hand: the same daily sigma is a larger annual one, so less is held."""
    sizing = {"target_volatility": 0.1, "horizon": 1, "max_weight": 9.0, "sessions_per_year": 365}
    np.testing.assert_allclose(target_weights(np.array([[0.02]]), (1,), sizing), 0.1 / (0.02 * np.sqrt(365)))
