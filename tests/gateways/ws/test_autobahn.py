"""The cases of Autobahn's test suite, by its numbers, played to the gateway's sockets and frames.

The suite itself (autobahntestsuite 25.10.1) needs Python 2.7. Here its cases are tables, and each runs as long as the
server takes: where the suite waits to see that nothing comes, the next frame is that which closes the connection.
"""

import random
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import pytest

from tests.gateways.ws.raw_client import (
    BINARY,
    CLOSE,
    CONTINUATION,
    PING,
    PONG,
    RSV1,
    TEXT,
    Client,
    Frame,
    Server,
    closing,
    connected,
    deflated,
    echoing,
    fragments,
    frame,
    handshake,
)

NORMAL, PROTOCOL_ERROR, NO_UTF8 = 1000, 1002, 1007
WHOLE, FRAMES, OCTETS = 0, -1, 1  # sent at once, each frame on its own, each octet on its own
KIB, MIB = 1 << 10, 1 << 20
LARGE = [64 * KIB, 256 * KIB, MIB, 4 * MIB]


class Step(NamedTuple):
    """Frames that are sent, and those that come back before the client goes on."""

    sent: Sequence[bytes]
    told: Sequence[Frame] = ()


class Case(NamedTuple):
    """One of the suite's. `code` is that with which the server closes; without one, the client does."""

    steps: Sequence[Step]
    code: int | None = None
    chop: int = WHOLE


def good(sent: Sequence[bytes], told: Sequence[Frame], chop: int = WHOLE) -> Case:
    """The server answers, and the client closes."""
    return Case([Step(sent, told)], None, chop)


def bad(sent: Sequence[bytes], told: Sequence[Frame] = (), code: int = PROTOCOL_ERROR, chop: int = WHOLE) -> Case:
    """The server answers what comes before the mistake, and closes."""
    return Case([Step(sent, told)], code, chop)


def play(case: Case, client: Client) -> None:
    """Play a case; nothing else comes from the server."""
    for step in case.steps:
        for piece in step.sent if case.chop == FRAMES else [b"".join(step.sent)]:
            client.send(piece, max(0, case.chop))
        assert [client.receive() for _ in step.told] == list(step.told)
    if case.code is None:
        client.send(closing(NORMAL))
    last = client.receive_all()
    assert [each.opcode for each in last] == [CLOSE], last
    assert last[0].code == (NORMAL if case.code is None else case.code), last


def table(cases: dict[str, Case]) -> pytest.MarkDecorator:
    """A test of each."""
    return pytest.mark.parametrize("case", cases.values(), ids=cases.keys())


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with echoing() as started:
        yield started


@pytest.fixture(scope="module")
def compressing_server() -> Iterator[Server]:
    with echoing("--compression") as started:
        yield started


@pytest.fixture
def client(server: Server) -> Iterator[Client]:
    with Client(server.port) as made:
        yield made


def echo(opcode: int, payload: bytes, chop: int = WHOLE) -> Case:
    return good([frame(opcode, payload)], [Frame(opcode, payload)], chop)


SIZES = [(1, 0), (2, 125), (3, 126), (4, 127), (5, 128), (6, 65535), (7, 65536)]


@table({
    **{f"1.1.{number}": echo(TEXT, b"*" * size) for number, size in SIZES},
    "1.1.8": echo(TEXT, b"*" * 65536, chop=997),
    **{f"1.2.{number}": echo(BINARY, b"\xfe" * size) for number, size in SIZES},
    "1.2.8": echo(BINARY, b"\xfe" * 65536, chop=997),
    "sizes in longer forms than they need": good(
        [frame(TEXT, b"1", size_bits=16), frame(TEXT, b"2", size_bits=64), frame(PING, b"3", size_bits=64)],
        [Frame(TEXT, b"1"), Frame(TEXT, b"2"), Frame(PONG, b"3")],
    ),
    "a mask of zeros": good([frame(TEXT, b"plain", mask=bytes(4))], [Frame(TEXT, b"plain")]),
    "no mask": bad([frame(TEXT, b"Hello", mask=None)]),
})
def test_1_framing(case: Case, client: Client) -> None:
    play(case, client)


