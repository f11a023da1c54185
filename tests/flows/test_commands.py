"""`tradewind up | down | status | run`: what they start, say and leave behind."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from flows import api
from flows.server import TOKEN, Home, free_port, processes, stop


@pytest.fixture
def empty_project(project: Any, tmp_path: Path) -> Any:
    """A directory without a configuration file: all defaults."""
    return type(project)(tmp_path)


def members_of_group(group: int) -> list[int]:
    """Every process of a process group, whatever its environment says."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            if int(fields[2]) == group and fields[0] != "Z":
                found.append(int(entry.name))
    return found


def test_status_for_machines(project: Any, server: str) -> None:
    content = project.json("status")
    assert content["up"] is True
    assert content["url"] == server
    assert content["config"] == str(project.root / "tradewind.toml")
    by_flow = {one["flow"]: one for one in content["deployments"]}
    assert by_flow["daily"]["cron"] == "30 18 * * 1-5"
    assert by_flow["retrain"]["cron"] == "0 6 * * 6"
    assert {one["timezone"] for one in by_flow.values()} == {"America/New_York"}
    assert not any(one["paused"] for one in by_flow.values())


def test_status_for_people(project: Any, server: str) -> None:
    done = project.tradewind("status")
    assert done.returncode == 0
    assert f"up at {server}" in done.stdout
    assert "daily/scheduled" in done.stdout


def test_up_twice_says_so(project: Any, server: str) -> None:
    done = project.tradewind("up")
    assert done.returncode == 0
    assert f"already up at {server}" in done.stdout


