"""Bytes that nobody would send, to gateways.ws.frames.Wire and over sockets: they upset nothing and stay nowhere."""

import logging
import random
import socket
import struct
import time
import tracemalloc
import zlib
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from itertools import pairwise
from typing import NamedTuple

import psutil
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateways.ws.frames import HEAD_MAX_SIZE, Kind, Piece, Terms, Wire, deflating
from tests.gateways.ws.raw_client import (
    BINARY,
    CLOSE,
    CONTINUATION,
    HANDSHAKE,
    HEAD_END,
    PATIENCE_S,
    PING,
    PONG,
    RSV1,
    TEXT,
    Client,
    Frame,
    connected,
    deflated,
    echoing,
    first_frame,
    fragments,
    frame,
    handshake,
)

MESSAGE_MAX_SIZE = 1000
TERMS = {
    "plain": Terms(message_max_size=MESSAGE_MAX_SIZE),
    "compressed": Terms(message_max_size=MESSAGE_MAX_SIZE, extensions=[deflating()]),
}
EXTENSION = "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits"
WINDOW_BITS = 12
FRAME_HEAD_MAX_SIZE = 14
HELD_MAX_SIZE = 3 * MESSAGE_MAX_SIZE + FRAME_HEAD_MAX_SIZE  # a message, a frame, what follows the end of deflated data
NORMAL, NO_UTF8, TOO_BIG = 1000, 1007, 1009

both = pytest.mark.parametrize("terms", TERMS.values(), ids=TERMS.keys())