LONG_PING = b"\xfe" * 125
MANY = [b"payload-%d" % number for number in range(10)]


@table({
    "2.1": good([frame(PING)], [Frame(PONG, b"")]),
    "2.2": good([frame(PING, b"Hello, world!")], [Frame(PONG, b"Hello, world!")]),
    "2.3": good([frame(PING, b"\x00\xff\xfe\xfd\xfc\xfb\x00\xff")], [Frame(PONG, b"\x00\xff\xfe\xfd\xfc\xfb\x00\xff")]),
    "2.4": good([frame(PING, LONG_PING)], [Frame(PONG, LONG_PING)]),
    "2.5": bad([frame(PING, b"\xfe" * 126)]),
    "2.6": good([frame(PING, LONG_PING)], [Frame(PONG, LONG_PING)], OCTETS),
    "2.7": good([frame(PONG)], []),
    "2.8": good([frame(PONG, b"unsolicited pong payload")], []),
    "2.9": good(
        [frame(PONG, b"unsolicited pong payload"), frame(PING, b"ping payload")], [Frame(PONG, b"ping payload")]
    ),
    "2.10": good([frame(PING, each) for each in MANY], [Frame(PONG, each) for each in MANY]),
    "2.11": good([frame(PING, each) for each in MANY], [Frame(PONG, each) for each in MANY], OCTETS),
})
def test_2_pings_and_pongs(case: Case, client: Client) -> None:
    play(case, client)


HELLO = b"Hello, world!"
HELLO_BACK = [Frame(TEXT, HELLO)]


def bad_after_hello(*wrong: bytes, chop: int = WHOLE) -> Case:
    """A message that is answered, frames that are wrong, and a ping that must not be."""
    return bad([frame(TEXT, HELLO), *wrong, frame(PING)], HELLO_BACK, chop=chop)


@table({
    "3.1": bad([frame(TEXT, HELLO, rsv=1)]),
    "3.2": bad_after_hello(frame(TEXT, HELLO, rsv=2)),
    "3.3": bad_after_hello(frame(TEXT, HELLO, rsv=3), chop=FRAMES),
    "3.4": bad_after_hello(frame(TEXT, HELLO, rsv=4), chop=OCTETS),
    "3.5": bad([frame(BINARY, b"\x00\xff\xfe\xfd\xfc\xfb\x00\xff", rsv=5)]),
    "3.6": bad([frame(PING, HELLO, rsv=6)]),
    "3.7": bad([frame(CLOSE, rsv=7)]),
})
def test_3_reserved_bits(case: Case, client: Client) -> None:
    play(case, client)


@table({
    "4.1.1": bad([frame(3)]),
    "4.1.2": bad([frame(4, b"reserved opcode payload")]),
    "4.1.3": bad_after_hello(frame(5)),
    "4.1.4": bad_after_hello(frame(6, HELLO)),
    "4.1.5": bad_after_hello(frame(7, HELLO), chop=OCTETS),
    "4.2.1": bad([frame(11)]),
    "4.2.2": bad([frame(12, b"reserved opcode payload")]),
    "4.2.3": bad_after_hello(frame(13)),
    "4.2.4": bad_after_hello(frame(14, HELLO)),
    "4.2.5": bad_after_hello(frame(15, HELLO), chop=OCTETS),
})
def test_4_opcodes(case: Case, client: Client) -> None:
    play(case, client)


