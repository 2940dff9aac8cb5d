"""HTTP requests out of bytes: httptools does the syntax, this the limits.

A Parser is fed what a connection received and gives the requests that are complete, in order. It owns no socket.
When it refuses, it says with which status; what came before the refused request is still given.

Clients send the same head with every request, so heads that have been parsed once are remembered, byte for byte: to
know one again takes a tenth of the time. A worker's connections share what is known.
"""

from collections import deque
from dataclasses import dataclass, field

from httptools import HttpParserError, HttpParserUpgrade, HttpRequestParser

HEADER_COUNT_MAX = 100
URL_SIZE_MAX = 8192
UNFINISHED_SIZE_MAX = 256 << 20  # bytes of all requests of a worker that have begun and are not complete
KNOWN_COUNT_MAX = 1024  # heads that are remembered
KNOWN_SIZE_MAX = 1024  # bytes of such a head
SILENTLY = 0  # refused as the original does: closed without a reply (CONTRACT 1.1)
_HEAD_END = b"\r\n\r\n"
_UPGRADE_HEADERS = (b"connection", b"upgrade", b"http2-settings")


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What a request may be."""

    body_max_size: int
    header_max_size: int


@dataclass(slots=True)
class Head:
    """All of a request but its body; header names are lower-case."""

    method: bytes = b""
    url: bytes = b""
    version: str = "1.1"
    headers: list[tuple[bytes, bytes]] = field(default_factory=list)
    origin: bytes = b""
    speaks_json: bool = False
    keeps_alive: bool = True


Request = tuple[Head, bytes]  # and its body


class KnownHeads:
    """Heads by their bytes, with the size of the body that follows."""

    def __init__(self) -> None:
        self._known: dict[bytes, tuple[Head, int]] = {}

    def learn(self, data: bytes, head: Head, body_size: int) -> None:
        """Remember a head; `data` is one whole request."""
        head_size = len(data) - body_size
        if head_size <= KNOWN_SIZE_MAX and data.find(_HEAD_END) + len(_HEAD_END) == head_size:
            if len(self._known) >= KNOWN_COUNT_MAX:
                self._known.clear()
            self._known[data[:head_size]] = (head, body_size)

    def take(self, data: bytes, complete: deque[Request]) -> bytes:
        """Move the whole requests that `data` begins with to `complete`, up to the first unknown; return the rest."""
        at = 0
        while (head_end := data.find(_HEAD_END, at, at + KNOWN_SIZE_MAX)) >= 0:
            body_at = head_end + len(_HEAD_END)
            known = self._known.get(data[at:body_at])
            if known is None:
                break
            head, body_size = known
            if body_at + body_size > len(data):
                break
            at = body_at + body_size
            complete.append((head, data[body_at:at]))
        return data[at:] if at else data


class Room:
    """What all unfinished requests of a worker hold together: many clients may each send almost a whole body."""

    def __init__(self, size_max: int = UNFINISHED_SIZE_MAX) -> None:
        self._size_max = size_max
        self.held_size = 0

    @property
    def is_full(self) -> bool:
        """Whether the next one that grows is refused."""
        return self.held_size > self._size_max


class _Refused(Exception):
    """Ends parsing out of a callback."""


class Parser:
    """Takes bytes, gives `complete` requests until it has `refused`."""

    def __init__(self, limits: Limits, known: KnownHeads, room: Room) -> None:
        self._limits = limits
        self._known = known
        self._room = room
        self._held_size = 0
        self._parser = HttpRequestParser(self)
        self._head = Head()
        self._body: list[bytes] = []
        self._body_size = 0
        self._header_size = 0  # bytes fed for headers that are not complete, at most one feed too few
        self._head_size = 0  # of the head that is complete
        self._fed_size = 0  # bytes of the present feed
        self._is_chunked = False
        self._declared_size: int | None = None
        self._in_headers = False
        self.complete: deque[Request] = deque()
        self.is_between = True  # no request has begun that is not complete
        self.expects_continue = False  # the client waits for leave to send the body
        self.refused: int | None = None

    def feed(self, data: bytes) -> None:
        """Parse more bytes; see `complete` and `refused` for what became of them."""
        begins = self.is_between
        if begins:
            data = self._known.take(data, self.complete)
            if not data:
                return
        known_count = len(self.complete)
        self._parse(data)
        finished_count = len(self.complete) - known_count
        if self._in_headers and not finished_count:
            # The parser keeps an unfinished line to itself: what it holds is bounded by what it was given.
            self._header_size += len(data)
            if self._header_size > self._limits.header_max_size:
                self._refuse_rest(431)
        elif begins and self.is_between and finished_count == 1 and self.refused is None:
            self._learn(data)
        self._hold()

    def _parse(self, data: bytes) -> None:
        self._fed_size = len(data)
        try:
            self._parser.feed_data(data)
        except HttpParserUpgrade as upgrade:
            self._go_on_without_upgrade(data[upgrade.args[0] :])
        except HttpParserError:
            self._refuse_rest(SILENTLY)

    def close(self) -> None:
        """Give back what an unfinished request holds."""
        self._room.held_size -= self._held_size
        self._held_size = 0

    def _hold(self) -> None:
        """Count what is kept of a request that is not complete."""
        held_size = 0 if self.is_between else self._head_size + self._header_size + self._body_size
        grows = held_size > self._held_size
        self._room.held_size += held_size - self._held_size
        self._held_size = held_size
        if grows and self._room.is_full:
            self._refuse_rest(503)

    def _learn(self, data: bytes) -> None:
        head, body = self.complete[-1]
        if head.keeps_alive and not self._is_chunked and self._declared_size == len(body):
            self._known.learn(data, head, len(body))

    def _go_on_without_upgrade(self, rest: bytes) -> None:
        """Parse the last request again without its wish for another protocol, which the parser cannot be told to
        ignore; Java's client has that wish by default."""
        head, _ = self.complete.pop()
        if head.method == b"CONNECT":
            self._refuse_rest(400)
            return
        lines = [b"%b %b HTTP/%b" % (head.method, head.url, head.version.encode())]
        lines += [b"%b: %b" % header for header in head.headers if header[0] not in _UPGRADE_HEADERS]
        self._parser = HttpRequestParser(self)
        self._parse(b"\r\n".join(lines) + _HEAD_END + rest)

    def _refuse_rest(self, status: int) -> None:
        if self.refused is None:
            self.refused = status

    def _refuse(self, status: int) -> None:
        self.refused = status
        raise _Refused

    def on_message_begin(self) -> None:
        self._head = Head()
        self._body = []
        self._body_size = self._header_size = self._head_size = 0
        self._is_chunked = False
        self._declared_size = None
        self._in_headers = True
        self.is_between = False

    def on_url(self, part: bytes) -> None:
        self._head.url += part
        if len(self._head.url) > URL_SIZE_MAX:
            self._refuse(414)

    def on_header(self, name: bytes, value: bytes) -> None:
        headers = self._head.headers
        name = name.lower()
        headers.append((name, value))
        if len(headers) > HEADER_COUNT_MAX:
            self._refuse(431)
        notice = _NOTICED.get(name)
        if notice is not None:
            notice(self, value)

    def on_headers_complete(self) -> None:
        self._in_headers = False
        head = self._head
        self._head_size = _size(head)
        if self._head_size > self._limits.header_max_size:
            self._refuse(431)
        self._header_size = 0
        if self._is_chunked and self._declared_size is not None:
            self._refuse(400)  # two lengths: somebody on the way may believe the other one
        if self._declared_size is not None and self._declared_size > self._limits.body_max_size:
            self._refuse(413)
        head.method = self._parser.get_method()
        head.version = self._parser.get_http_version()

    def on_chunk_header(self) -> None:
        self._in_headers = True  # after the last chunk there may be more of them
        self._header_size = 0

    def on_body(self, part: bytes) -> None:
        self._in_headers = False
        self.expects_continue = False
        self._body_size += len(part)
        if self._body_size > self._limits.body_max_size:
            self._refuse(413)
        self._body.append(part)

    def on_message_complete(self) -> None:
        head, body = self._head, self._body
        head.keeps_alive = self._parser.should_keep_alive()
        self._body = []
        self.expects_continue = False
        self.is_between = True
        self.complete.append((head, body[0] if len(body) == 1 else b"".join(body)))

    def _notice_length(self, value: bytes) -> None:
        if not value.isdigit() or self._declared_size is not None:
            self._refuse(400)
        self._declared_size = int(value[:20])

    def _notice_coding(self, value: bytes) -> None:
        if value.lower() != b"chunked" or self._is_chunked:
            self._refuse(501)
        self._is_chunked = True

    def _notice_expectation(self, value: bytes) -> None:
        if value.lower() != b"100-continue":
            self._refuse(417)
        self.expects_continue = True

    def _notice_type(self, value: bytes) -> None:
        if b"json" in value.lower():
            self._head.speaks_json = True

    def _notice_origin(self, value: bytes) -> None:
        self._head.origin = value


def _size(head: Head) -> int:
    return len(head.url) + sum(len(name) + len(value) + len(": \r\n") for name, value in head.headers)


_NOTICED = {
    b"content-length": Parser._notice_length,
    b"transfer-encoding": Parser._notice_coding,
    b"expect": Parser._notice_expectation,
    b"content-type": Parser._notice_type,
    b"accept": Parser._notice_type,
    b"origin": Parser._notice_origin,
}
