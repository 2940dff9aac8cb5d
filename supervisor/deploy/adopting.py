"""Turning a configuration file that is there into the one of a deployment, its comments and order kept.

Only three keys depend on where the file is: `data_dir` is left as it stands (a relative one is the deployment's own
folder), `markets_file` and `[supervisor] processes_dir` are set.
"""

import json
import re
import tomllib
from typing import Any

from conf.rules import BadSettings

_SECTION = re.compile(r"^\s*\[")


def adopted(text: str, markets_name: str) -> str:
    """The text with its own markets file beside it and the processes' folders around it. Raises BadSettings."""
    text = with_setting(text, "", "markets_file", markets_name)
    return with_setting(text, "supervisor", "processes_dir", ".")


def markets_only(text: str) -> str:
    """Assets and markets of a JSON file that may be a whole matchengine configuration, whose passwords stay there."""
    document = json.loads(text)
    return json.dumps({key: document[key] for key in ("assets", "markets")}, indent=2, ensure_ascii=False) + "\n"


def with_setting(text: str, section: str, key: str, value: str) -> str:
    """The text of a TOML file with one setting changed or added, and nothing else. Raises BadSettings."""
    wanted = _set(tomllib.loads(text), section, key, value)
    line = f'{key} = "{value}"'
    lines = text.splitlines()
    first, end = _region(lines, section)
    if first is None:
        lines += ["", f"[{section}]", line]
    else:
        there = [at for at in range(first, end) if re.match(rf"\s*{key}\s*=", lines[at])]
        lines[slice(there[0], there[0] + 1) if there else slice(first, first)] = [line]
    changed = "\n".join(lines) + "\n"
    try:
        is_so = tomllib.loads(changed) == wanted
    except ValueError:
        is_so = False
    if not is_so:
        where = f"[{section}] {key}" if section else key
        raise BadSettings(f'{where} can\'t be changed in this form of the file; write `{key} = "{value}"` there first')
    return changed


def _region(lines: list[str], section: str) -> tuple[int | None, int]:
    """The lines of a section: the first after its heading (None: there is no such section), and the one after the last.

    The section "" is what stands before any other.
    """
    first = None if section else 0
    heading = re.compile(rf"^\s*\[\s*{section}\s*\]\s*(#.*)?$")
    for at, line in enumerate(lines):
        if first is not None and _SECTION.match(line):
            return first, at
        if section and heading.match(line):
            first = at + 1
    return first, len(lines)


def _set(document: dict[str, Any], section: str, key: str, value: str) -> dict[str, Any]:
    if section:
        return document | {section: document.get(section, {}) | {key: value}}
    return document | {key: value}