ONE, TWO = b"fragment1", b"fragment2"
BOTH = [Frame(TEXT, ONE + TWO)]
IN_TWO = [frame(TEXT, ONE, fin=False), frame(CONTINUATION, TWO)]
PINGED = [IN_TWO[0], frame(PING, b"ping payload"), IN_TWO[1]]
PINGED_BACK = [Frame(PONG, b"ping payload"), *BOTH]
OF_NOTHING = frame(CONTINUATION, b"non-continuation payload")
OF_NOTHING_OPEN = frame(CONTINUATION, b"non-continuation payload", fin=False)
IN_FIVE = [
    Step([IN_TWO[0], frame(CONTINUATION, TWO, fin=False), frame(PING, b"pongme 1!")], [Frame(PONG, b"pongme 1!")]),
    Step(
        [
            frame(CONTINUATION, b"fragment3", fin=False),
            frame(CONTINUATION, b"fragment4", fin=False),
            frame(PING, b"pongme 2!"),
            frame(CONTINUATION, b"fragment5"),
        ],
        [Frame(PONG, b"pongme 2!"), Frame(TEXT, b"fragment1fragment2fragment3fragment4fragment5")],
    ),
]


@table({
    "5.1": bad([frame(PING, ONE, fin=False), frame(CONTINUATION, TWO)]),
    "5.2": bad([frame(PONG, ONE, fin=False), frame(CONTINUATION, TWO)]),
    "5.3": good(IN_TWO, BOTH),
    "5.4": good(IN_TWO, BOTH, FRAMES),
    "5.5": good(IN_TWO, BOTH, OCTETS),
    "5.6": good(PINGED, PINGED_BACK),
    "5.7": good(PINGED, PINGED_BACK, FRAMES),
    "5.8": good(PINGED, PINGED_BACK, OCTETS),
    "5.9": bad([OF_NOTHING, frame(TEXT, HELLO)]),
    "5.10": bad([OF_NOTHING, frame(TEXT, HELLO)], chop=FRAMES),
    "5.11": bad([OF_NOTHING, frame(TEXT, HELLO)], chop=OCTETS),
    "5.12": bad([OF_NOTHING_OPEN, frame(TEXT, HELLO)]),
    "5.13": bad([OF_NOTHING_OPEN, frame(TEXT, HELLO)], chop=FRAMES),
    "5.14": bad([OF_NOTHING_OPEN, frame(TEXT, HELLO)], chop=OCTETS),
    "5.15": bad([*IN_TWO, frame(CONTINUATION, b"fragment3", fin=False), frame(TEXT, b"fragment4")], BOTH),
    "5.16": bad([OF_NOTHING_OPEN, *IN_TWO] * 2),
    "5.17": bad([OF_NOTHING, *IN_TWO] * 2),
    "5.18": bad([frame(TEXT, ONE, fin=False), frame(TEXT, TWO)]),
    "5.19": Case(IN_FIVE),
    "5.20": Case(IN_FIVE, chop=FRAMES),
})
def test_5_fragmentation(case: Case, client: Client) -> None:
    play(case, client)


UMLAUTS = "Hello-µ@ßöäüàá-UTF-8!!".encode()
KOSME = bytes.fromhex("cebae1bdb9cf83cebcceb5")  # a Greek word, its accent in the suite's own form
SURROGATE = KOSME + b"\xed\xa0\x80" + b"edited"
TOO_HIGH = KOSME + b"\xf4\x90\x80\x80" + b"edited"  # wrong at byte 12: after f4 comes 8f at most
LOOK = [frame(PING)]  # in place of the suite's wait, to see that what was sent so far is taken
LOOKED = [Frame(PONG, b"")]


