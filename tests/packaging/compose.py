"""compose.yaml as `docker compose` reads it: variables replaced, the settings of the exchange as a file."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[2]
VARIABLE = re.compile(r"\$\{(\w+)(?::-([^}]*)|:\?[^}]*)?\}")
PASSWORDS = {"DB_PASSWORD": "c0ffee", "DB_ROOT_PASSWORD": "decaf"}

Document = dict[str, Any]


def compose(variables: Mapping[str, str] = PASSWORDS) -> Document:
    """The whole file. A variable without a value and without a default is a KeyError, as compose refuses it."""
    document: Document = yaml.safe_load(replaced((ROOT / "compose.yaml").read_text(encoding="utf-8"), variables))
    return document


def replaced(text: str, variables: Mapping[str, str]) -> str:
    """The text with each ${NAME}, ${NAME:-default} and ${NAME:?why} replaced; an empty value is none."""

    def value(found: re.Match[str]) -> str:
        name, default = found[1], found[2]
        if given := variables.get(name):
            return given
        if default is None:
            raise KeyError(name)
        return default

    return VARIABLE.sub(value, text)


def address(document: Document, service: str) -> str:
    """Where a service is in the network of the containers."""
    return str(document["services"][service]["networks"]["default"]["ipv4_address"])
