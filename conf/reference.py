"""The reference of all settings, made from their declarations: `python -m conf.reference > docs/configuration.md`."""

from pathlib import Path
from typing import Any

from conf.rules import Rule, Section, needed, rules
from conf.settings import Settings, sections

INTRODUCTION = """\
# Settings

One TOML file holds the settings of an exchange; every `pit` command takes it with `--conf FILE`, and
`pit check-conf --conf FILE` says whether it is good. Everything has a default: an empty file, or none, is a working
exchange. An unknown key is an error, with the nearest known one in its text. Relative paths are seen from the folder of
the file. `pit restart NAME` starts a process with the settings as they are then; `pit reload` says which need it.

This page is made from the declarations in `conf/settings.py` (`python -m conf.reference > docs/configuration.md`).
"""


def reference() -> str:
    """The whole page, in Markdown."""
    parts = [INTRODUCTION, "## The top of the file\n", _table(Settings)]
    for name, section in sections():
        parts += [f"## [{name}]\n", f"{_first_line(section)}\n", _table(section)]
    return "\n".join(parts)


def as_toml(value: Any) -> str:
    """A default as it would stand in the file."""
    if isinstance(value, dict):
        return f"{{{', '.join(f'{key} = {as_toml(each)}' for key, each in value.items())}}}"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str | Path):
        return f'"{value}"'
    return f"[{', '.join(as_toml(item) for item in value)}]" if isinstance(value, tuple) else str(value)


def _table(section: type[Section]) -> str:
    defaults = section()
    rows = [_row(name, kind, rule, getattr(defaults, name)) for name, kind, rule in rules(section)]
    return "\n".join(("| key | default | takes | meaning |", "|---|---|---|---|", *rows, ""))


def _row(name: str, kind: Any, rule: Rule, default: Any) -> str:
    return f"| `{name}` | `{as_toml(default)}` | {needed(kind, rule)} | {rule.about} |"


def _first_line(section: type[Section]) -> str:
    return (section.__doc__ or "").strip()


if __name__ == "__main__":
    print(reference(), end="")
