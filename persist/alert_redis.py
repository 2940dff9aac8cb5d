"""The original's list of alerts in a Redis behind Sentinels: RPUSH alert:message (CONTRACT 8).

A script pushes alerts and keeps, in a key of its own, how far that goes; it does nothing when Redis is elsewhere. So a
broken connection, of which nobody knows whether it was done, doubles none, and what a failover has lost comes again.
"""

import time
from collections.abc import Callable
from typing import Any

from redis.exceptions import RedisError

from bus.sentinels import Address, Connection, connect
from conf.alert_record import Alert
from persist.alert_files import Position
from persist.alert_targets import Moved, Undelivered
from persist.alert_wire import element

LIST_KEY = "alert:message"
POSITION_KEY = "alert:tradepit:"  # and the name of the follower
AT_ONCE_MAX = 500
CONNECTION_S = 10.0  # of silence after which the Sentinels are asked anew, as the original does for each alert

# KEYS: the list, the position. ARGV: where Redis must be, where it is then, how long the list may be, the alerts.
_SCRIPT = """
local found = redis.call('GET', KEYS[2])
if found and found ~= ARGV[1] then return found end
redis.call('RPUSH', KEYS[1], unpack(ARGV, 4))
redis.call('LTRIM', KEYS[1], -ARGV[3], -1)
redis.call('SET', KEYS[2], ARGV[2])
return false
"""


class Elements:
    """Alerts as elements of the list, in order."""

    def __init__(self) -> None:
        self.elements: list[bytes] = []

    @property
    def is_full(self) -> bool:
        """Whether more must wait."""
        return len(self.elements) >= AT_ONCE_MAX

    def __len__(self) -> int:
        return len(self.elements)

    def add(self, alert: Alert) -> None:
        """Put one at the end."""
        self.elements.append(element(alert))


class RedisList:
    """The list in the Redis that Sentinels know."""

    name = "redis"

    def __init__(self, address: str, list_max: int, now: Callable[[], float] = time.monotonic) -> None:
        self._address = Address.parse(address)
        self._list_max = list_max
        self._now = now
        self._connection: Connection | None = None
        self._used_at = 0.0

    def make_outbox(self) -> Elements:
        """An empty one."""
        return Elements()

    def deliver(self, outbox: Elements, follower: str, begin: Position, end: Position) -> None:
        """Push all of it. Raises Undelivered, Moved."""
        arguments = (str(begin), str(end), self._list_max, *outbox.elements)
        try:
            found = self._master().eval(_SCRIPT, 2, LIST_KEY, POSITION_KEY + follower, *arguments)
            self._used_at = self._now()
        except RedisError as error:
            self.close()
            raise Undelivered(f"{self._address}: {error}") from error
        if found is not None:
            raise Moved(self._position(found, follower))

    def probe(self, text: bytes) -> None:
        """Push one element that no follower counts. Raises Undelivered."""
        try:
            self._master().rpush(LIST_KEY, text)
        except RedisError as error:
            raise Undelivered(f"{self._address}: {error}") from error

    def close(self) -> None:
        """Disconnect."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _position(self, text: Any, follower: str) -> Position:
        try:
            return Position.parse(text.decode())
        except (ValueError, AttributeError):
            raise Undelivered(f"{self._address}: {POSITION_KEY}{follower} is not ours: {text!r}; delete it") from None

    def _master(self) -> Connection:
        if self._now() - self._used_at > CONNECTION_S:
            self.close()
        self._connection = self._connection or connect(self._address)
        return self._connection