class _Refusing(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        raise AssertionError(record.getMessage())


@pytest.fixture(autouse=True, scope="module")
def nothing_is_logged() -> Iterator[None]:
    """The package logs what it did not think of."""
    logger, handler = logging.getLogger("tradepit.ws"), _Refusing(logging.WARNING)
    logger.addHandler(handler)
    yield
    logger.removeHandler(handler)


class Heard(NamedTuple):
    """What has come of a stream, in order."""

    pieces: list[Piece]

    @property
    def messages(self) -> list[bytes]:
        return [data for data, kind in self.pieces if kind is not Kind.OWN]

    @property
    def sent(self) -> bytes:
        return b"".join(data for data, kind in self.pieces if kind is Kind.OWN)

    @property
    def frames(self) -> list[Frame]:
        """The frames that are sent, if the messages are sent back."""
        opcodes = {Kind.TEXT: TEXT, Kind.BINARY: BINARY}
        found = list[Frame]()
        for data, kind in self.pieces:
            found += frames_of(data) if kind is Kind.OWN else [Frame(opcodes[kind], data)]
        return found


def play(wire: Wire, parts: Sequence[bytes], *, is_closing: bool = False) -> Heard:
    """Have bytes received as the gateway does; what is promised of any bytes holds after each part."""
    heard = list[Piece]()
    for part in parts:
        heard += wire.receive(part)
        if wire.request is not None:
            heard += wire.accept()
        if own := wire.to_send():
            heard.append(Piece(own, Kind.OWN))
        assert [wire.is_shaking, wire.is_open, wire.is_ended].count(True) == (wire.is_ended if is_closing else 1)
        assert held_size(wire) <= (HEAD_MAX_SIZE if wire.is_shaking else HELD_MAX_SIZE)
    return Heard(heard)


def held_size(wire: Wire) -> int:
    """Bytes that it keeps of what has come, or keeps to be sent."""
    protocol, decoder = wire._protocol, getattr(wire.deflates, "decoder", None)
    held = [wire._head, wire._parts, protocol.reader.buffer, *protocol.writes]
    if decoder is not None:
        held += [decoder.unused_data, decoder.unconsumed_tail]
    assert not protocol.events
    return sum(len(each) for each in held if each is not None)


def opened(terms: Terms) -> Wire:
    """One whose handshake is done."""
    wire = Wire(terms)
    assert play(wire, [handshake(EXTENSION)]).sent.startswith(b"HTTP/1.1 101 ")
    assert (wire.deflates is not None) == bool(terms.extensions)
    return wire


def frames_of(sent: bytes) -> list[Frame]:
    """What the server has sent after the handshake."""
    left, found = bytearray(sent), list[Frame]()
    while left:
        first = first_frame(left)
        assert first is not None, "the server sends whole frames"
        found.append(first[0])
        del left[: first[1]]
    return found


def cut(data: bytes, places: Sequence[int]) -> list[bytes]:
    """Data in pieces that end at these places, as far as there are such."""
    ends = sorted({place % (len(data) + 1) for place in places} | {0, len(data)})
    return [data[start:end] for start, end in pairwise(ends)]


places = st.lists(st.integers(0, 1 << 20), max_size=12)
masks = st.binary(min_size=4, max_size=4)
payloads = st.one_of(
    st.binary(max_size=40),
    st.text(max_size=20).map(str.encode),
    st.integers(0, MESSAGE_MAX_SIZE + 100).map(lambda size: b"x" * size),
    st.binary(max_size=40).map(deflated),
    st.integers(0, 1 << 20).map(lambda size: deflated(bytes(size))),
)
likely_frames = st.builds(
    frame,
    st.sampled_from([TEXT, BINARY, CONTINUATION, CONTINUATION, PING, PONG]),
    payloads,
    fin=st.booleans(),
    rsv=st.sampled_from([0, 0, 0, RSV1]),
    mask=masks,
    size_bits=st.sampled_from([None, None, 16, 64]),
)
unlikely_frames = st.builds(
    frame,
    st.integers(0, 15),
    payloads,
    fin=st.booleans(),
    rsv=st.integers(0, 7),
    mask=st.none() | masks,
    size_bits=st.sampled_from([None, 16, 64]),
)
closings = st.builds(frame, st.just(CLOSE), st.binary(max_size=130), mask=masks)
streams = st.lists(
    st.one_of(likely_frames, likely_frames, likely_frames, unlikely_frames, closings, st.binary(max_size=20)),
    max_size=12,
).map(b"".join)


@both
@settings(max_examples=400, deadline=None)
@given(streams, places)
def test_any_bytes_end_well_however_they_are_cut(terms: Terms, stream: bytes, places: list[int]) -> None:
    wire = opened(terms)
    heard = play(wire, cut(stream, places))
    assert without_reason(heard) == without_reason(play(opened(terms), [stream]))
    assert all(len(message) <= MESSAGE_MAX_SIZE for message in heard.messages)
    assert {each.opcode for each in heard.frames[:-1]} <= {TEXT, BINARY, PONG}
    assert wire.is_open == (CLOSE not in [each.opcode for each in heard.frames[-1:]])
    wire.close(NORMAL)
    wire.end()
    wire.to_send()
    assert not wire.is_open
    assert held_size(wire) <= HELD_MAX_SIZE


@both
@settings(max_examples=200, deadline=None)
@given(streams, places, st.integers(0, 12), st.text())
def test_any_bytes_end_well_while_the_server_pings_and_closes(
    terms: Terms, stream: bytes, places: list[int], number: int, reason: str
) -> None:
    wire, parts = opened(terms), cut(stream, places)
    heard = play(wire, parts[:number])
    wire.ping()
    wire.close(NORMAL, reason)
    heard.pieces.append(Piece(wire.to_send(), Kind.OWN))
    heard.pieces.extend(play(wire, parts[number:], is_closing=True).pieces)
    opcodes = [each.opcode for each in heard.frames]
    assert opcodes.count(CLOSE) == 1
    assert opcodes.count(PING) <= 1
    assert {*opcodes[opcodes.index(CLOSE) + 1 :]} <= {TEXT, BINARY, PONG}  # messages come, but are not answered
    assert not wire.is_open


def without_reason(heard: Heard) -> list[tuple[int, bytes]]:
    """The frames, but for why it is closed: of two reasons that come at once the second may be told."""
    return [(opcode, b"" if opcode == CLOSE else payload) for opcode, payload in heard.frames]


class Said(NamedTuple):
    """A message as a client sends it."""

    opcode: int
    payload: bytes
    fragment_size: int
    is_packed: bool
    pinged: dict[int, bytes]  # pings, by the number of the fragment that they follow

    def frames(self, is_packed: bool) -> Iterator[tuple[bytes, list[Frame]]]:
        """The frames, with the pings between, and what each is answered with."""
        payload = deflated(self.payload, WINDOW_BITS) if is_packed else self.payload
        parts = fragments(self.opcode, payload, self.fragment_size, RSV1 if is_packed else 0)
        for number, part in enumerate(parts):
            yield part, [Frame(self.opcode, self.payload)] if number == len(parts) - 1 else []
            if number in self.pinged:
                yield frame(PING, self.pinged[number]), [Frame(PONG, self.pinged[number])]


def said(texts: st.SearchStrategy[tuple[int, bytes]]) -> st.SearchStrategy[Said]:
    pings = st.dictionaries(st.integers(0, 5), st.binary(max_size=125), max_size=2)
    return st.builds(
        lambda text, size, is_packed, pinged: Said(text[0], text[1], size, is_packed, pinged),
        texts,
        st.integers(1, 40),
        st.booleans(),
        pings,
    )


whole = said(
    st.tuples(st.just(TEXT), st.text(max_size=100).map(str.encode))
    | st.tuples(st.just(BINARY), st.binary(max_size=300))
)


@both
@settings(max_examples=200, deadline=None)
@given(st.lists(whole, max_size=5), places, st.booleans())
def test_a_good_stream_gives_its_messages_however_it_is_cut(
    terms: Terms, conversation: list[Said], places: list[int], is_in_one: bool
) -> None:
    steps = [step for each in conversation for step in each.frames(each.is_packed and bool(terms.extensions))]
    stream = b"".join(part for part, _ in steps)
    wire = Wire(terms)
    greeted = play(wire, [] if is_in_one else [handshake(EXTENSION)])
    heard = play(wire, cut((handshake(EXTENSION) if is_in_one else b"") + stream, places))
    answer, *pieces = greeted.pieces + heard.pieces
    assert answer.data.startswith(b"HTTP/1.1 101 ")
    assert Heard(pieces).frames == [each for _, answers in steps for each in answers]
    assert wire.is_open
    assert wire.frame_count == len(steps)


broken_texts = st.lists(
    st.one_of(st.text(max_size=3).map(str.encode), st.binary(max_size=2), st.sampled_from([b"\xed\xa0", b"\xf4\x8f"])),
    max_size=5,
).map(b"".join)


@both
@settings(max_examples=300, deadline=None)
@given(broken_texts, st.integers(1, 8), places, st.booleans())
def test_text_is_taken_when_it_is_utf8_and_only_then(
    terms: Terms, text: bytes, fragment_size: int, places: list[int], is_packed: bool
) -> None:
    is_packed &= bool(terms.extensions)
    payload = deflated(text, WINDOW_BITS) if is_packed else text
    wire = opened(terms)
    sent = fragments(TEXT, payload, fragment_size, RSV1 if is_packed else 0)
    heard = play(wire, cut(b"".join(sent), places))
    if text == text.decode(errors="ignore").encode():
        assert (heard.messages, wire.is_open) == ([text], True)
    else:
        assert (heard.messages, wire.close_code) == ([], NO_UTF8)


HEADERS = [
    EXTENSION,
    "Sec-WebSocket-Protocol: chat, other",
    "Origin: https://trade.example.com",
    "Connection: keep-alive, Upgrade",
    "Sec-WebSocket-Version: 8",
    "Content-Length: 10",
    "X: é\x00",
    f"X: {'y' * 2000}",
]


MARKS = [b"\r\n", b"\n", b": ", b",", b";", b'"']


@st.composite
def handshakes(draw: st.DrawFn) -> bytes:
    """A good one with some of its bytes changed."""
    data = bytearray(handshake(*draw(st.lists(st.sampled_from(HEADERS), max_size=3))))
    for _ in range(draw(st.integers(0, 3))):
        start = draw(st.integers(0, len(data)))
        size = draw(st.sampled_from([0, 1, 2, 20]))
        data[start : start + size] = draw(
            st.binary(max_size=4) | st.sampled_from([b"\r\n", b"\n", b": ", b",", b";", b'"'])
        )
    return bytes(data)


@both
@settings(max_examples=400, deadline=None)
@given(st.one_of(handshakes(), st.binary(max_size=300), st.binary().map(lambda data: data + HEAD_END)), places)
def test_any_handshake_is_answered_or_not_taken_for_one(terms: Terms, data: bytes, places: list[int]) -> None:
    wire, at_once = Wire(terms), Wire(terms)
    heard, heard_at_once = play(wire, cut(data, places)), play(at_once, [data])
    assert (heard.messages, wire.is_open) == (heard_at_once.messages, at_once.is_open)
    assert heard.sent.partition(b"\r\n")[0] == heard_at_once.sent.partition(b"\r\n")[0]
    assert heard.sent.startswith(b"HTTP/1.1 101 ") == wire.is_open or wire.close_code
    assert heard.sent == b"" or heard.sent.startswith(b"HTTP/1.1 ")
    wire.end()
    assert not wire.is_open


@pytest.mark.parametrize("piece_size", [1, 100, HEAD_MAX_SIZE - 1, HEAD_MAX_SIZE, 10 * HEAD_MAX_SIZE])
@pytest.mark.parametrize("end", [b"", HEAD_END])
def test_a_handshake_that_is_too_large_is_refused(piece_size: int, end: bytes) -> None:
    head = HANDSHAKE.encode() + b"X: " + b"y" * HEAD_MAX_SIZE + end + b"z" * 10 * HEAD_MAX_SIZE
    wire = Wire(TERMS["plain"])
    heard = play(wire, [head[start : start + piece_size] for start in range(0, len(head), piece_size)])
    assert heard.sent.startswith(b"HTTP/1.1 431 ")
    assert wire.is_ended


def test_what_comes_after_a_refusal_is_not_kept() -> None:
    wire = Wire(TERMS["plain"])
    play(wire, [b"GET / HTTP/1.1\r\n\r\n"])
    assert wire.is_ended
    play(wire, [b"x" * HEAD_MAX_SIZE] * 10)
    assert held_size(wire) == 0


def test_a_message_may_have_its_largest_size_and_no_byte_more() -> None:
    for extra, messages, code in ((0, [b"x" * MESSAGE_MAX_SIZE], 0), (1, [], TOO_BIG)):
        for size in (MESSAGE_MAX_SIZE, 333, 100):
            wire = opened(TERMS["plain"])
            heard = play(wire, fragments(TEXT, b"x" * (MESSAGE_MAX_SIZE + extra), size))
            assert (heard.messages, wire.close_code) == (messages, code)


@pytest.mark.parametrize("fragment_size", [1, 100, MESSAGE_MAX_SIZE])
def test_what_is_small_only_when_compressed_is_too_big_all_the_same(fragment_size: int) -> None:
    bomb = deflated(bytes(900_000), WINDOW_BITS)
    assert len(bomb) < MESSAGE_MAX_SIZE
    wire = opened(TERMS["compressed"])
    tracemalloc.start()
    heard = play(wire, fragments(BINARY, bomb, fragment_size, RSV1))
    _, peak_size = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert (heard.messages, wire.close_code) == ([], TOO_BIG)
    assert peak_size < 200_000


def test_what_follows_the_end_of_compressed_data_is_not_kept_for_ever() -> None:
    """zlib keeps it beside the message, of which it is no part, so the limit of messages does not see it."""
    deflate = zlib.compressobj(wbits=-WINDOW_BITS)
    ended = deflate.compress(b"x") + deflate.flush(zlib.Z_FINISH)
    more = frame(CONTINUATION, b"y" * (MESSAGE_MAX_SIZE // 2), fin=False)
    wire = opened(TERMS["compressed"])
    play(wire, [frame(TEXT, ended, fin=False, rsv=RSV1)])
    play(wire, [more] * 10)
    assert wire.close_code == TOO_BIG


def test_fragments_without_end_are_not_kept() -> None:
    wire = opened(TERMS["plain"])
    play(wire, [frame(TEXT, fin=False)])
    play(wire, [frame(CONTINUATION, fin=False)] * 1000)
    assert wire.is_open
    assert play(wire, [frame(CONTINUATION, b"end")]).messages == [b"end"]


SEED = 20_231
WARM_UP_COUNT, CLIENT_COUNT = 1000, 4000
OPEN_AT_ONCE_COUNT = 50
GROWN_MAX_SIZE = 8 << 20


def noise(rng: random.Random) -> bytes:
    """Frames, few of them good."""
    made = []
    for _ in range(rng.randrange(1, 8)):
        size = rng.choice([0, 1, 5, 100, 125, 126, 200, 5_000, 70_000])
        payload = rng.choice([b"x" * size, rng.randbytes(size), deflated(bytes(size), WINDOW_BITS)])
        match rng.randrange(8):
            case 0:
                made.append(rng.randbytes(rng.randrange(30)))
            case 1:
                made.append(b"\x82\xff" + rng.randbytes(12))  # of any size up to 2 ** 64
            case 2:
                mask = rng.choice([None, rng.randbytes(4)])
                made.append(frame(rng.randrange(16), payload, fin=rng.random() < 0.5, rsv=rng.randrange(8), mask=mask))
            case 3:
                made.append(frame(CLOSE, rng.randbytes(rng.randrange(10))))
            case _:
                opcode = rng.choice([TEXT, BINARY, CONTINUATION, PING])
                made.append(frame(opcode, payload, fin=rng.random() < 0.7, rsv=rng.choice([0, 0, RSV1])))
    return b"".join(made)


def greeting(rng: random.Random) -> bytes:
    """A handshake, mostly a good one."""
    good = handshake(*rng.choice([[], [EXTENSION]]))
    match rng.randrange(10):
        case 0:
            return rng.randbytes(rng.randrange(300))
        case 1:
            start = rng.randrange(len(good))
            return good[:start] + rng.randbytes(rng.randrange(5)) + good[start + rng.randrange(5) :]
        case 2:
            return good[: rng.randrange(len(good))]
        case 3:
            return good[:-2] + b"X: " + b"y" * rng.randrange(40_000) + HEAD_END
        case _:
            return good


def leave_waiting(_: socket.socket) -> None:
    """Without a word."""


def leave_rudely(client: socket.socket) -> None:
    """With a reset, whatever was not read."""
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def leave_slowly(client: socket.socket) -> None:
    """Read until the server closes."""
    client.shutdown(socket.SHUT_WR)
    while client.recv(1 << 16):
        pass


LEAVES: list[Callable[[socket.socket], None]] = [leave_waiting, leave_rudely, leave_slowly]


def bother(port: int, rng: random.Random, client_count: int) -> None:
    """Have many clients send noise, some of them at the same time."""
    clients = deque[socket.socket]()
    for _ in range(client_count):
        client = connected(port)
        clients.append(client)
        if len(clients) > OPEN_AT_ONCE_COUNT:
            with clients.popleft() as oldest:
                annoy(oldest, rng.choice(LEAVES))
        data = greeting(rng) + noise(rng)
        place = rng.randrange(len(data) + 1)
        for piece in (data[:place], data[place:]):
            annoy(client, lambda each, piece=piece: each.sendall(piece))  # type: ignore[misc]
    for client in clients:
        client.close()


def annoy(client: socket.socket, act: Callable[[socket.socket], None]) -> None:
    """Do something with a socket, which the server may have closed."""
    with suppress(ConnectionError):
        act(client)


def test_thousands_of_bad_clients_change_nothing_for_a_good_one() -> None:
    rng = random.Random(SEED)
    with echoing("--compression") as server, Client(server.port) as good:
        process = psutil.Process(server.process.pid)
        fd_count = process.num_fds()
        bother(server.port, rng, WARM_UP_COUNT)
        before_size = rest(process, fd_count)
        bother(server.port, rng, CLIENT_COUNT)
        grown_size = rest(process, fd_count) - before_size
        for client in (good, Client(server.port)):
            with client:
                client.send(frame(TEXT, b"Hello"))
                assert client.receive() == Frame(TEXT, b"Hello")
    assert grown_size < GROWN_MAX_SIZE


def rest(process: psutil.Process, fd_count: int) -> int:
    """Wait until the server has closed all connections but that many; the size of its memory."""
    deadline = time.monotonic() + PATIENCE_S
    while process.num_fds() > fd_count:
        assert time.monotonic() < deadline, "the server keeps connections that their clients have closed"
        time.sleep(0.05)
    size: int = process.memory_info().rss
    return size
