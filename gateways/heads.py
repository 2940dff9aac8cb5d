"""The head of an HTTP reply as the original writes it (CONTRACT 1.1): status line, Date with the month's full name,
Content-Length; no Server, no Connection. What the original did not have comes after those.
"""

import time
from collections.abc import Callable, Iterable
from http import HTTPStatus

CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
JSON = b"Content-Type: application/json\r\n"

_DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTHS = (
    *("January", "February", "March", "April", "May", "June"),
    *("July", "August", "September", "October", "November", "December"),
)


def date(epoch_s: float) -> str:
    """The text of a Date header; independent of the process's locale."""
    at = time.gmtime(epoch_s)
    clock = f"{at.tm_hour:02}:{at.tm_min:02}:{at.tm_sec:02}"
    return f"{_DAYS[at.tm_wday]}, {at.tm_mday:02} {_MONTHS[at.tm_mon - 1]} {at.tm_year} {clock} GMT"


class Heads:
    """Writes heads; the part that is the same for a second is kept for a second."""

    def __init__(self, now: Callable[[], float] = time.time) -> None:
        self._now = now
        self._second = -1
        self._starts: dict[int, bytes] = {}

    def head(self, status: int, size: int, more: bytes = b"") -> bytes:
        """A head; `more` is whole lines."""
        second = int(self._now())
        if second != self._second:
            self._second = second
            self._starts.clear()
        start = self._starts.get(status)
        if start is None:
            start = self._starts[status] = self._start(status)
        return b"%b%d\r\n%b\r\n" % (start, size, more)

    def _start(self, status: int) -> bytes:
        line = f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\nDate: {date(self._second)}\r\nContent-Length: "
        return line.encode()


class Cors:
    """Which pages of other origins may read replies."""

    def __init__(self, origins: Iterable[str]) -> None:
        self._origins = frozenset(origins)
        self._allows_all = "*" in self._origins

    def allows(self, origin: str) -> bool:
        """Whether a page of `origin` may."""
        return self._allows_all or origin in self._origins

    def lines(self, origin: bytes) -> bytes:
        """The header lines for a request of `origin`, none when it may not."""
        if not self._origins or not self.allows(origin.decode("latin-1")):
            return b""
        return b"Access-Control-Allow-Origin: %b\r\nVary: Origin\r\n" % origin
