"""One client's WebSocket protocol without a socket: bytes in, messages and bytes to send out.

Handshake, masks, frames, pings and the closing handshake are the `websockets` package's sans-I/O protocol. What it
leaves to its user is here: messages put together from their fragments, and text that must be UTF-8 as far as it has
come. What is wrong fails the connection with the code of RFC 6455, 7.4.1, and nothing of it comes out.
"""

import codecs
import logging
import re
import struct
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple, NoReturn

from websockets.exceptions import InvalidOrigin, NegotiationError
from websockets.extensions import Extension
from websockets.extensions.permessage_deflate import PerMessageDeflate, ServerPerMessageDeflateFactory
from websockets.frames import CloseCode, Frame, Opcode
from websockets.http11 import Request
from websockets.protocol import OPEN, State
from websockets.server import ServerProtocol
from websockets.typing import Subprotocol

WINDOW_BITS = 12  # of a compressor: 4 KiB is more than a notification has
HEAD_MAX_SIZE = 16 * 1024  # bytes of a handshake
REASON_MAX = 123  # bytes: a control frame has room for no more
_ANY_ORIGIN = None
_HEAD_END = b"\r\n\r\n"
_SUBDOMAINS = "*."
_LOGGER = logging.getLogger("tradepit.ws")
_LOGGER.setLevel(logging.WARNING)  # the package tells of every connection
_Utf8 = codecs.getincrementaldecoder("utf-8")


@dataclass(frozen=True, kw_only=True)
class Terms:
    """What all clients of a process must keep to."""

    message_max_size: int
    subprotocol: str = ""  # "" offers none
    origins: Sequence[re.Pattern[str] | None] | None = _ANY_ORIGIN
    extensions: Sequence[ServerPerMessageDeflateFactory] = ()


def origin_rules(origins: Sequence[str]) -> Sequence[re.Pattern[str] | None] | None:
    """The setting `ws.origins` as the protocol takes it: None is every origin, as in it a client without one."""
    return [None, *map(_origin_rule, origins)] if origins else _ANY_ORIGIN


def _origin_rule(origin: str) -> re.Pattern[str]:
    if origin.startswith(_SUBDOMAINS):
        return re.compile(r"https?://[^/]+\." + re.escape(origin.removeprefix(_SUBDOMAINS)), re.IGNORECASE)
    return re.compile(re.escape(origin), re.IGNORECASE)


def deflating() -> ServerPerMessageDeflateFactory:
    """permessage-deflate for which each message stands alone: it costs no memory, and one compression serves all."""
    return ServerPerMessageDeflateFactory(
        server_no_context_takeover=True,
        client_no_context_takeover=True,
        server_max_window_bits=WINDOW_BITS,
        client_max_window_bits=WINDOW_BITS,
        compress_settings={"memLevel": 5},
    )


class Message:
    """A text message to any number of clients: each form of its frame is made once, when the first client needs it."""

    __slots__ = ("_deflated", "_payload", "plain")

    def __init__(self, text: str) -> None:
        self._payload = text.encode(errors="replace")
        self.plain = _header(len(self._payload)) + self._payload
        self._deflated: dict[int, bytes] = {}  # by the bits of the window

    def __len__(self) -> int:
        return len(self._payload)

    def frame(self, wire: "Wire") -> bytes:
        """The frame as this client takes it."""
        if wire.deflates is None:
            return self.plain
        bits = wire.deflates.local_max_window_bits
        if bits not in self._deflated:
            frame = Frame(Opcode.TEXT, self._payload)
            self._deflated[bits] = frame.serialize(mask=False, extensions=[wire.deflates])
        return self._deflated[bits]


def _header(size: int) -> bytes:
    if size < 126:
        return bytes((0x81, size))
    return struct.pack("!BBH", 0x81, 126, size) if size < 1 << 16 else struct.pack("!BBQ", 0x81, 127, size)


