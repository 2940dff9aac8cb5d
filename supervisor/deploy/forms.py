"""The files that `pit deploy` writes, as text with names to be filled in: NAME.in beside this module.

A name stands as @{name}: `$` means something to a shell, and `%` to systemd.
"""

import re
import shlex
from pathlib import Path

FOLDER = Path(__file__).parent
NAME = re.compile(r"@\{(\w+)\}")


def filled(form: str, **values: str) -> str:
    """The text of a form with each name replaced; one that is left out is a KeyError."""
    return NAME.sub(lambda found: values[found[1]], (FOLDER / f"{form}.in").read_text(encoding="utf-8"))


def in_shell(word: object) -> str:
    """A word as it stands in a script of sh."""
    return shlex.quote(str(word))


def in_unit(word: object) -> str:
    """A word as it stands in a unit file of systemd."""
    escaped = str(word).replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%")
    return f'"{escaped}"'


def in_command(word: object) -> str:
    """The same in a command of a unit file, where variables are replaced too."""
    return in_unit(word).replace("$", "$$")
