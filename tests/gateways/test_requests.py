"""Requests out of bytes: what is taken, what is refused with which status, and what is bounded."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateways.requests import (
    HEADER_COUNT_MAX,
    KNOWN_COUNT_MAX,
    SILENTLY,
    URL_SIZE_MAX,
    KnownHeads,
    Limits,
    Parser,
    Room,
)

LIMITS = Limits(body_max_size=1000, header_max_size=20_000)
POST = b"POST / HTTP/1.1\r\nHost: x\r\n"
HI = POST + b"Content-Length: 2\r\n\r\nhi"
CHUNKED = POST + b"Transfer-Encoding: chunked\r\n\r\n"


def parsed(*parts: bytes, known: KnownHeads | None = None) -> Parser:
    parser = Parser(LIMITS, known or KnownHeads(), Room())
    for part in parts:
        parser.feed(part)
    return parser


def bodies(*parts: bytes) -> list[bytes]:
    parser = parsed(*parts)
    assert parser.refused is None
    return [body for _, body in parser.complete]


def test_a_request_is_whole_whatever_the_pieces_it_comes_in() -> None:
    assert bodies(HI) == [b"hi"]
    assert bodies(*[HI[i : i + 1] for i in range(len(HI))]) == [b"hi"]


@given(st.lists(st.integers(0, 3 * len(HI)), max_size=5))
def test_pipelined_requests_are_given_in_order(cuts: list[int]) -> None:
    stream = HI + HI.replace(b"hi", b"ho") + HI.replace(b"hi", b"ha")
    places = [0, *sorted(cuts), len(stream)]
    assert bodies(*[stream[a:b] for a, b in pairwise(places)]) == [b"hi", b"ho", b"ha"]


def test_chunks_are_joined() -> None:
    assert bodies(CHUNKED + b"2\r\nhi\r\n3;name=value\r\n yo\r\n0\r\nTrailer: x\r\n\r\n") == [b"hi yo"]


def test_a_wish_for_another_protocol_is_ignored() -> None:
    upgrade = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AA\r\nContent-Length: 2\r\n\r\n"
    assert bodies(POST + upgrade + b"hi" + HI) == [b"hi", b"hi"]
    assert bodies(POST + upgrade + b"h", b"i", HI) == [b"hi", b"hi"]


@pytest.mark.parametrize(
    ("head", "keeps_alive"),
    [
        (b"POST / HTTP/1.1\r\n", True),
        (b"POST / HTTP/1.1\r\nConnection: close\r\n", False),
        (b"POST / HTTP/1.0\r\n", False),
        (b"POST / HTTP/1.0\r\nConnection: keep-alive\r\n", True),
    ],
)
def test_who_wants_to_be_closed(head: bytes, keeps_alive: bool) -> None:
    ((request, _),) = parsed(head + b"Content-Length: 2\r\n\r\nhi").complete
    assert request.keeps_alive is keeps_alive


def same(one: Parser, other: Parser) -> bool:
    return (one.complete, one.refused, one.is_between) == (other.complete, other.refused, other.is_between)


@given(st.lists(st.integers(0, 3 * len(HI)), max_size=5), st.sampled_from([b"hi", b"h", b"hi!", b"GET"]))
def test_a_known_head_is_read_as_at_the_first_time(cuts: list[int], body: bytes) -> None:
    known = KnownHeads()
    parsed(HI, known=known)
    stream = HI + POST + b"Content-Length: %d\r\n\r\n%b" % (len(body), body) + HI
    places = [0, *sorted(cuts), len(stream)]
    parts = [stream[a:b] for a, b in pairwise(places)]
    assert same(parsed(*parts, known=known), parsed(stream))


@pytest.mark.parametrize(
    "data",
    [
        POST + b"Connection: close\r\nContent-Length: 2\r\n\r\nhi",
        POST + b"Expect: 100-continue\r\nContent-Length: 2\r\n\r\nhi",
        POST + b"Connection: Upgrade\r\nUpgrade: h2c\r\nContent-Length: 2\r\n\r\nhi",
        CHUNKED + b"2\r\nhi\r\n0\r\n\r\n",
        b"\r\n\r\n" + HI,
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        HI,
    ],
)
def test_any_head_is_read_twice_alike(data: bytes) -> None:
    known = KnownHeads()
    first = parsed(data, known=known)
    assert same(parsed(data, known=known), first)
    assert same(parsed(data[:-1], known=known), parsed(data[:-1]))


def test_there_is_an_end_to_what_is_known() -> None:
    known = KnownHeads()
    for number in range(2 * KNOWN_COUNT_MAX):
        parsed(POST + b"X: %d\r\nContent-Length: 2\r\n\r\nhi" % number, known=known)
    assert len(known._known) <= KNOWN_COUNT_MAX


REFUSED: list[tuple[str, int, bytes]] = [
    ("two lengths", SILENTLY, POST + b"Content-Length: 2\r\nContent-Length: 2\r\n\r\nhi"),
    ("two lengths that differ", SILENTLY, POST + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\nhi"),
    ("a length, then chunks", SILENTLY, POST + b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
    ("chunks, then a length", SILENTLY, POST + b"Transfer-Encoding: chunked\r\nContent-Length: 2\r\n\r\n0\r\n\r\n"),
    ("a negative length", SILENTLY, POST + b"Content-Length: -1\r\n\r\n"),
    ("a length with a sign", SILENTLY, POST + b"Content-Length: +2\r\n\r\nhi"),
    ("an endless length", SILENTLY, POST + b"Content-Length: " + b"9" * 40 + b"\r\n\r\n"),
    ("a body too large", 413, POST + b"Content-Length: 1001\r\n\r\n"),
    ("a body too large, asked for leave", 413, POST + b"Expect: 100-continue\r\nContent-Length: 1001\r\n\r\n"),
    ("chunks too large together", 413, CHUNKED + (b"64\r\n" + b"x" * 100 + b"\r\n") * 11),
    ("another coding", 501, POST + b"Transfer-Encoding: gzip, chunked\r\n\r\n"),
    ("chunked twice", SILENTLY, POST + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n"),
    ("a chunk of no size", SILENTLY, CHUNKED + b"zz\r\n"),
    ("a chunk of endless size", SILENTLY, CHUNKED + b"f" * 20 + b"\r\n"),
    ("another expectation", 417, POST + b"Expect: a miracle\r\n\r\n"),
    ("a long URL", 414, b"POST /" + b"a" * URL_SIZE_MAX + b" HTTP/1.1\r\n\r\n"),
    ("a long header", 431, POST + b"X: " + b"a" * 20_000 + b"\r\n\r\n"),
    ("many headers", 431, POST + b"X: 1\r\n" * HEADER_COUNT_MAX + b"\r\n"),
    ("a space before the colon", SILENTLY, POST + b"X : 1\r\n\r\n"),
    ("a folded header", SILENTLY, POST + b"X: 1\r\n 2\r\n\r\n"),
    ("a NUL in a header", SILENTLY, POST + b"X: \x00\r\n\r\n"),
    ("bare line feeds", SILENTLY, b"POST / HTTP/1.1\nContent-Length: 2\n\nhi"),
    ("HTTP/2", SILENTLY, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
    ("another version", SILENTLY, b"POST / HTTP/9.9\r\n\r\n"),
    ("a tunnel", 400, b"CONNECT x:1 HTTP/1.1\r\nHost: x\r\n\r\n"),
    ("TLS", SILENTLY, b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"),
    ("garbage", SILENTLY, b"garbage\r\n\r\n"),
]


@pytest.mark.parametrize(("status", "data"), [row[1:] for row in REFUSED], ids=[row[0] for row in REFUSED])
def test_refused(status: int, data: bytes) -> None:
    parser = parsed(data)
    assert parser.refused == status
    assert not parser.complete


def test_what_came_before_a_refused_request_is_still_given() -> None:
    parser = parsed(HI + b"garbage\r\n\r\n")
    assert [body for _, body in parser.complete] == [b"hi"]
    assert parser.refused == SILENTLY


def test_nothing_grows_while_a_header_does_not_end() -> None:
    parser = Parser(LIMITS, KnownHeads(), Room())
    parser.feed(POST + b"X: ")
    fed_size = 0
    while parser.refused is None:
        parser.feed(b"a" * 1000)
        fed_size += 1000
        assert fed_size <= LIMITS.header_max_size + 2000
    assert parser.refused == 431


def test_nothing_grows_while_a_trailer_does_not_end() -> None:
    parser = parsed(CHUNKED + b"2\r\nhi\r\n0\r\nX: ")
    fed_size = 0
    while parser.refused is None:
        parser.feed(b"a" * 1000)
        fed_size += 1000
        assert fed_size <= LIMITS.header_max_size + 2000
    assert parser.refused == 431
    assert not parser.complete


def test_many_small_chunks_are_no_headers() -> None:
    parser = parsed(*[CHUNKED[at : at + 1] for at in range(len(CHUNKED))])
    for _ in range(LIMITS.body_max_size):
        for byte in (b"1", b";", b"x" * 30, b"\r", b"\n", b"y", b"\r", b"\n"):
            parser.feed(byte)
    parser.feed(b"0\r\nX: y\r\n\r\n")
    assert parser.refused is None
    assert [body for _, body in parser.complete] == [b"y" * LIMITS.body_max_size]


def test_all_unfinished_requests_share_one_room() -> None:
    room = Room(size_max=2000)
    head = POST + b"Content-Length: 900\r\n\r\n"
    parsers = [Parser(LIMITS, KnownHeads(), room) for _ in range(4)]
    for parser in parsers:
        parser.feed(head + b"x" * 800)
    assert [parser.refused for parser in parsers] == [None, None, 503, 503]
    parsers[0].feed(b"x" * 100)
    assert len(parsers[0].complete) == 1
    for parser in parsers:
        parser.close()
    assert room.held_size == 0


@pytest.mark.parametrize("head", [POST + b"Content-Length: 900\r\n", CHUNKED[:-2]])
def test_heads_fill_that_room_too(head: bytes) -> None:
    room = Room(size_max=2000)
    parsers = [Parser(LIMITS, KnownHeads(), room) for _ in range(3)]
    for parser in parsers:
        parser.feed(head + b"X: " + b"x" * 900 + b"\r\n\r\n")
        parser.feed(b"1\r\nx")
    assert [parser.refused for parser in parsers] == [None, None, 503]


def test_a_client_that_waits_for_leave_is_seen_only_until_it_goes_on() -> None:
    parser = parsed(POST + b"Expect: 100-continue\r\nContent-Length: 2\r\n\r\n")
    assert parser.expects_continue
    parser.feed(b"hi")
    assert not parser.expects_continue
    assert not parsed(POST + b"Expect: 100-continue\r\nContent-Length: 2\r\n\r\nhi").expects_continue


@given(st.binary(max_size=300), st.binary(max_size=300))
def test_any_bytes_are_survived(first: bytes, second: bytes) -> None:
    parsed(first, second)
    parsed(POST + first, second)
    parsed(CHUNKED + first, second)