class _Protocol(ServerProtocol):
    """The package's protocol, with ViaBTC's rule for subprotocols (CONTRACT 5.1)."""

    def recv_frame(self, frame: Frame) -> None:
        """A client may close in the midst of a message, too, which the package takes for an error."""
        if frame.opcode is Opcode.CLOSE:
            self.current_size = None
        super().recv_frame(frame)

    def select_subprotocol(self, subprotocols: Sequence[Subprotocol]) -> Subprotocol | None:
        """Ours if it is offered; a client may offer none, but not only others."""
        if not subprotocols or not self.available_subprotocols:
            return None
        (ours,) = self.available_subprotocols
        if ours in subprotocols:
            return ours
        raise NegotiationError(f"the subprotocol {ours} must be among those that are offered")


class Kind(Enum):
    """What a piece is: a message that has come, or bytes to send."""

    TEXT = "text"
    BINARY = "binary"
    OWN = "own"


class Piece(NamedTuple):
    """What comes of the bytes of a client."""

    data: bytes
    kind: Kind


class _Failed(Exception):
    """The connection has failed."""


class Wire:
    """The protocol of one connection."""

    __slots__ = (
        "_decoder",
        "_head",
        "_message_max_size",
        "_parts",
        "_protocol",
        "deflates",
        "frame_count",
        "is_ended",
        "request",
    )

    def __init__(self, terms: Terms) -> None:
        self.request: Request | None = None  # the handshake's, when it is whole, until it is answered
        self.deflates: PerMessageDeflate | None = None
        self.is_ended = False  # all that is to be sent has been given out: then the end
        self.frame_count = 0  # that have come
        self._protocol = _Protocol(
            origins=terms.origins,
            subprotocols=[Subprotocol(terms.subprotocol)] if terms.subprotocol else None,
            extensions=terms.extensions,
            max_size=terms.message_max_size,
            logger=_LOGGER,
        )
        self._head: bytearray | None = bytearray()  # of the handshake, as long as that is not answered
        self._message_max_size = terms.message_max_size
        self._parts: bytearray | None = None  # of a message that is not complete
        self._decoder: codecs.IncrementalDecoder | None = None  # of that, if it is text

    @property
    def is_open(self) -> bool:
        """Whether messages may go either way."""
        return self._protocol.state is OPEN

    @property
    def is_shaking(self) -> bool:
        """Whether the handshake has not come to its end yet."""
        return self._protocol.state is State.CONNECTING and not self._protocol.eof_sent

    @property
    def is_of_strange_origin(self) -> bool:
        """Whether the handshake was refused for its Origin."""
        return isinstance(self._protocol.handshake_exc, InvalidOrigin)

    @property
    def close_code(self) -> int:
        """What ended the connection: the code of the first close frame of either side, 0 when there was none."""
        close = self._protocol.close_rcvd if self._protocol.close_rcvd_then_sent else self._protocol.close_sent
        return 0 if close is None else int(close.code)

    @property
    def fail_code(self) -> int:
        """The same if it was ours."""
        return 0 if self._protocol.close_rcvd_then_sent else self.close_code

    def receive(self, data: bytes) -> list[Piece]:
        """Take bytes; the messages that they complete, and what is to be sent, in order.

        Until the handshake is accepted there are none; see `request`.
        """
        if self._head is None:
            self._protocol.receive_data(data)
            return self._take()
        if not self.is_shaking:  # it was refused
            return []
        self._head += data
        pieces: list[Piece] = []
        if self.request is None:
            size = self._head.find(_HEAD_END) + len(_HEAD_END)
            if size >= len(_HEAD_END):
                self._protocol.receive_data(bytes(self._head[:size]))
                del self._head[:size]  # what is left are frames, which wait for the answer
                pieces = self._take()
        if len(self._head) > HEAD_MAX_SIZE and self.is_shaking:
            self.reject(431, "The request is too large.\n")
        if not self.is_shaking:
            self._head.clear()
        return pieces

    def accept(self) -> list[Piece]:
        """Answer the handshake; the answer, and what came with it. `is_open` says whether it was a good one."""
        assert self.request is not None
        assert self._head is not None
        response = self._protocol.accept(self.request)
        self._protocol.send_response(response)
        self.request = None
        answer = Piece(self.to_send(), Kind.OWN)
        if not self.is_open:
            self._head.clear()
            return [answer]
        extensions: Sequence[Extension] = self._protocol.extensions
        self.deflates = next((each for each in extensions if isinstance(each, PerMessageDeflate)), None)
        rest, self._head = bytes(self._head), None
        return [answer, *self.receive(rest)]

    def reject(self, status: int, text: str) -> None:
        """Refuse the handshake."""
        self._protocol.send_response(self._protocol.reject(status, text))

    def end(self) -> None:
        """The client sends no more."""
        self._protocol.receive_eof()

    def ping(self) -> None:
        """Send a ping, if the connection is open."""
        if self.is_open:
            self._protocol.send_ping(b"")

    def close(self, code: int, reason: str = "") -> None:
        """Begin the closing handshake, if the connection is open."""
        if self.is_open:
            self._protocol.send_close(code, reason.encode()[:REASON_MAX].decode(errors="ignore"))

    def to_send(self) -> bytes:
        """The bytes that the protocol itself wants to send after `ping`, `close`, `reject`."""
        pieces = self._protocol.data_to_send()
        self.is_ended |= b"" in pieces  # the package's sign
        return b"".join(pieces)

    def _take(self) -> list[Piece]:
        own = self._protocol.data_to_send()  # pongs in the order of pings, then what closes
        self.is_ended |= b"" in own
        pieces: list[Piece] = []
        events = deque(self._protocol.events_received())
        while events:
            event = events.popleft()
            if isinstance(event, Request):
                self.request = event
            elif isinstance(event, Frame):
                self.frame_count += 1
                if event.opcode is Opcode.PING:
                    pieces.append(Piece(own.pop(0), Kind.OWN))
                elif event.opcode < Opcode.CLOSE:
                    try:
                        pieces += self._add(event)
                    except _Failed:  # what the package has found wrong further on is told all the same
                        del own[: sum(isinstance(each, Frame) and each.opcode is Opcode.PING for each in events)]
                        break
        last = b"".join(own) + self.to_send()
        return [*pieces, Piece(last, Kind.OWN)] if last else pieces

    def _add(self, frame: Frame) -> list[Piece]:
        """Add a data frame to its message; the message if that is complete. Raises _Failed."""
        if frame.fin and self._parts is None:  # nearly always
            is_text = frame.opcode is Opcode.TEXT
            if is_text and not _is_utf8(frame.data):
                self._fail(CloseCode.INVALID_DATA, "text must be UTF-8")
            return [Piece(bytes(frame.data), Kind.TEXT if is_text else Kind.BINARY)]
        if self._parts is None:
            self._parts = bytearray()
            self._decoder = _Utf8() if frame.opcode is Opcode.TEXT else None
        self._parts += frame.data
        unused = getattr(getattr(self.deflates, "decoder", None), "unused_data", b"")
        if len(unused) > self._message_max_size:  # what follows the end of compressed data counts for no other limit
            self._fail(CloseCode.MESSAGE_TOO_BIG, "more follows the end of compressed data")
        try:
            if self._decoder is not None:
                self._decoder.decode(bytes(frame.data), frame.fin)
        except UnicodeDecodeError:
            self._fail(CloseCode.INVALID_DATA, "text must be UTF-8")
        if not frame.fin:
            return []
        message = Piece(bytes(self._parts), Kind.BINARY if self._decoder is None else Kind.TEXT)
        self._parts = self._decoder = None
        return [message]

    def _fail(self, code: CloseCode, reason: str) -> NoReturn:
        self._parts = self._decoder = None
        self._protocol.fail(code, reason)
        raise _Failed


def _is_utf8(data: bytes | bytearray | memoryview) -> bool:
    try:
        str(data, "utf-8")
    except UnicodeDecodeError:
        return False
    return True
