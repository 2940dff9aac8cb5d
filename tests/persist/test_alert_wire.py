"""The original's protocol of alerts: bytes in, texts out; what strangers send is refused and harms nothing."""

import json
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from conf.alert_record import TEXT_MAX, Alert, packed, parse
from persist.alert_wire import ELEMENT_MAX_SIZE, LINE_MAX_SIZE, MAGIC, Split, element, split
from persist.alert_wire import parse as parse_text

TIME, INSTANCE = "2026-01-31T10:00:00+00:00", "main"
ORIGINAL = b"matchengine: [fatal]me_server.c:900(svr_on_recv_pkg): service unavailable, code: 3"
TEXTS = st.binary(min_size=1, max_size=80).filter(lambda text: b"\n" not in text and not text.endswith(b"\r"))

DATAGRAMS = [
    ("one line", MAGIC + b"a: b\n", [b"a: b"], True),
    ("the other end of line", MAGIC + b"a: b\r\n", [b"a: b"], True),
    ("cut off by the original", MAGIC + b"a: b", [b"a: b"], True),
    ("two lines", MAGIC + b"a\n" + MAGIC + b"b\n", [b"a", b"b"], True),
    ("a return within it stays", MAGIC + b"a\rb\n", [b"a\rb"], True),
    ("nothing to tell", MAGIC + b"\n", [], True),
    ("no magic", b"hello\n", [], False),
    ("a part of the magic", MAGIC[:19] + b"\n", [], False),
    ("no magic in the second", MAGIC + b"a\nhello\n", [b"a"], False),
    ("one byte", b"x", [], False),
    ("the longest line", MAGIC + b"a" * (LINE_MAX_SIZE - 20) + b"\n", [b"a" * (LINE_MAX_SIZE - 20)], True),
    ("a longer one", MAGIC + b"a" * (LINE_MAX_SIZE - 19) + b"\n", [], False),
]


@pytest.mark.parametrize(("what", "data", "texts", "is_good"), DATAGRAMS, ids=[row[0] for row in DATAGRAMS])
def test_datagrams(what: str, data: bytes, texts: list[bytes], is_good: bool) -> None:
    assert split(data, is_whole=True) == Split(texts, b"", is_good)


def test_a_stream_waits_for_the_end_of_a_line_if_it_can_become_one() -> None:
    assert split(MAGIC[:7], is_whole=False) == Split([], MAGIC[:7], True)
    assert split(MAGIC + b"a\n" + MAGIC + b"b", is_whole=False) == Split([b"a"], MAGIC + b"b", True)
    assert not split(b"GET / HTTP/1.1\r", is_whole=False).is_good
    assert not split(MAGIC + b"a" * LINE_MAX_SIZE, is_whole=False).is_good


@given(st.lists(TEXTS, max_size=5), st.lists(st.integers(0, 500), max_size=8))
def test_a_stream_gives_the_same_however_it_is_cut(texts: list[bytes], cuts: list[int]) -> None:
    data = b"".join(MAGIC + text + b"\n" for text in texts)
    found: list[bytes] = []
    rest = b""
    places = sorted({0, len(data), *(min(cut, len(data)) for cut in cuts)})
    for start, end in pairwise(places):
        parts = split(rest + data[start:end], is_whole=False)
        assert parts.is_good
        found, rest = found + parts.texts, parts.rest
    assert (found, rest) == (texts, b"")


@given(st.binary(max_size=300), st.booleans())
def test_any_bytes_are_taken_or_refused(data: bytes, is_whole: bool) -> None:
    parts = split(data, is_whole=is_whole)
    assert all(MAGIC + text in data for text in parts.texts)


@given(
    TEXTS
    | st.just(ORIGINAL)
    | st.from_regex(rb"\A[a-z]+: \[fatal\][a-z.:(): ]+\Z").filter(lambda text: b"\n" not in text)
)
def test_a_text_leaves_as_it_came(text: bytes) -> None:
    """Through the file too."""
    alert = parse_text(text, TIME, INSTANCE, "udp 10.0.0.7")
    assert element(alert) == text
    stored = parse(packed(alert))
    assert stored == alert
    assert element(stored) == text


def test_the_form_of_the_original_is_taken_apart() -> None:
    assert parse_text(ORIGINAL, TIME, INSTANCE, "udp 10.0.0.7") == Alert(
        time=TIME,
        instance=INSTANCE,
        process="matchengine",
        where="me_server.c:900(svr_on_recv_pkg)",
        text="service unavailable, code: 3",
        origin="udp 10.0.0.7",
    )


def test_our_own_have_the_form_of_the_original() -> None:
    alert = Alert(time=TIME, instance=INSTANCE, process="matcher", where="engine/matcher.py:1(look)", text="full\nvery")
    assert element(alert) == b"matcher: [fatal]engine/matcher.py:1(look): full very"


def test_an_element_is_no_longer_than_the_originals_and_has_whole_characters() -> None:
    alert = Alert(time=TIME, instance=INSTANCE, process="x", text="\N{EURO SIGN}" * TEXT_MAX)
    assert ELEMENT_MAX_SIZE - 3 < len(element(alert)) <= ELEMENT_MAX_SIZE
    assert element(alert).decode().startswith("x: [fatal]\N{EURO SIGN}")


@given(
    st.binary(max_size=200)
    | st.recursive(
        st.none() | st.text() | st.integers(),
        lambda x: st.lists(x) | st.dictionaries(st.sampled_from(["text", "time", "where", "from", "dropped"]), x),
    ).map(lambda value: json.dumps(value).encode())
)
def test_any_line_is_an_alert_that_can_leave_or_none(line: bytes) -> None:
    if (alert := parse(line)) is not None:
        element(alert)
        assert parse(packed(alert)) == alert


def test_hostile_lines() -> None:
    assert parse(b"[" * 100_000) is None
    assert parse(b'{"text": "' + b"a" * 1_000_000 + b'"}') is None
    half = parse(rb'{"text": "\ud83d", "process": "p", "dropped": 1e400}')
    assert half is not None
    assert (element(half), half.dropped_count) == (b"p: [fatal]?", 0)
