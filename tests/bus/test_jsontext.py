"""JSON as jansson reads and writes it (CONTRACT 0.2, 0.3)."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bus.jsontext import BadJson, dump, parse, quoted, real

ACCEPTED: list[tuple[bytes, Any]] = [
    (b"[]", []),
    (b" \t\r\n{} \n", {}),
    (b"[9223372036854775807, -9223372036854775808]", [2**63 - 1, -(2**63)]),
    (b"[1.0, 1e3, 1E-400, 100000000000000000000.0]", [1.0, 1000.0, 0.0, 1e20]),
    (b'["99999999999999999999"]', ["99999999999999999999"]),
    (b'["\\"99999999999999999999", 1]', ['"99999999999999999999', 1]),
    (b'{"99999999999999999999": 1}', {"99999999999999999999": 1}),
    (b'["\\\\u0000"]', ["\\u0000"]),
    (b'["\\ud83d\\ude00\\/\x7f"]', ["\U0001f600/\x7f"]),
    (b'{"a": 1, "b": 2, "a": 3}', {"a": 3, "b": 2}),
    (b"[" * 1000 + b"]" * 1000, None),
]

REFUSED = [
    *(b"", b" ", b"1", b"null", b'"a"', b"true", b"{", b"[]]", b"[] x", b"[]\x00", b"\xef\xbb\xbf[]"),
    *(b"[NaN]", b"[Infinity]", b"[-Infinity]", b"[nan]", b"[+1]", b"[01]", b"[.5]", b"[1.]", b"[1,]", b'{"a": 1,}'),
    *(b"[9223372036854775808]", b"[-9223372036854775809]", b"[18446744073709551616]", b"[" + b"9" * 400 + b"]"),
    *(b'["a", 99999999999999999999]', b'{"a": [{"b": 9223372036854775808}]}', b'["\\\\", 9223372036854775808, "\\""]'),
    *(b"[1e400]", b"[-1e400]", b'["\\u0000"]', b'{"\\u0000": 1}', b'["\\\\\\u0000"]', b'["\x00"]', b'["\x1f"]'),
    *(b'["\xff"]', b'["\xed\xa0\x80"]', b'["\\ud800"]', b'["\\udc00\\ud800"]', b"['a']", b"[1 2]", b"/**/[]"),
    b"[" * 100_000,
]

WRITTEN: list[tuple[Any, str]] = [
    ({}, "{}"),
    ([], "[]"),
    ({"a": [1, -2, {"b": None}], "c": [True, False]}, '{"a": [1, -2, {"b": null}], "c": [true, false]}'),
    ("\u00e9\U0001f600/\x7f", '"\u00e9\U0001f600/\x7f"'),
    ('"\\\b\f\n\r\t', '"\\"\\\\\\b\\f\\n\\r\\t"'),
    ("\x01\x1b\x1f", '"\\u0001\\u001B\\u001F"'),
    ({"a\x1f": 1.0}, '{"a\\u001F": 1.0}'),
]

REALS = [
    (1511401234.0, "1511401234.0"),
    (1492697467.1411841, "1492697467.1411841"),
    (0.1, "0.10000000000000001"),
    (1e20, "1e20"),
    (1e-7, "9.9999999999999995e-8"),
    (-0.0, "-0.0"),
    (1e16, "10000000000000000.0"),
    (1.7976931348623157e308, "1.7976931348623157e308"),
    (5e-324, "4.9406564584124654e-324"),
]


@pytest.mark.parametrize(("data", "value"), ACCEPTED)
def test_accepted(data: bytes, value: Any) -> None:
    parsed = parse(data)
    assert value is None or parsed == value


@pytest.mark.parametrize("data", REFUSED, ids=repr)
def test_refused(data: bytes) -> None:
    with pytest.raises(BadJson):
        parse(data)


def test_a_repeated_key_stays_at_its_first_place() -> None:
    assert list(parse(b'{"a": 1, "b": 2, "a": 3}')) == ["a", "b"]


@pytest.mark.parametrize(("value", "text"), WRITTEN)
def test_written(value: Any, text: str) -> None:
    assert dump(value) == text


@pytest.mark.parametrize(("number", "text"), REALS)
def test_reals(number: float, text: str) -> None:
    assert real(number) == text


def test_nesting_is_no_recursion() -> None:
    data = b"[" * 1000 + b"]" * 1000
    assert dump(parse(data)).encode() == data


REAL_NUMBERS = st.floats(allow_nan=False, allow_infinity=False)
LEAVES = st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.text() | REAL_NUMBERS
VALUES = st.recursive(LEAVES, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner))


@given(VALUES)
def test_what_is_written_is_json_for_the_same_value(value: Any) -> None:
    assert json.loads(dump(value)) == value


@given(st.text())
def test_quoted_agrees_with_json_but_for_the_case_of_hexadecimals(text: str) -> None:
    assert quoted(text).lower() == json.dumps(text, ensure_ascii=False).lower()
