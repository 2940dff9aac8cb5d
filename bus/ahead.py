"""One thing, whatever it is, made ahead of time in a thread, so that who needs it never waits for the disk."""

import threading
from collections.abc import Callable
from typing import Generic, TypeVar

RETRY_S = 1.0  # between attempts when making fails

Thing = TypeVar("Thing")


class Ahead(Generic[Thing]):
    """Keeps one `make()` ready. While that raises OSError, `trouble` is its text and it is tried again."""

    def __init__(self, make: Callable[[], Thing], changed: Callable[[], None], *, name: str) -> None:
        """`changed` is called in the thread whenever `ready` or `trouble` is another."""
        self.ready: Thing | None = None
        self.trouble = ""
        self._make = make
        self._changed = changed
        self._closing = False
        self._taken = threading.Event()
        self._tried = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def take(self) -> Thing:
        """What is ready, which must be; the next one is begun."""
        assert self.ready is not None, "taken before it was ready"
        thing, self.ready = self.ready, None
        self._tried.clear()
        self._taken.set()
        return thing

    def wait(self, timeout_s: float | None) -> bool:
        """Is it ready, at the latest after this time or when making it has failed?"""
        if self.ready is None:
            self._tried.wait(timeout_s)
        return self.ready is not None

    def close(self) -> Thing | None:
        """End the thread; return what it made for nothing."""
        self._closing = True
        self._taken.set()
        self._thread.join()
        return self.ready

    def _run(self) -> None:
        while not self._closing:
            self._taken.clear()
            if self.ready is None:
                self._try()
                self._tried.set()
                self._changed()
            self._taken.wait(RETRY_S if self.ready is None else None)

    def _try(self) -> None:
        try:
            self.ready = self._make()
        except OSError as error:
            self.trouble = str(error)
        else:
            self.trouble = ""
