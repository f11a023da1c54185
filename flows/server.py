"""The processes behind `tradewind up`: a Prefect server on loopback and the process serving the flows.

Everything they keep lies in `.tradewind/` beside the configuration file: the server's database, the logs, and
`state.json`, which says what is up. Every process started, and every one that those start, carries the token
of that file in its environment. By it `down` finds them all, in whichever process group they are, and never
a stranger that was given an old process id.
"""

from __future__ import annotations

import fcntl
import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from flows import api
from pipeline.config import DEFAULT_FILE, Config
from pipeline.errors import ServerError

TOKEN = "TRADEWIND_SERVER_TOKEN"
START_SECONDS = 120.0
GRACE_SECONDS = 15.0
DEPLOYMENTS = 2


@dataclass(frozen=True)
class State:
    """What `tradewind up` started.

    Attributes:
        token: in the environment of every process that belongs to it.
        url: address of the server.
        config_path: the configuration file that the flows read; None where there is none.
        overrides: the `--set` values of `up`, which the scheduled runs get too.
        server: process id, and process group, of the Prefect server.
        runner: the same of the process that starts the scheduled runs.
        started_at: seconds since the epoch.
    """

    token: str
    url: str
    config_path: str | None
    overrides: tuple[str, ...]
    server: int
    runner: int
    started_at: float


