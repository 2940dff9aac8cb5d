"""One client's WebSocket protocol without a socket: bytes in, messages and bytes to send out.

Handshake, masks, frames, pings and the closing handshake are the `websockets` package's sans-I/O protocol. What it
leaves to its user is here: messages put together from their fragments, and text that must be UTF-8 as far as it has
come. What is wrong fails the connection with the code of RFC 6455, 7.4.1, and nothing of it comes out.
"""

import codecs
import logging
import re
import struct
from collections.abc import Sequence
from dataclasses import dataclass

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

    def select_subprotocol(self, subprotocols: Sequence[Subprotocol]) -> Subprotocol | None:
        """Ours if it is offered; a client may offer none, but not only others."""
        if not subprotocols or not self.available_subprotocols:
            return None
        (ours,) = self.available_subprotocols
        if ours in subprotocols:
            return ours
        raise NegotiationError(f"the subprotocol {ours} must be among those that are offered")


class Wire:
    """The protocol of one connection."""

    __slots__ = (
        "_decoder",
        "_head",
        "_messages",
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
        self._messages: list[bytes] = []
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
        closes = (self._protocol.close_rcvd, self._protocol.close_sent)
        first, second = closes if self._protocol.close_rcvd_then_sent else reversed(closes)
        close = first or second
        return 0 if close is None else int(close.code)

    def receive(self, data: bytes) -> list[bytes]:
        """Take bytes; the messages that they complete. None come before `accept`. See `to_send` afterwards."""
        if self._head is None:
            self._protocol.receive_data(data)
            return self._take()
        self._head += data
        if self.request is None and self.is_shaking:
            size = self._head.find(_HEAD_END) + len(_HEAD_END)
            if size >= len(_HEAD_END):
                self._protocol.receive_data(bytes(self._head[:size]))
                del self._head[:size]  # what is left are frames, which wait for the answer
                self._take()
        if len(self._head) > HEAD_MAX_SIZE and self.is_shaking:
            self.reject(431, "The request is too large.\n")
        return []

    def accept(self) -> list[bytes]:
        """Answer the handshake; the messages that came with it. `is_open` says whether it was a good one."""
        assert self.request is not None
        assert self._head is not None
        response = self._protocol.accept(self.request)
        self._protocol.send_response(response)
        self.request = None
        if not self.is_open:
            return []
        extensions: Sequence[Extension] = self._protocol.extensions
        self.deflates = next((each for each in extensions if isinstance(each, PerMessageDeflate)), None)
        rest, self._head = bytes(self._head), None
        return self.receive(rest)

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
        """The bytes that the protocol itself wants to send."""
        if not self._protocol.writes:
            return b""
        pieces = self._protocol.data_to_send()
        self.is_ended |= b"" in pieces  # the package's sign
        return b"".join(pieces)

    def _take(self) -> list[bytes]:
        for event in self._protocol.events_received():
            if isinstance(event, Request):
                self.request = event
            elif isinstance(event, Frame):
                self.frame_count += 1
                if event.opcode < Opcode.CLOSE and not self._take_part(event):
                    self._protocol.fail(CloseCode.INVALID_DATA, "text must be UTF-8")
                    self._messages.clear()
                    break
        messages, self._messages = self._messages, []
        return messages

    def _take_part(self, frame: Frame) -> bool:
        """Add a data frame to its message; whether it may be part of it."""
        if frame.fin and self._parts is None:  # nearly always
            if frame.opcode is Opcode.TEXT and not _is_utf8(frame.data):
                return False
            self._messages.append(bytes(frame.data))
            return True
        if self._parts is None:
            self._parts = bytearray()
            self._decoder = _Utf8() if frame.opcode is Opcode.TEXT else None
        if self._decoder is not None:
            try:
                self._decoder.decode(bytes(frame.data), frame.fin)
            except UnicodeDecodeError:
                return False
        self._parts += frame.data
        if frame.fin:
            self._messages.append(bytes(self._parts))
            self._parts = self._decoder = None
        return True


def _is_utf8(data: bytes | bytearray | memoryview) -> bool:
    try:
        str(data, "utf-8")
    except UnicodeDecodeError:
        return False
    return True
