"""The command line as a whole: exit codes, one line for an error, help with an example, JSON that parses."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import typer
from typer.testing import CliRunner

from models.compact.bundle import BundleError
from pipeline import cli
from pipeline.errors import PartialError, TradewindError, UsageError

COMMANDS = {
    "init", "doctor", "quickstart", "ingest", "features", "train", "compress", "backtest", "report", "score", "today",
    "up", "down", "status", "run", "demo", "lake status", "lake revisions", "lake quarantine", "lake compact",
    "sentiment train", "sentiment card", "sentiment ablation", "audit lookahead", "audit canaries", "tune",
    "agent train", "agent evaluate", "agent compare", "agent ship",
}  # fmt: skip


def command(name: str) -> Any:
    """The command as it parses its options; one of a group by both names."""
    found: Any = typer.main.get_command(cli.build())
    for part in name.split():
        found = found.commands[part]
    return found


def every_command() -> set[str]:
    """The names of all commands, those of a group behind its own."""
    commands = typer.main.get_command(cli.build()).commands  # type: ignore[attr-defined]
    groups = {name: getattr(each, "commands", {}) for name, each in commands.items()}
    plain = {name for name, inner in groups.items() if not inner}
    return plain | {f"{name} {part}" for name, inner in groups.items() for part in inner}


def call(*arguments: str, cwd: Path, absent: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    """Run the command line in its own process, in `cwd`, as if the packages `absent` were not installed."""
    code = f"import sys; sys.modules.update(dict.fromkeys({absent!r})); from pipeline.cli import main; main()"
    return subprocess.run(
        [sys.executable, "-c", code, *arguments], cwd=cwd, capture_output=True, text=True, check=False
    )


def is_one_error_line(text: str) -> bool:
    """Whether stderr is one `error:` line, after at most the lines of progress."""
    *before, last = text.splitlines()
    return last.startswith("error: ") and all(line.startswith("  ") and line.endswith(" ...") for line in before)


# -- every command --------------------------------------------------------------------------------------------


def test_every_command_is_found_through_its_entry_point() -> None:
    assert every_command() == COMMANDS


def test_score_is_the_same_command_when_it_is_built_without_the_others() -> None:
    alone, among_all = (
        CliRunner().invoke(cli.build(asked), ["score", "--help"], prog_name="tradewind") for asked in ("score", "")
    )
    assert alone.exit_code == 0
    assert alone.stdout == among_all.stdout
    assert "today" in CliRunner().invoke(cli.build("score"), ["--help"]).stdout  # else typer would drop the name score


def test_score_starts_without_a_search_of_what_is_installed(tmp_path: Path) -> None:
    code = (
        "import sys; from pipeline.cli import main\ntry: main()\n"
        "finally: print(*{'importlib.metadata', 'numpy.ma', 'pydantic', 'pandas'} & set(sys.modules))"
    )
    arguments = ("score", "--bundle", "none", "--features", "f.npz", "--out", "o.csv")
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (1, "\n"), done.stderr


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_help_shows_an_example_with_options_that_exist(name: str) -> None:
    text = CliRunner().invoke(cli.build(), [*name.split(), "--help"]).stdout
    example = re.search(rf"Example: tradewind {name}\b(.*?)\n\n", text, re.DOTALL)
    assert example, text
    known = {option for parameter in command(name).params for option in parameter.opts}
    assert set(re.findall(r"(?<!\S)--[a-z-]+", example[1])) <= known


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_every_option_says_what_it_does(name: str) -> None:
    parameters = command(name).params
    assert [each.name for each in parameters if not getattr(each, "help", None)] == []
    options = {option for parameter in parameters for option in parameter.opts}
    assert "--verbose" in options
    assert {"--config", "--json"} <= options or name == "demo"  # the demo brings its own configuration


def test_the_program_itself_is_installed(tmp_path: Path) -> None:
    program = Path(sys.executable).with_name("tradewind")
    done = subprocess.run([program, "--help"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0
    assert re.search(r"^  quickstart  ", done.stdout, re.MULTILINE)


# -- exit codes and messages ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("train",), 1, "has no table features; run the stage that writes it first"),
        (("report",), 1, "nothing has been trained yet; run: tradewind train"),
        (("today",), 1, "no bundle has been published yet; run: tradewind compress"),
        (("run", "daily"), 1, "the flow server is not up; start it with: tradewind up"),
        (("score", "--bundle", "none", "--features", "f.npz", "--out", "o.csv"), 1, "none"),
        (("ingest", "--set", "data.provider=files"), 1, "data.prices names no file"),
        (("ingest", "--config", "absent.toml"), 2, "no configuration file at absent.toml"),
        (("ingest", "--set", "universe.ticker=A"), 2, "did you mean universe.tickers?"),
        (("ingest", "--set", "models.gru.width=8"), 2, "unknown model gru"),
        (("ingest", "--set", "universe"), 2, "expected section.key=value"),
        (("score", "--bundle", "b", "--features", "f.txt", "--out", "o.csv"), 2, "the suffix must be one of"),
    ],
)
def test_an_expected_failure_is_one_line(tmp_path: Path, arguments: tuple[str, ...], code: int, message: str) -> None:
    done = call(*arguments, cwd=tmp_path)
    assert done.returncode == code, done.stderr
    assert done.stdout == ""
    assert message in done.stderr
    assert is_one_error_line(done.stderr), done.stderr


@pytest.mark.parametrize("arguments", [("nonsense",), ("ingest", "--nonsense"), ("score",), ("run", "weekly")])
def test_bad_usage_is_exit_2_with_the_way_to_the_help(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    done = call(*arguments, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert "--help' for help" in done.stderr
    assert "Error: " in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (TradewindError("told"), 1),
        (BundleError("told"), 1),
        (UsageError("told"), 2),
        (PartialError("told"), 3),
    ],
)
def test_each_error_has_its_exit_code(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], error: Exception, code: int
) -> None:
    def fail() -> None:
        raise error

    monkeypatch.setattr(cli, "build", lambda _: fail)
    with pytest.raises(SystemExit) as caught:
        cli.main()
    assert caught.value.code == code
    assert capsys.readouterr() == ("", "error: told\n")


def test_a_fault_of_ours_is_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> None:
        raise ModuleNotFoundError("No module named 'pipeline.absent'", name="pipeline.absent")

    monkeypatch.setattr(cli, "build", lambda _: fail)
    with pytest.raises(ModuleNotFoundError):
        cli.main()


# -- a missing extra ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "absent", "extra"),
    [
        (("ingest",), "pandas", "pipeline"),
        (("features",), "deltalake", "pipeline"),
        (("report",), "jinja2", "pipeline"),
        (("train",), "torch", "train"),
        (("compress",), "onnx", "train"),
        (("quickstart", "--sample"), "pandas", "pipeline"),
    ],
)
def test_a_missing_extra_names_the_command_that_installs_it(
    tmp_path: Path, arguments: tuple[str, ...], absent: str, extra: str
) -> None:
    done = call(*arguments, cwd=tmp_path, absent=(absent,))
    assert done.returncode == 1
    assert done.stderr.endswith(f"error: this command needs {absent}: pip install 'tradewind[{extra}]'\n")
    assert is_one_error_line(done.stderr), done.stderr


def test_parquet_without_pyarrow_names_its_extra(tmp_path: Path) -> None:
    arguments = ("score", "--bundle", "b", "--features", "f.parquet", "--out", "o.csv")
    done = call(*arguments, cwd=tmp_path, absent=("pyarrow",))
    assert done.returncode == 1
    assert "tradewind[arrow]" in done.stderr
    assert is_one_error_line(done.stderr), done.stderr


def test_help_needs_no_extra(tmp_path: Path) -> None:
    absent = ("pandas", "torch", "prefect", "deltalake", "exchange_calendars", "pyarrow")
    for arguments in (["--help"], ["train", "--help"]):
        assert call(*arguments, cwd=tmp_path, absent=absent).returncode == 0


# -- results --------------------------------------------------------------------------------------------------


@pytest.fixture
def project(tmp_path: Path, prices: pd.DataFrame) -> Path:
    """A directory with prices of its own and the configuration for them."""
    columns = ["ticker", "session", "open", "high", "low", "close", "volume"]
    prices[columns].to_csv(tmp_path / "my.csv", index=False)
    done = call("init", "--prices", "my.csv", "--set", "universe.min_sessions=300", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    return tmp_path


@pytest.mark.slow
def test_results_go_to_stdout_as_one_json_object(project: Path) -> None:
    done = call("ingest", "--json", cwd=project)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["figures"]
    assert found["left_out"] == []
    text = call("ingest", cwd=project)
    assert text.returncode == 0
    assert text.stdout
    assert not text.stdout.startswith("{")


def test_what_is_left_out_is_exit_3_and_in_the_json(project: Path) -> None:
    done = call("ingest", "--json", "--set", 'universe.tickers=["T00","T01","NONE"]', cwd=project)
    assert done.returncode == 3
    left_out = json.loads(done.stdout)["left_out"]
    assert len(left_out) == 1
    assert left_out[0].startswith("NONE")
    assert "error: ingest left out 1: NONE" in done.stderr
    assert is_one_error_line(done.stderr), done.stderr


def test_a_status_of_nothing_is_json_too(tmp_path: Path) -> None:
    done = call("status", "--json", cwd=tmp_path)
    assert done.returncode == 1
    assert json.loads(done.stdout) == {"up": False}
