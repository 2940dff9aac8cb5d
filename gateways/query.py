"""The query of a GET request: its parameters by name, each checked when it is asked for."""

import re
from urllib.parse import parse_qsl

QUERY_SIZE_MAX = 2048  # characters
PARAMETER_COUNT_MAX = 32
VALUE_SIZE_MAX = 64  # characters of a parameter that somebody asks for
# A script that divides sends 1700000000.5 or 1700000000.0 where a whole number is meant.
_whole = re.compile(r"([+-]?[0-9]{1,15})(?:\.[0-9]*)?").fullmatch


class BadQuery(ValueError):
    """A parameter is missing or wrong: the text says which, and holds nothing that a client sent."""


class Query:
    """Parameters, percent-decoded; of one that is there twice the last counts. What nobody asks for is ignored."""

    def __init__(self, text: str) -> None:
        """Raises BadQuery."""
        if len(text) > QUERY_SIZE_MAX:
            raise BadQuery(f"the query has more than {QUERY_SIZE_MAX} characters")
        try:
            self._values = dict(parse_qsl(text, keep_blank_values=True, max_num_fields=PARAMETER_COUNT_MAX))
        except ValueError:
            raise BadQuery(f"there are more than {PARAMETER_COUNT_MAX} parameters") from None

    def text(self, name: str, default: str | None = None) -> str:
        """A parameter; without a default it must be there. Raises BadQuery."""
        value = self._values.get(name) or default
        if value is None:
            raise BadQuery(f"{name} is missing")
        if len(value) > VALUE_SIZE_MAX:
            raise BadQuery(f"{name} has more than {VALUE_SIZE_MAX} characters")
        return value

    def integer(self, name: str, default: int | None = None, least: int | None = None) -> int:
        """A whole number of up to 15 digits; decimals are cut off. Raises BadQuery."""
        if default is not None and not self._values.get(name):
            return default
        match = _whole(self.text(name))
        if match is None:
            raise BadQuery(f"{name} is not a whole number")
        number = int(match[1])
        if least is not None and number < least:
            raise BadQuery(f"{name} is less than {least}")
        return number