@table({
    "6.1.1": echo(TEXT, b""),
    "6.1.2": good([frame(TEXT, fin=False), frame(CONTINUATION, fin=False), frame(CONTINUATION)], [Frame(TEXT, b"")]),
    "6.1.3": good(
        [frame(TEXT, fin=False), frame(CONTINUATION, b"middle frame payload", fin=False), frame(CONTINUATION)],
        [Frame(TEXT, b"middle frame payload")],
    ),
    "6.2.1": echo(TEXT, UMLAUTS),
    "6.2.2": good(fragments(TEXT, UMLAUTS, len("Hello-µ@ßöä".encode())), [Frame(TEXT, UMLAUTS)]),
    "6.2.3": good(fragments(TEXT, UMLAUTS, 1), [Frame(TEXT, UMLAUTS)]),
    "6.2.4": good(fragments(TEXT, KOSME, 1), [Frame(TEXT, KOSME)]),
    "6.3.1": bad([frame(TEXT, SURROGATE)], code=NO_UTF8),
    "6.3.2": bad(fragments(TEXT, SURROGATE, 1), code=NO_UTF8),
    "6.4.1": Case(
        [
            Step([frame(TEXT, TOO_HIGH[:11], fin=False), *LOOK], LOOKED),
            Step([frame(CONTINUATION, TOO_HIGH[11:15], fin=False)]),
        ],
        NO_UTF8,
    ),
    "6.4.2": Case(
        [
            Step([frame(TEXT, TOO_HIGH[:12], fin=False), *LOOK], LOOKED),
            Step([frame(CONTINUATION, TOO_HIGH[12:13], fin=False)]),
        ],
        NO_UTF8,
    ),
    # The suite would like the server not to wait for the end of the frame, and calls it not strict that it does.
    "6.4.3": bad([frame(TEXT, TOO_HIGH)], code=NO_UTF8, chop=len(frame(TEXT, TOO_HIGH[:11]))),
    "6.4.4": bad([frame(TEXT, TOO_HIGH)], code=NO_UTF8, chop=len(frame(TEXT, TOO_HIGH[:12]))),
    "a whole message stays whole when the next one is not": bad(
        [frame(TEXT, HELLO), frame(TEXT, SURROGATE), frame(TEXT, HELLO)], HELLO_BACK, NO_UTF8
    ),
    "a ping after it is not answered": bad(
        [frame(PING, b"?"), frame(TEXT, SURROGATE), frame(PING)], [Frame(PONG, b"?")], NO_UTF8
    ),
    "binary need not be UTF-8": good(fragments(BINARY, SURROGATE, 1), [Frame(BINARY, SURROGATE)]),
})
def test_6_utf8(case: Case, client: Client) -> None:
    play(case, client)


class Sequences(NamedTuple):
    """Texts of Markus Kuhn's UTF-8 decoder stress test, in the suite's order."""

    good: Sequence[bytes] = ()
    bad: Sequence[bytes] = ()  # after the good ones


