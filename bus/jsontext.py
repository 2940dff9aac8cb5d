"""JSON as the original reads and writes it (jansson; CONTRACT 0.2, 0.3).

Reading is orjson's, which is as strict, plus what orjson lets through and jansson does not: integers outside int64
and the escape of a NUL. It ends at 1,024 levels of nesting, jansson at 2,048.
"""

import re
from collections.abc import Iterator
from functools import lru_cache
from typing import Any

import orjson

INT64_MIN, INT64_MAX = -(1 << 63), (1 << 63) - 1
QUOTED_KEPT_COUNT = 4096  # names and sources repeat
MOMENTS_KEPT_COUNT = 256

# A first look that is quick and may be wrong; the second tells strings from numbers.
_DIGITS_ALIKE = bytes.maketrans(b"123456789", b"000000000")
_LONG_INTEGER = b"0" * len(str(INT64_MAX))  # a regular expression would take ten times as long
_tokens = re.compile(rb'"([^"\\]*(?:\\.[^"\\]*)*)"|(-?[0-9]+(?![0-9.eE]))|-?[0-9][-+0-9.eE]*', re.DOTALL).finditer
_NUL_ESCAPE = b"\\u0000"
_escapes = re.compile(rb"\\(?:u[0-9a-fA-F]{4}|.)", re.DOTALL).findall

_escaped_characters = re.compile(r'["\\\x00-\x1f]')
_SHORT_ESCAPES = {'"': '\\"', "\\": "\\\\", "\b": "\\b", "\f": "\\f", "\n": "\\n", "\r": "\\r", "\t": "\\t"}


class BadJson(ValueError):
    """The bytes are no JSON that is accepted."""


def parse(data: bytes) -> Any:
    """Decode a JSON array or object. Raises BadJson."""
    try:
        value = orjson.loads(data)
    except orjson.JSONDecodeError as error:
        raise BadJson(str(error)) from None
    if type(value) is not dict and type(value) is not list:
        raise BadJson("the top level is neither an array nor an object")
    if _NUL_ESCAPE in data or _LONG_INTEGER in data.translate(_DIGITS_ALIKE):
        _check_tokens(data)
    return value


def _check_tokens(data: bytes) -> None:
    """Refuse what orjson lets through; `data` is known to be JSON otherwise."""
    for token in _tokens(data):
        text, integer = token.groups()
        if integer is not None and not INT64_MIN <= int(integer[:21]) <= INT64_MAX:
            raise BadJson("an integer is outside of 64 bits")
        if text is not None and _NUL_ESCAPE in _escapes(text):
            raise BadJson("a string holds a NUL")


def packed(value: Any) -> bytes:
    """Encode what `parse` gave, for our own processes: short, and not as the original writes it."""
    try:
        return orjson.dumps(value)
    except TypeError:  # it writes 254 levels, and reads 1,024
        return dump(value).encode()


def dump(value: Any) -> str:
    """Encode what `parse` gave, on one line with ", " and ": " between."""
    return "".join(_pieces(value))


class _Written(str):
    """A piece of output, told apart from a string that is a value."""


def _pieces(value: Any) -> Iterator[str]:
    """The pieces of `value`'s text, without recursion: nesting is up to the client."""
    waiting = [value]
    while waiting:
        item = waiting.pop()
        if type(item) is _Written:
            yield item
        elif type(item) is dict:
            waiting.extend(reversed(_laid_out("{", ([_key(key), each] for key, each in item.items()), "}")))
        elif type(item) is list:
            waiting.extend(reversed(_laid_out("[", ([each] for each in item), "]")))
        else:
            yield _scalar(item)


def _laid_out(opening: str, groups: Iterator[list[Any]], closing: str) -> list[Any]:
    row: list[Any] = [_Written(opening)]
    for number, group in enumerate(groups):
        if number:
            row.append(_Written(", "))
        row.extend(group)
    row.append(_Written(closing))
    return row


def _key(key: str) -> _Written:
    return _Written(quoted(key) + ": ")


def _scalar(value: str | float | bool | None) -> str:
    if type(value) is str:
        return quoted(value)
    if type(value) is float:
        return real(value)
    return {None: "null", True: "true", False: "false"}[value] if value is None or type(value) is bool else str(value)


def real(number: float) -> str:
    """A real as C's %.17g, with ".0" when nothing else says that it is one, and the exponent without padding."""
    text = f"{number:.17g}"
    if "e" in text:
        mantissa, _, exponent = text.partition("e")
        return f"{mantissa}e{int(exponent)}"
    return text if "." in text else text + ".0"


moment = lru_cache(MOMENTS_KEPT_COUNT)(real)  # of a time: all that a batch did happened at the same


def quoted(text: str) -> str:
    """A string with its quotation marks."""
    if _escaped_characters.search(text) is None:
        return f'"{text}"'
    return f'"{_escaped_characters.sub(_escape, text)}"'


@lru_cache(QUOTED_KEPT_COUNT)
def quoted_bytes(text: bytes) -> str:
    """`quoted` of a short UTF-8 field of a record, remembered."""
    return quoted(text.decode("utf-8", "replace"))


def _escape(match: re.Match[str]) -> str:
    character = match[0]
    return _SHORT_ESCAPES.get(character) or f"\\u{ord(character):04X}"
