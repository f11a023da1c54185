"""What `tradewind doctor` looks at: the installation, the calendar, the lake, the network, the flow server.

Only the standard library is imported at the top, so that it can say what is missing where almost all is missing.
"""

from __future__ import annotations

import re
import tempfile
import urllib.error
import urllib.request
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from pipeline.errors import StoreError
from pipeline.summary import Summary

if TYPE_CHECKING:
    from pipeline.config import Config

EXTRAS = ("arrow", "pipeline", "train", "flows")
YAHOO = "https://query2.finance.yahoo.com/"
NETWORK_SECONDS = 4.0
SERVER_SECONDS = 1.0

_NAME = re.compile(r"[A-Za-z0-9._-]+")
_EXTRA = re.compile(r"extra\s*==\s*['\"]([^'\"]+)['\"]")


class Check(NamedTuple):
    """One finding. mark: `ok`, `no` (works without it) or `BROKEN` (has to be repaired)."""

    what: str
    mark: str
    detail: str


class Requirement(NamedTuple):
    """One requirement of the distribution; extra is '' for the base."""

    name: str
    specifier: str
    extra: str


def examine(config: Config | None, yahoo: str = YAHOO) -> Summary:
    """Check everything; never raises.

    Args:
        config: the configuration; None if what reads it is not installed, then only packages are checked.
        yahoo: the address that stands for the network.

    Returns:
        One line a check; figures: checks, broken (their names).
    """
    checks = list(packages())
    if config is not None:
        checks += [calendar(config), lake(config), network(yahoo), server(config)]
    width = max(len(check.what) for check in checks)
    broken = [check.what for check in checks if check.mark == "BROKEN"]
    lines = [f"{check.mark:<6}  {check.what:<{width}}  {check.detail}" for check in checks]
    lines.append(f"{len(broken)} broken: {', '.join(broken)}" if broken else "all that is required works")
    return Summary("doctor", tuple(lines), {"checks": [check._asdict() for check in checks], "broken": broken})


def packages() -> Iterator[Check]:
    """Every requirement with its version, each once; for an extra with missing ones, the command to get them."""
    seen: set[str] = set()
    for extra in ("", *EXTRAS):
        missing, wrong = [], []
        for requirement in (r for r in requirements() if r.extra == extra):
            found = _installed(requirement.name)
            if found is None:
                missing.append(requirement.name)
            elif not _allowed(found, requirement.specifier):
                wrong.append(f"{requirement.name} {found} (needs {requirement.specifier})")
            elif requirement.name not in seen:
                yield Check(requirement.name, "ok", found)
            seen.add(requirement.name)
        what, command = (f"extra {extra}", f"'tradewind[{extra}]'") if extra else ("base packages", "tradewind")
        if wrong or (missing and not extra):
            yield Check(what, "BROKEN", f"{', '.join(wrong + missing)}: pip install --upgrade {command}")
        elif missing:
            yield Check(what, "no", f"without {', '.join(missing)}: pip install {command}")


def requirements() -> list[Requirement]:
    """What the installed distribution declares, for the base and each of EXTRAS."""
    found = []
    for text in requires("tradewind") or []:
        declared, _, marker = text.partition(";")
        name = _NAME.match(declared)
        extra = _EXTRA.search(marker)
        label = extra[1] if extra else ""
        if name and name[0] != "tradewind" and label in ("", *EXTRAS):
            found.append(Requirement(name[0], declared[name.end() :].strip(), label))
    return found


def calendar(config: Config) -> Check:
    """Whether the exchange's calendar knows this month's sessions."""
    import datetime as dt

    name = config.universe.calendar
    today = dt.date.today()
    try:
        from features.calendars import CalendarError, calendar_sessions
    except ImportError as error:
        return Check("calendar", "no", f"not checked: {error.name} is not installed")
    try:
        sessions, _ = calendar_sessions(name, today - dt.timedelta(days=14), today)
    except CalendarError as error:
        return Check("calendar", "BROKEN", str(error))
    return Check("calendar", "ok", f"{name}, latest session {sessions[-1]:%Y-%m-%d}")


def lake(config: Config) -> Check:
    """Whether the lake can be written, or its directory made; of an object store, whether it answers."""
    root = Path(config.data.lake)
    if "://" in config.data.lake:
        return _tables(config)
    nearest = next(path for path in (root, *root.resolve().parents) if path.exists())
    try:
        with tempfile.TemporaryFile(dir=nearest):
            pass
    except OSError as error:
        return Check("lake", "BROKEN", f"{root} cannot be written: {error.strerror}")
    if not root.exists():
        return Check("lake", "ok", f"{root} (made by the first ingest)")
    return _tables(config)


def _tables(config: Config) -> Check:
    try:
        from pipeline.store import Lake

        lake = Lake.of(config.data)
        tables = [name for name in ("prices", "news", "features") if lake.exists(name)]
    except ImportError as error:
        return Check("lake", "no", f"not checked: {error.name} is not installed")
    except StoreError as error:
        return Check("lake", "BROKEN", str(error))
    return Check("lake", "ok", f"{lake.root}: {', '.join(tables) or 'no tables yet'}")


def network(url: str, seconds: float = NETWORK_SECONDS) -> Check:
    """Whether Yahoo can be reached; any answer counts, and only the yahoo provider needs one."""
    try:
        urllib.request.urlopen(url, timeout=seconds).close()
    except urllib.error.HTTPError:
        pass  # an answer
    except (OSError, ValueError) as error:
        reason = getattr(error, "reason", error)
        return Check("network", "no", f"Yahoo cannot be reached ({reason}); only the yahoo provider needs it")
    return Check("network", "ok", "Yahoo answers")


def server(config: Config) -> Check:
    """Whether the flow server of this configuration answers; not running is no fault."""
    url = f"http://127.0.0.1:{config.flows.port}"
    try:
        with urllib.request.urlopen(f"{url}/api/health", timeout=SERVER_SECONDS) as answer:
            healthy = answer.status == 200 and answer.read(16).strip() == b"true"
    except (OSError, ValueError):
        return Check("server", "no", f"not running at {url}; start it with: tradewind up")
    if healthy:
        return Check("server", "ok", f"up at {url}")
    return Check("server", "no", f"something else answers at {url}; choose another with --set flows.port=PORT")


def _installed(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _allowed(found: str, specifier: str) -> bool:
    """Whether a version is in its range; taken as yes where `packaging` is not there to judge."""
    try:
        from packaging.specifiers import SpecifierSet
    except ImportError:
        return True
    return bool(SpecifierSet(specifier).contains(found, prereleases=True))