CUT_SHORT = [
    *(b"\xc0", b"\xe0\x80", b"\xf0\x80\x80", b"\xf8\x80\x80\x80", b"\xfc\x80\x80\x80\x80"),
    *(b"\xdf", b"\xef\xbf", b"\xf7\xbf\xbf", b"\xfb\xbf\xbf\xbf", b"\xfd\xbf\xbf\xbf\xbf"),
]
STARTS = [(0xC0, 0xDF), (0xE0, 0xEF), (0xF0, 0xF7), (0xF8, 0xFB), (0xFC, 0xFD)]
SURROGATES = [b"\xed\xa0\x80", b"\xed\xad\xbf", b"\xed\xae\x80", b"\xed\xaf\xbf"]
UTF8 = {
    "6.5 valid": Sequences([
        b"hello$world",
        b"hello\xc2\xa2world",
        b"hello\xe2\x82\xacworld",
        b"hello\xf0\xa4\xad\xa2world",
        KOSME,
    ]),
    "6.6 prefixes": Sequences(
        [KOSME[:size] for size in (2, 5, 7, 9, 11)], [KOSME[:size] for size in (1, 3, 4, 6, 8, 10)]
    ),
    "6.7 first of a length": Sequences([b"\x00", b"\xc2\x80", b"\xe0\xa0\x80", b"\xf0\x90\x80\x80"]),
    "6.8 first of length 5 and 6": Sequences(bad=[b"\xf8\x88\x80\x80\x80", b"\xfc\x84\x80\x80\x80\x80"]),
    "6.9 last of a length": Sequences([b"\x7f", b"\xdf\xbf", b"\xef\xbf\xbf", b"\xf4\x8f\xbf\xbf"]),
    "6.10 last of length 4 to 6": Sequences(
        bad=[b"\xf7\xbf\xbf\xbf", b"\xfb\xbf\xbf\xbf\xbf", b"\xfd\xbf\xbf\xbf\xbf\xbf"]
    ),
    "6.11 other boundaries": Sequences(
        [b"\xed\x9f\xbf", b"\xee\x80\x80", b"\xef\xbf\xbd", b"\xf4\x8f\xbf\xbf"], [b"\xf4\x90\x80\x80"]
    ),
    "6.12 unexpected continuation": Sequences(
        bad=[b"\x80", b"\xbf", *((b"\x80\xbf" * 3)[:size] for size in range(2, 7)), bytes(range(0x80, 0xBF))]
    ),
    "6.13 lonely starts": Sequences(
        bad=[b"".join(bytes((start, 0x20)) for start in range(first, last)) for first, last in STARTS]
    ),
    "6.14 last byte missing": Sequences(bad=CUT_SHORT),
    "6.15 all of them": Sequences(bad=[b"".join(CUT_SHORT)]),
    "6.16 impossible bytes": Sequences(bad=[b"\xfe", b"\xff", b"\xfe\xfe\xff\xff"]),
    "6.17 overlong ASCII": Sequences(
        bad=[b"\xc0\xaf", b"\xe0\x80\xaf", b"\xf0\x80\x80\xaf", b"\xf8\x80\x80\x80\xaf", b"\xfc\x80\x80\x80\x80\xaf"]
    ),
    "6.18 longest overlong": Sequences(
        bad=[b"\xc1\xbf", b"\xe0\x9f\xbf", b"\xf0\x8f\xbf\xbf", b"\xf8\x87\xbf\xbf\xbf", b"\xfc\x83\xbf\xbf\xbf\xbf"]
    ),
    "6.19 overlong NUL": Sequences(
        bad=[b"\xc0\x80", b"\xe0\x80\x80", b"\xf0\x80\x80\x80", b"\xf8\x80\x80\x80\x80", b"\xfc\x80\x80\x80\x80\x80"]
    ),
    "6.20 surrogates": Sequences(bad=[*SURROGATES, b"\xed\xb0\x80", b"\xed\xbe\x80", b"\xed\xbf\xbf"]),
    "6.21 pairs of surrogates": Sequences(
        bad=[high + low for high in SURROGATES for low in (b"\xed\xb0\x80", b"\xed\xbf\xbf")]
    ),
    "6.22 no characters, but valid": Sequences([
        *(b"\xef\xbf\xbe", b"\xef\xbf\xbf"),
        *(chr(plane << 16 | 0xFFFE | last).encode() for plane in range(1, 17) for last in (0, 1)),
    ]),
    "6.23 specials": Sequences([b"\xef\xbf" + bytes((last,)) for last in range(0xB9, 0xC0)]),
}


@pytest.mark.parametrize("size", [1 << 16, 2, 1], ids=["in one frame", "in frames of 2 octets", "in frames of 1 octet"])
@pytest.mark.parametrize("sequences", UTF8.values(), ids=UTF8.keys())
def test_6_utf8_sequences(sequences: Sequences, size: int, server: Server) -> None:
    for text in sequences.good:
        with Client(server.port) as client:
            play(good(fragments(TEXT, text, size), [Frame(TEXT, text)]), client)
    for text in sequences.bad:
        with Client(server.port) as client:
            play(bad(fragments(TEXT, text, size), code=NO_UTF8), client)


EMPTY_CLOSE = frame(CLOSE)
NO_CODE = 0
VALID_CODES = [1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 3000, 3999, 4000, 4999]
INVALID_CODES = [0, 999, 1004, 1005, 1006, 1016, 1100, 2000, 2999]


