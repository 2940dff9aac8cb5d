"""What a thread has got, on its way to a loop that must not wait for it: in order, and no more than may wait.

The thread `put`s and stands still while enough waits; the loop polls `fd` beside others and `take`s. Either end may be
closed at any time.
"""

import os
import threading
from collections import deque
from typing import Generic, TypeVar

Item = TypeVar("Item")


class Handover(Generic[Item]):
    """Items from one thread to another."""

    def __init__(self, count_max: int, size_max: int) -> None:
        """So many items, or of together so many bytes, may wait: then `put` does."""
        self._count_max = count_max
        self._size_max = size_max
        self._waiting: deque[tuple[Item, int]] = deque()
        self._size = 0
        self._failure: Exception | None = None
        self._is_closed = False
        self._changed = threading.Condition()
        self.fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)  # readable as long as something waits

    @property
    def is_closed(self) -> bool:
        """Whether nobody takes any more."""
        return self._is_closed

    @property
    def size(self) -> int:
        """Bytes that wait."""
        return self._size

    def put(self, item: Item, size: int) -> bool:
        """Hand over an item of so many bytes, once there is room; False when nobody takes it."""
        with self._changed:
            self._changed.wait_for(lambda: self._is_closed or self._has_room(size))
            if self._is_closed:
                return False
            self._waiting.append((item, size))
            self._size += size
            self._tell()
            return True

    def fail(self, failure: Exception) -> None:
        """There will be no more: whoever takes gets this, after what waits."""
        with self._changed:
            if not self._is_closed:
                self._failure = failure
                self._tell()

    def take(self, timeout_s: float = 0.0) -> Item | None:
        """The next item, or None when none comes in time. Raises what `fail` was given."""
        with self._changed:
            if timeout_s > 0 and not self._waiting and self._failure is None:
                self._changed.wait_for(lambda: self._waiting or self._failure or self._is_closed, timeout_s)
            if self._waiting:
                item, size = self._waiting.popleft()
                self._size -= size
                self._changed.notify_all()
                return item
            if self._failure is not None:
                raise self._failure
            if not self._is_closed:
                self._clear()
            return None

    def wait_closed(self, timeout_s: float) -> bool:
        """Pause; whether nobody takes any more."""
        with self._changed:
            return self._changed.wait_for(lambda: self._is_closed, timeout_s)

    def close(self) -> None:
        """Nobody takes any more; what waits is dropped."""
        with self._changed:
            if not self._is_closed:
                self._is_closed = True
                self._waiting.clear()
                self._size = 0
                os.close(self.fd)
                self._changed.notify_all()

    def _has_room(self, size: int) -> bool:
        """An item that is larger than all that may wait goes alone."""
        return not self._waiting or (len(self._waiting) < self._count_max and self._size + size <= self._size_max)

    def _tell(self) -> None:
        os.eventfd_write(self.fd, 1)
        self._changed.notify_all()

    def _clear(self) -> None:
        try:
            os.eventfd_read(self.fd)
        except BlockingIOError:
            return
