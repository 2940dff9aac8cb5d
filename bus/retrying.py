"""A thread whose work is tried again when it fails: with growing pauses, and told of once."""

import threading
from abc import ABC, abstractmethod
from collections.abc import Callable

from bus.kafkatopics import Away

PAUSE_LEAST_S, PAUSE_MOST_S = 0.25, 10.0
SILENT_COUNT = 1  # failures in a row that nobody is told of: a connection that was lost comes back at once


class Retrying(ABC):
    """`turn` is called in the thread until `wait` says that it is to end."""

    def __init__(self, name: str, what: str, tell: Callable[[str], object]) -> None:
        """`what` can't be read from Kafka when `turn` raises Away; `tell` is told so."""
        self.tell = tell
        self._what = what
        self._failed_count = 0
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    @property
    def is_alive(self) -> bool:
        """Whether the thread still runs."""
        return self._thread.is_alive()

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    @abstractmethod
    def turn(self) -> None:
        """Work until it is to end. Raises Away to be called again, anything else to end the thread."""

    @abstractmethod
    def wait(self, pause_s: float) -> bool:
        """Pause; whether to end."""

    @abstractmethod
    def ended(self, error: Exception) -> None:
        """The thread has ended by this."""

    def succeeded(self) -> None:
        """It works: the next failure is a new one."""
        if self._failed_count > SILENT_COUNT:
            self.tell(f"{self._what} are read from Kafka again")
        self._failed_count = 0

    def _run(self) -> None:
        try:
            while not self.wait(self._pause_s):
                try:
                    self.turn()
                except Away as away:
                    self._failed(away)
        except Exception as error:  # the thread's outermost loop: whoever takes from it must not wait for ever
            self.ended(error)

    @property
    def _pause_s(self) -> float:
        if not self._failed_count:
            return 0.0
        return float(min(PAUSE_LEAST_S * 2 ** (self._failed_count - 1), PAUSE_MOST_S))

    def _failed(self, away: Away) -> None:
        self._failed_count = min(self._failed_count + 1, SILENT_COUNT + 20)
        if self._failed_count == SILENT_COUNT + 1:
            self.tell(f"{self._what} can't be read from Kafka, which is tried again: {away}")
