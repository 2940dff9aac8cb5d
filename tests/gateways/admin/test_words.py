"""Lines as words and words as numbers: what the original's splitter and C's strtoul make of them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateways.admin.words import user_number, words


@pytest.mark.parametrize(
    ("line", "wanted"),
    [
        (b"balance get 17\n", [b"balance", b"get", b"17"]),
        (b"  status \t\r\n", [b"status"]),
        (b"status\r\n", [b"status"]),
        (b"\n", []),
        (b" \t\v\f\r\n", []),
        (b"", []),
        (b"a\vb\fc\n", [b"a\vb\fc"]),  # a bare word ends at a blank, a tab or a line's end only
        (b"balance 'list' \"USD\"\n", [b"balance", b"list", b"USD"]),
        (b"'two words' \"and  more\"\n", [b"two words", b"and  more"]),
        (b"''\n", [b""]),
        (b'""\n', [b""]),
        (b"st'atus'\n", [b"status"]),
        (b'st"at us"\n', [b"stat us"]),
        (rb'"a\x41\x00b\n\r\t\b\aq\q\"\\"', [b'aA\0b\n\r\t\b\aqq"\\']),
        (rb'"\x4g"', [b"x4g"]),
        (rb"'it\'s \n'", [rb"it's \n"]),
        (rb"bare\nword\x41", [rb"bare\nword\x41"]),
        (b"'a'\v'b'\n", [b"a", b"b"]),
        (b"status\0junk' \n", [b"status"]),
        (b"\xff\xfe \x80\n", [b"\xff\xfe", b"\x80"]),
    ],
)
def test_a_line_is_taken_apart(line: bytes, wanted: list[bytes]) -> None:
    assert words(line) == wanted


@pytest.mark.parametrize(
    "line",
    [
        b"'\n",
        b'"\n',
        b"balance 'list\n",
        b'"open\\"\n',
        b"'open\\'\n",
        b"'a'b\n",
        b'"a"b\n',
        b"'a''b'\n",
        b'"a\0b"\n',
        b"'a\0b'\n",
        b'"\\\n',
    ],
)
def test_quotes_that_make_no_sense_spoil_the_line(line: bytes) -> None:
    assert words(line) is None


@given(st.binary(max_size=300))
def test_no_line_is_too_odd(line: bytes) -> None:
    found = words(line)
    assert found is None or sum(map(len, found)) <= len(line)


@given(st.lists(st.binary(min_size=1, max_size=20), max_size=10))
def test_what_is_quoted_comes_back(wanted: list[bytes]) -> None:
    line = b" ".join(b'"' + b"".join(b"\\x%02x" % byte for byte in word) + b'"' for word in wanted)
    assert words(line + b"\n") == wanted


@pytest.mark.parametrize(
    ("word", "user_id"),
    [
        (b"17", 17),
        (b"0x1F", 31),
        (b"0X1f", 31),
        (b"010", 8),
        (b"08", 0),
        (b"0x", 0),
        (b"0xg", 0),
        (b"12abc", 12),
        (b" \t\n\v\f\r12", 12),
        (b"+5", 5),
        (b"-1", 4294967295),
        (b"-0x10", 4294967280),
        (b"4294967295", 4294967295),
        (b"4294967296", 0),
        (b"4294967299", 3),
        (b"18446744073709551615", 4294967295),
        (b"18446744073709551616", 4294967295),
        (b"-18446744073709551616", 4294967295),
        (b"9" * 4000, 4294967295),
        (b"1\x002", 1),
        (b"", 0),
        (b"-", 0),
        (b"junk", 0),
        (b"\xff", 0),
        (b"0b11", 0),
        (b"1_000", 1),
    ],
)
def test_a_user_is_read_as_c_reads_it(word: bytes, user_id: int) -> None:
    assert user_number(word) == user_id