class Home:
    """The `.tradewind` directory of one project.

    Args:
        config_path: the configuration file; None for the one of the working directory, if there.
    """

    def __init__(self, config_path: Path | None) -> None:
        default = Path(DEFAULT_FILE)
        file = config_path if config_path is not None else (default if default.is_file() else None)
        self.config_path = None if file is None else str(file.resolve())
        self.root = (Path.cwd() if file is None else file.resolve().parent) / ".tradewind"
        self._state = self.root / "state.json"

    def state(self) -> State | None:
        """What is recorded as started; None if nothing is, or the record cannot be read."""
        try:
            content = json.loads(self._state.read_text())
            return State(**{**content, "overrides": tuple(content["overrides"])})
        except (FileNotFoundError, ValueError, TypeError, KeyError):
            return None

    def running(self) -> State | None:
        """What is up: both processes live and the server answers."""
        state = self.state()
        if state is None or not {state.server, state.runner} <= set(processes(state.token)):
            return None
        return state if api.healthy(state.url) else None

    def up(self, config: Config, overrides: Sequence[str], say: Callable[[str], None]) -> State:
        """Start the server and the serving process, and wait until both deployments are registered.

        Raises:
            ServerError: the port is taken, or a process ended or was not ready in time; none is left.
        """
        if not Path("/proc/self/environ").exists():
            raise ServerError("tradewind up needs Linux: it finds its processes through /proc")
        self.root.mkdir(parents=True, exist_ok=True)
        with self._locked():
            running = self.running()
            if running is not None:
                return running
            self._stop()
            port = config.flows.port
            if not is_free(port):
                raise ServerError(f"port {port} of 127.0.0.1 is in use; choose another: --set flows.port={port + 1}")
            token = secrets.token_hex(12)
            try:
                return self._start(token, port, overrides, say)
            except BaseException:
                stop(token)
                raise

    def down(self) -> int:
        """Stop everything that `up` started and return how many processes that were; 0 if nothing ran.

        Raises:
            ServerError: a process could not be stopped.
        """
        if not self.root.is_dir():
            return 0
        with self._locked():
            return self._stop()

    def client_environment(self, url: str) -> dict[str, str]:
        """The environment of a process whose flows report to the server at `url`."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_API")}
        direct = ",".join(filter(None, (kept.get("NO_PROXY", ""), "127.0.0.1")))
        return kept | {
            "PREFECT_HOME": str(self.root / "prefect"),
            "PREFECT_API_URL": f"{url}/api",
            "PREFECT_LOGGING_EXTRA_LOGGERS": "pipeline,models,features",
            # Without these two the server reports to its maker, and fails with `database is locked` offline.
            "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
            "DO_NOT_TRACK": "1",
            "NO_PROXY": direct,
            "no_proxy": direct,
        }

    def _start(self, token: str, port: int, overrides: Sequence[str], say: Callable[[str], None]) -> State:
        url = f"http://127.0.0.1:{port}"
        environment = self.client_environment(url) | {
            TOKEN: token,
            "PYTHONSAFEPATH": "1",  # a folder of the project named like a module must not be imported for it
            "PREFECT_SERVER_UI_API_URL": f"{url}/api",
            # A page of another site must not reach the server through the user's browser.
            "PREFECT_SERVER_CORS_ALLOWED_ORIGINS": url,
        }
        state = State(token, url, self.config_path, tuple(overrides), 0, 0, time.time())
        self._record(state)  # before anything starts, so that a killed `up` leaves no stranger behind
        say(f"starting the Prefect server at {url} ...")
        command = ["prefect", "server", "start", "--host", "127.0.0.1", "--port", str(port)]
        server = self._spawn("server", command, environment)
        self._await("server", server, lambda: api.healthy(url))
        api.close_unfinished(url)
        say("registering the deployments ...")
        command = ["flows.deployments"]
        if self.config_path is not None:
            command += ["--config", self.config_path]
        command += [part for override in overrides for part in ("--set", override)]
        runner = self._spawn("runner", command, environment)
        self._await("runner", runner, lambda: api.registered(url, token) == DEPLOYMENTS)
        state = replace(state, server=server.pid, runner=runner.pid)
        self._record(state)
        return state

    def _record(self, state: State) -> None:
        temporary = self._state.with_suffix(".tmp")
        temporary.write_text(json.dumps(asdict(state), indent=1))
        temporary.replace(self._state)

    def _spawn(self, name: str, module: Sequence[str], environment: dict[str, str]) -> subprocess.Popen[bytes]:
        with (self.root / f"{name}.log").open("wb") as log:
            return subprocess.Popen(
                [sys.executable, "-m", *module], cwd=self.root.parent, env=environment,
                stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, start_new_session=True,
            )  # fmt: skip

    def _await(self, name: str, process: subprocess.Popen[bytes], ready: Callable[[], bool]) -> None:
        log = self.root / f"{name}.log"
        deadline = time.monotonic() + START_SECONDS
        while not ready():
            if process.poll() is not None:
                tail = log.read_text(errors="replace").strip().splitlines()[-1:]
                raise ServerError(f"the {name} process ended ({process.returncode}): {' '.join(tail)}; see {log}")
            if time.monotonic() > deadline:
                raise ServerError(f"the {name} process was not ready after {START_SECONDS:.0f} s; see {log}")
            time.sleep(0.25)

    def _stop(self) -> int:
        state = self.state()
        stopped = 0 if state is None else stop(state.token, last=state.server)
        self._state.unlink(missing_ok=True)
        return stopped

    @contextmanager
    def _locked(self) -> Iterator[None]:
        with (self.root / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield


def processes(token: str) -> list[int]:
    """Ids of the living processes that carry the token in their environment."""
    marker = f"{TOKEN}={token}".encode()
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                variables = (entry / "environ").read_bytes().split(b"\0")
            except OSError:  # another user's, or just ended
                continue
            if marker in variables:
                found.append(int(entry.name))
    return sorted(found)


def stop(token: str, last: int | None = None) -> int:
    """End every process with the token; the server last, so that the others can still tell it how they ended.

    Returns:
        How many there were.

    Raises:
        ServerError: one outlived SIGKILL.
    """
    present = processes(token)
    if last in present:
        _signal([pid for pid in present if pid != last], signal.SIGTERM)
        _gone(lambda: [pid for pid in processes(token) if pid != last], GRACE_SECONDS)
    _signal(processes(token), signal.SIGTERM)
    if not _gone(lambda: processes(token), GRACE_SECONDS):
        _signal(processes(token), signal.SIGKILL)
        if not _gone(lambda: processes(token), GRACE_SECONDS):
            raise ServerError(f"these processes do not end: {processes(token)}")
    return len(present)


def is_free(port: int) -> bool:
    """Whether nothing listens on the port of 127.0.0.1."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


def free_port() -> int:
    """A port of 127.0.0.1 that nothing listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _signal(pids: Sequence[int], number: signal.Signals) -> None:
    for pid in pids:
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            continue


def _gone(left: Callable[[], list[int]], seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while left():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.1)
    return True