def test_only_loopback_listens(server: str) -> None:
    port = int(server.rpartition(":")[2])
    listening = [line.split()[1] for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    assert f"0100007F:{port:04X}" in listening
    assert f"00000000:{port:04X}" not in listening


def test_nothing_is_up(empty_project: Any) -> None:
    down = empty_project.tradewind("down")
    assert (down.returncode, down.stdout) == (0, "nothing was running\n")
    status = empty_project.tradewind("status", "--json")
    assert status.returncode == 1
    assert json.loads(status.stdout) == {"up": False}
    run = empty_project.tradewind("run", "daily")
    assert run.returncode == 1
    assert run.stderr == "error: the flow server is not up; start it with: tradewind up\n"
    assert list(empty_project.root.iterdir()) == []


def test_a_taken_port_is_named(empty_project: Any) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        done = empty_project.tradewind("up", "--set", f"flows.port={port}")
    assert done.returncode == 1
    assert f"port {port} of 127.0.0.1 is in use" in done.stderr
    assert "--set flows.port=" in done.stderr


def test_a_wrong_schedule_leaves_nothing_behind(empty_project: Any) -> None:
    done = empty_project.tradewind("up", "--set", f"flows.port={free_port()}", "--set", "flows.daily_cron=often")
    assert done.returncode == 1
    assert "runner" in done.stderr
    state = Home(empty_project.root / "tradewind.toml").state()
    assert state is not None
    assert processes(state.token) == []


def test_usage_errors(empty_project: Any) -> None:
    assert empty_project.tradewind("run", "weekly").returncode == 2
    done = empty_project.tradewind("up", "--set", "flows.prot=4300")
    assert done.returncode == 2
    assert "did you mean flows.port?" in done.stderr


def test_a_failing_stage_is_one_line(project: Any, server: str) -> None:
    done = project.tradewind("run", "daily", "--set", 'data.prices=["nowhere.csv"]')
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("error: ")
    assert "nowhere.csv" in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr


@pytest.mark.slow
def test_up_recovers_from_a_killed_server_and_down_leaves_no_process(empty_project: Any) -> None:
    port = f"flows.port={free_port()}"
    assert empty_project.tradewind("up", "--set", port).returncode == 0
    home = Home(empty_project.root / "tradewind.toml")
    first = home.state()
    assert first is not None
    os.kill(first.server, signal.SIGKILL)
    try:
        assert empty_project.tradewind("status").returncode == 1
        done = empty_project.tradewind("up", "--set", port)
        assert done.returncode == 0, done.stderr
        assert processes(first.token) == []
        assert empty_project.tradewind("status").returncode == 0
        state = home.state()
        assert state is not None
        groups = [state.server, state.runner]
        assert all(members_of_group(group) for group in groups)
    finally:
        done = empty_project.tradewind("down")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("stopped ")
    assert [members_of_group(group) for group in groups] == [[], []]
    assert processes(state.token) == []
    assert home.state() is None
    assert not api.healthy(state.url)
    assert empty_project.tradewind("down").stdout == "nothing was running\n"


SLEEPING_INGEST = """
import sys, time, types
ingest = types.ModuleType("pipeline.ingest")
ingest.run = lambda config, progress: time.sleep(200)
sys.modules["pipeline.ingest"] = ingest
"""


@pytest.mark.slow
def test_down_ends_a_run_too_and_it_does_not_stay_running(
    empty_project: Any, monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    code = tmp_path_factory.mktemp("code")
    (code / "sitecustomize.py").write_text(SLEEPING_INGEST)
    monkeypatch.setenv("PYTHONPATH", str(code))
    monkeypatch.setenv("PREFECT_RUNNER_POLL_FREQUENCY", "1")
    port = f"flows.port={free_port()}"
    assert empty_project.tradewind("up", "--set", port).returncode == 0
    home = Home(empty_project.root / "tradewind.toml")
    state = home.state()
    assert state is not None
    try:
        deployment = api._request(f"{state.url}/api/deployments/name/daily/scheduled")
        api._request(f"{state.url}/api/deployments/{deployment['id']}/create_flow_run", {})
        deadline = time.monotonic() + 120
        while not (runs := api.last_runs(state.url)) or runs[0].state != "Running":
            assert time.monotonic() < deadline, f"no run was started: {runs}"
            time.sleep(0.5)
        while len(found := processes(state.token)) != 3:  # a child that asks for the platform comes and goes
            assert time.monotonic() < deadline, found
            time.sleep(0.5)
        assert empty_project.tradewind("down").returncode == 0
        assert processes(state.token) == []
        assert [members_of_group(group) for group in (state.server, state.runner)] == [[], []]
        assert empty_project.tradewind("up", "--set", port).returncode == 0
        assert [run.state for run in api.last_runs(state.url)] == ["Crashed"]
    finally:
        assert empty_project.tradewind("down").returncode == 0


def test_down_spares_a_stranger_with_a_recorded_id(empty_project: Any) -> None:
    stranger = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    try:
        home = empty_project.root / ".tradewind"
        home.mkdir()
        content = {
            "token": "gone", "url": "http://127.0.0.1:1", "config_path": None, "overrides": [],
            "server": stranger.pid, "runner": stranger.pid, "started_at": 0.0,
        }  # fmt: skip
        (home / "state.json").write_text(json.dumps(content))
        assert empty_project.tradewind("down").stdout == "nothing was running\n"
        assert stranger.poll() is None
    finally:
        stranger.kill()
        stranger.wait()


def test_stop_reaches_other_groups_and_those_that_ignore_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("flows.server.GRACE_SECONDS", 0.5)
    stubborn = (
        "import signal, time\n"
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "print('deaf', flush=True)\n"
        "time.sleep(60)\n"
    )
    child = f"[sys.executable, '-c', {stubborn!r}]"
    code = f"import subprocess, sys; subprocess.run({child}, start_new_session=True)"
    parent = subprocess.Popen(
        [sys.executable, "-c", code], env=os.environ | {TOKEN: "stubborn"}, stdout=subprocess.PIPE
    )
    assert parent.stdout is not None
    parent.stdout.readline()
    assert len(processes("stubborn")) == 2
    assert stop("stubborn") == 2
    assert processes("stubborn") == []
    parent.wait()
    parent.stdout.close()


def test_an_unreadable_record_is_nothing(tmp_path: Path) -> None:
    (tmp_path / ".tradewind").mkdir()
    (tmp_path / ".tradewind" / "state.json").write_text("{half")
    assert Home(tmp_path / "tradewind.toml").state() is None


def test_commands_start_without_prefect_and_pandas() -> None:
    code = (
        "import sys\n"
        "for name in ('prefect', 'pandas', 'torch', 'pydantic'): sys.modules[name] = None\n"
        "import typer, flows.commands\n"
        "app = typer.Typer(); flows.commands.register(app)\n"
    )
    began = time.perf_counter()
    subprocess.run([sys.executable, "-c", code], check=True)
    assert time.perf_counter() - began < 5