@table({
    "7.1.1": good([frame(TEXT, b"Hello World!")], [Frame(TEXT, b"Hello World!")]),
    "7.1.1 at once": bad([frame(TEXT, HELLO), closing(NORMAL)], HELLO_BACK, NORMAL),
    "7.1.2": bad([closing(NORMAL), EMPTY_CLOSE], code=NORMAL),
    "7.1.3": bad([closing(NORMAL), frame(PING)], code=NORMAL),
    "7.1.4": bad([closing(NORMAL), frame(TEXT, b"Hello World!")], code=NORMAL),
    "7.1.5": bad([IN_TWO[0], closing(NORMAL), IN_TWO[1]], code=NORMAL),
    "7.1.6": bad(
        [frame(TEXT, b"BAsd7&jh23" * 26215), frame(TEXT, HELLO), closing(NORMAL), frame(PING)],
        [Frame(TEXT, b"BAsd7&jh23" * 26215), *HELLO_BACK],
        NORMAL,
    ),
    "7.3.1": bad([EMPTY_CLOSE], code=NO_CODE),
    "7.3.2": bad([frame(CLOSE, b"a")]),
    "7.3.3": bad([closing(NORMAL)], code=NORMAL),
    "7.3.4": bad([closing(NORMAL, b"Hello World!")], code=NORMAL),
    "7.3.5": bad([closing(NORMAL, b"*" * 123)], code=NORMAL),
    "7.3.6": bad([closing(NORMAL, b"*" * 124)]),
    "7.5.1": bad([closing(NORMAL, SURROGATE)], code=NO_UTF8),
    **{f"7.7.{number}": bad([closing(code)], code=code) for number, code in enumerate(VALID_CODES, 1)},
    **{f"7.9.{number}": bad([closing(code)]) for number, code in enumerate(INVALID_CODES, 1)},
    "7.13.1": bad([closing(5000)]),
    "7.13.2": bad([closing(65535)]),
})
def test_7_closing(case: Case, client: Client) -> None:
    play(case, client)


