"""Where alerts go: what every way out has in common (persist/alert_redis.py, alert_mail.py, alert_webhook.py)."""

from typing import Any, Protocol

from conf.alert_record import Alert
from persist.alert_files import Position


class Undelivered(Exception):
    """They did not arrive, as far as one knows; the text has no secrets."""


class Moved(Exception):
    """The target itself says how far it is, and that is not where it was thought to be."""

    def __init__(self, position: Position) -> None:
        super().__init__(str(position))
        self.position = position


class Outbox(Protocol):
    """What is gathered for one delivery."""

    @property
    def is_full(self) -> bool:
        """Whether more must wait for the next one."""

    def __len__(self) -> int: ...

    def add(self, alert: Alert) -> None:
        """Put one in."""


class Target(Protocol):
    """One way out. Its calls may take their time, which is bounded."""

    name: str

    def make_outbox(self) -> Any:
        """An empty one."""

    def deliver(self, outbox: Any, follower: str, begin: Position, end: Position) -> None:
        """Send all of it: the alerts of `follower` from one position to the other. Raises Undelivered, Moved."""

    def close(self) -> None:
        """Disconnect."""
