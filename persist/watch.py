"""What an operator is told of the recorder or the courier: when storing or sending stops, when much waits for it, and
when that is over.
"""

from collections.abc import Callable
from typing import NamedTuple

from bus.eventlog import Reader
from bus.positions import told
from conf.alert import alert
from conf.settings import Settings
from persist.store import StoreDown

DRAINED_PART = 10  # when so small a part of the backlog that alerts is left, all is well again


class Foreign(Exception):
    """The store holds the history of another exchange, or of this one with another data folder."""

    def __init__(self, store: str, stored_number: int, durable_number: int) -> None:
        super().__init__(
            f"{store} holds a history up to event {stored_number:,} that is not this exchange's, which has had "
            f"{durable_number:,} events: was its data folder emptied, or does another one write there? Bring the old "
            "data folder back, or empty the store, or name another one ([history] store)"
        )


class Words(NamedTuple):
    """How it is told."""

    waiting: str  # so many events ...
    drained: str
    stopped: str
    again: str


HISTORY = Words(
    waiting="are not in the history yet",
    drained="the backlog of the history is drained",
    stopped="nothing is stored in the history, which will catch up",
    again="the history is stored again",
)


class Watch:
    """Alerts once when something begins, and once when it ends."""

    def __init__(
        self,
        settings: Settings,
        name: str,
        now: Callable[[], float],
        words: Words = HISTORY,
        backlog_max_count: int | None = None,
    ) -> None:
        """`name` is the process's, `now` a clock in seconds; the default of `backlog_max_count` is the history's."""
        self._paths = settings.paths
        self._name = name
        self._words = words
        self._backlog_max = settings.history.backlog_alert_count if backlog_max_count is None else backlog_max_count
        self._log = Reader(self._paths.events_dir)
        self._now = now
        self._trouble: tuple[type[Exception], str] | None = None
        self._trouble_since_s = 0.0
        self._is_long = False
        self.stored_number = told(self._paths.positions_dir).get(name, 0)

    @property
    def behind_count(self) -> int:
        """Events that are not stored yet."""
        return max(0, self._log.durable_number - self.stored_number)

    def look(self) -> None:
        """See how many events wait."""
        behind = self.behind_count
        if not self._is_long and behind >= self._backlog_max:
            self._is_long = True
            self._alert(f"{behind:,} events {self._words.waiting}")
        elif self._is_long and behind < self._backlog_max // DRAINED_PART:
            self._is_long = False
            self._alert(f"{self._words.drained}: {behind:,} events are left")

    def begin_trouble(self, error: Exception) -> None:
        """Nothing can be stored or sent, and why. The words of some troubles differ from try to try."""
        trouble = (type(error), "" if isinstance(error, StoreDown | Foreign) else str(error))
        if self._trouble is None:
            self._trouble_since_s = self._now()
        if trouble != self._trouble:
            self._trouble = trouble
            self._alert(f"{self._words.stopped}: {error}")

    def end_trouble(self) -> None:
        """All is well."""
        if self._trouble is not None:
            self._trouble = None
            after_s = self._now() - self._trouble_since_s
            self._alert(f"{self._words.again} after {after_s:.1f} s, {self.behind_count:,} events are left")

    def _alert(self, text: str) -> None:
        alert(self._paths, self._name, text, level=3)