def text_of(size: int) -> bytes:
    return (b"BAsd7&jh23" * (size // 10 + 1))[:size]


def binary_of(size: int) -> bytes:
    return (b"\x00\xfe\x23\xfa\xf0" * (size // 5 + 1))[:size]


def in_fragments(opcode: int, payload: bytes, size: int) -> Case:
    return good(fragments(opcode, payload, size), [Frame(opcode, payload)])


@table({
    **{f"9.1.{number}": echo(TEXT, text_of(size)) for number, size in enumerate(LARGE, 1)},
    **{f"9.2.{number}": echo(BINARY, binary_of(size)) for number, size in enumerate(LARGE, 1)},
    "9.3.1": in_fragments(TEXT, text_of(4 * MIB), 64),
    "9.3.3": in_fragments(TEXT, text_of(4 * MIB), KIB),
    "9.3.6": in_fragments(TEXT, text_of(4 * MIB), 64 * KIB),
    "9.3.9": in_fragments(TEXT, text_of(4 * MIB), 4 * MIB),
    "9.4.1": in_fragments(BINARY, binary_of(4 * MIB), 64),
    "9.4.4": in_fragments(BINARY, binary_of(4 * MIB), 4 * KIB),
    "9.4.8": in_fragments(BINARY, binary_of(4 * MIB), MIB),
    "9.5.1": echo(TEXT, text_of(MIB), 64),
    "9.5.6": echo(TEXT, text_of(MIB), 2048),
    "9.6.1": echo(BINARY, binary_of(MIB), 64),
    "9.6.6": echo(BINARY, binary_of(MIB), 2048),
    "10.1.1": in_fragments(TEXT, b"*" * 65536, 1300),
})
def test_9_limits_and_10_fragments(case: Case, client: Client) -> None:
    play(case, client)


@pytest.mark.parametrize("size", [0, 16, 64, 256, 1024, 4096])
@pytest.mark.parametrize(("opcode", "payload_of"), [(TEXT, text_of), (BINARY, binary_of)], ids=["9.7", "9.8"])
def test_9_one_message_after_another(
    opcode: int, payload_of: Callable[[int], bytes], size: int, client: Client
) -> None:
    payload = payload_of(size)
    play(Case([Step([frame(opcode, payload)], [Frame(opcode, payload)])] * 200), client)


OFFER = "permessage-deflate; client_no_context_takeover; client_max_window_bits"
OFFERS = {
    "13.1": OFFER,
    "13.2": f"{OFFER}; server_no_context_takeover",
    "13.3": f"{OFFER}; server_max_window_bits=9",
    "13.4": f"{OFFER}; server_max_window_bits=15",
    "13.5": f"{OFFER}; server_no_context_takeover; server_max_window_bits=9",
    "13.6": f"{OFFER}; server_no_context_takeover; server_max_window_bits=15",
    "13.7": f"{OFFER}; server_no_context_takeover; server_max_window_bits=9, {OFFER}, permessage-deflate",
    "no client_max_window_bits": "permessage-deflate",
    "the client's window": "permessage-deflate; client_max_window_bits=9",
    "another extension first": "x-webkit-deflate-frame, permessage-deflate",
    "a bad offer first": "permessage-deflate; server_max_window_bits=7, permessage-deflate; client_max_window_bits",
}
WINDOWS = {  # the server's and the client's, when they are not 12 and 12
    "13.3": (9, 12),
    "13.5": (9, 12),
    "13.7": (9, 12),
    "no client_max_window_bits": (12, None),
    "the client's window": (12, 9),
    "another extension first": (12, None),
}


@pytest.mark.parametrize("number", OFFERS)
def test_13_what_is_agreed_on(number: str, compressing_server: Server) -> None:
    server_bits, client_bits = WINDOWS.get(number, (12, 12))
    agreed = [
        "permessage-deflate",
        "server_no_context_takeover",
        "client_no_context_takeover",
        f"server_max_window_bits={server_bits}",
        *([f"client_max_window_bits={client_bits}"] if client_bits else []),
    ]
    with Client(compressing_server.port, f"Sec-WebSocket-Extensions: {OFFERS[number]}") as client:
        assert client.headers["sec-websocket-extensions"].split("; ") == agreed
        converse(client, client_bits or 15)


def converse(client: Client, window_bits: int) -> None:
    """Messages of the suite's sizes, whole and in fragments, compressed and not."""
    rng = random.Random(window_bits)
    for size, fragment_size in [(16, 16), (256, 256), (4096, 4096), (8192, 256), (131_072, 131_072), (131_072, 1024)]:
        for opcode, payload in ((TEXT, json_of(size, rng)), (BINARY, rng.randbytes(size))):
            packed = deflated(payload, window_bits)
            client.send(b"".join(fragments(opcode, packed, fragment_size, RSV1)))
            assert client.receive() == Frame(opcode, payload)
            client.send(frame(opcode, payload))
            assert client.receive() == Frame(opcode, payload)
    play(Case([]), client)


def json_of(size: int, rng: random.Random) -> bytes:
    """What is said here, and can be made smaller."""
    told = (f'["{rng.randrange(10**6)}.00", "{rng.random():.8f}"], ' for _ in range(size // 20 + 1))
    return "".join(told).encode()[:size]


@pytest.mark.parametrize(
    "offer",
    [
        pytest.param("permessage-deflate; server_max_window_bits=8", id="a window that zlib cannot make"),
        pytest.param("permessage-deflate; unknown", id="unknown parameter"),
        pytest.param("x-webkit-deflate-frame", id="another extension"),
    ],
)
def test_13_what_cannot_be_agreed_on_is_left_out(offer: str, compressing_server: Server) -> None:
    with Client(compressing_server.port, f"Sec-WebSocket-Extensions: {offer}") as client:
        assert "sec-websocket-extensions" not in client.headers
        play(bad_after_hello(frame(TEXT, deflated(HELLO), rsv=RSV1)), client)


def test_13_compression_that_is_not_set_is_not_agreed_on(server: Server) -> None:
    with Client(server.port, f"Sec-WebSocket-Extensions: {OFFER}") as client:
        assert "sec-websocket-extensions" not in client.headers


PACKED = deflated(HELLO, 12)


@table({
    "12, Hello of RFC 7692": good([frame(TEXT, bytes.fromhex("f248cdc9c90700"), rsv=RSV1)], [Frame(TEXT, b"Hello")]),
    "its fragments": good(
        [frame(TEXT, bytes.fromhex("f248cd"), fin=False, rsv=RSV1), frame(CONTINUATION, bytes.fromhex("c9c90700"))],
        [Frame(TEXT, b"Hello")],
    ),
    "its block without compression": good(
        [frame(TEXT, bytes.fromhex("000500faff48656c6c6f00"), rsv=RSV1)], [Frame(TEXT, b"Hello")]
    ),
    "its final block": good([frame(TEXT, bytes.fromhex("f348cdc9c9070000"), rsv=RSV1)], [Frame(TEXT, b"Hello")]),
    "its two blocks": good(
        [frame(TEXT, bytes.fromhex("f24805000000ffffcac9c90700"), rsv=RSV1)], [Frame(TEXT, b"Hello")]
    ),
    "nothing": good([frame(TEXT, b"\x00", rsv=RSV1)], [Frame(TEXT, b"")]),
    "a ping between fragments": good(
        [frame(TEXT, PACKED[:3], fin=False, rsv=RSV1), frame(PING, b"?"), frame(CONTINUATION, PACKED[3:])],
        [Frame(PONG, b"?"), *HELLO_BACK],
    ),
    "frames of a character's bytes": good(fragments(TEXT, deflated(KOSME, 12), 1, RSV1), [Frame(TEXT, KOSME)]),
    "not UTF-8": bad([frame(TEXT, deflated(SURROGATE, 12), rsv=RSV1)], code=NO_UTF8),
    "not deflated": bad([frame(TEXT, b"\xff" * 20, rsv=RSV1)]),
    "a compressed ping": bad([frame(PING, PACKED, rsv=RSV1)]),
    "a compressed close frame": bad([frame(CLOSE, PACKED, rsv=RSV1)]),
    "a continuation that says it is compressed": bad([
        frame(TEXT, PACKED[:3], fin=False, rsv=RSV1),
        frame(CONTINUATION, PACKED[3:], rsv=RSV1),
    ]),
    "a continuation of plain text that says it is compressed": bad([
        frame(TEXT, ONE, fin=False),
        frame(CONTINUATION, PACKED, rsv=RSV1),
    ]),
    "other reserved bits": bad_after_hello(frame(TEXT, PACKED, rsv=RSV1 | 1)),
})
def test_12_compressed_messages(case: Case, compressing_server: Server) -> None:
    with Client(compressing_server.port, f"Sec-WebSocket-Extensions: {OFFER}") as client:
        play(case, client)


def test_what_comes_with_the_handshake_is_answered_after_it(server: Server) -> None:
    with connected(server.port) as socket:
        socket.sendall(handshake() + frame(TEXT, HELLO) + frame(PING, b"?") + closing(NORMAL))
        received = b"".join(iter(lambda: socket.recv(1 << 16), b""))
    assert received.startswith(b"HTTP/1.1 101 ")
    _, _, frames = received.partition(b"\r\n\r\n")
    assert frames == b"\x81\x0dHello, world!" + b"\x8a\x01?" + b"\x88\x02\x03\xe8"


def test_after_its_close_frame_the_server_sends_no_message() -> None:
    """RFC 6455, 5.5.1. It goes on to read until the client has closed, too."""
    with echoing() as server, Client(server.port) as client:
        client.send(frame(TEXT, HELLO))
        assert client.receive() == Frame(TEXT, HELLO)
        server.process.terminate()
        last = client.receive()
        assert last is not None
        assert (last.opcode, last.code) == (CLOSE, 1001)
        client.send(frame(TEXT, HELLO) + frame(PING, b"?"))
        client.send(closing(1001))
        assert [each.opcode for each in client.receive_all()] in ([], [PONG])
