"""The configuration as text: the commented starter file, the reference of every key, a value in TOML."""

from __future__ import annotations

import datetime as dt
import json
import re

from pipeline.config import Config, sections
from pipeline.config_features import Section


def starter(config: Config) -> str:
    """A commented TOML file holding every key of `config`, one section after another."""
    lines = ["# Tradewind. Every key is optional; the values below are in force.", ""]
    for heading, section in sections(config):
        lines += [f"[{heading}]", f"# {(section.__doc__ or '').strip().splitlines()[0]}"]
        for name, field in type(section).model_fields.items():
            value = getattr(section, name)
            if isinstance(value, Section):
                continue
            lines.append(f"# {field.description}")
            lines.append(f"# {name} = " if value is None else f"{name} = {toml_value(value)}")
        lines.append("")
    return "\n".join(lines)


def reference() -> str:
    """The Markdown reference of every key: type, default, meaning."""
    lines = ["# Configuration", "", "Generated from `pipeline/config.py` by `make docs`; do not edit by hand.", ""]
    for heading, section in sections(Config()):
        lines += [f"## `[{heading}]`", "", (section.__doc__ or "").strip().splitlines()[0], ""]
        lines += ["| key | default | meaning |", "| --- | --- | --- |"]
        for name, field in type(section).model_fields.items():
            value = getattr(section, name)
            if not isinstance(value, Section):
                default = "none" if value is None else f"`{toml_value(value)}`"
                lines.append(f"| `{name}` | {default} | {field.description} |")
        lines.append("")
    return "\n".join(lines)


def toml_value(value: object) -> str:
    """A value as TOML writes it; a tuple becomes a list, what TOML has no type for becomes text."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, dt.date):
        return value.isoformat()
    if isinstance(value, tuple):
        return "[" + ", ".join(toml_value(v) for v in value) + "]"
    if isinstance(value, Section):
        value = value.model_dump()
    if isinstance(value, dict):
        pairs = ", ".join(f"{_toml_key(key)} = {toml_value(v)}" for key, v in value.items())
        return f"{{ {pairs} }}" if pairs else "{}"
    return json.dumps(str(value))


def _toml_key(key: str) -> str:
    return key if re.fullmatch(r"[A-Za-z0-9_-]+", key) else json.dumps(key)


if __name__ == "__main__":
    print(reference(), end="")
