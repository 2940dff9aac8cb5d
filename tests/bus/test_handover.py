"""From a thread to a loop: in order, bounded, readable when something waits, and either end may go."""

import select
import threading
from collections.abc import Iterator

import pytest

from bus.handover import Handover

PATIENCE_S = 60.0
COUNT_MAX, SIZE_MAX = 5, 100


@pytest.fixture
def handover() -> Iterator[Handover[int]]:
    made: Handover[int] = Handover(COUNT_MAX, SIZE_MAX)
    yield made
    made.close()


class Putting(threading.Thread):
    """Puts numbers until nobody takes them."""

    def __init__(self, handover: Handover[int], size: int, count: int) -> None:
        super().__init__(daemon=True)
        self.put_count = 0
        self._handover, self._size, self._count = handover, size, count
        self.start()

    def run(self) -> None:
        while self.put_count < self._count and self._handover.put(self.put_count, self._size):
            self.put_count += 1


def is_readable(handover: Handover[int], wait_s: float = 0.0) -> bool:
    return bool(select.select([handover.fd], [], [], wait_s)[0])


def wait_full(putting: Putting, count: int) -> None:
    """Until it has put so many; and see, as far as a moment tells, that it puts no more."""
    deadline = threading.Event()
    for _ in range(round(PATIENCE_S / 0.01)):
        if putting.put_count >= count:
            break
        deadline.wait(0.01)
    deadline.wait(0.05)
    assert putting.put_count == count


@pytest.mark.parametrize(("size", "fits"), [(1, COUNT_MAX), (30, 3), (100, 1), (1000, 1)])
def test_no_more_waits_than_may(handover: Handover[int], size: int, fits: int) -> None:
    putting = Putting(handover, size, count=50)
    wait_full(putting, fits)
    assert handover.size == fits * size
    assert handover.take() == 0
    wait_full(putting, fits + 1)
    assert [handover.take(PATIENCE_S) for _ in range(49)] == list(range(1, 50))
    assert handover.size == 0


def test_it_is_readable_as_long_as_something_waits(handover: Handover[int]) -> None:
    assert not is_readable(handover)
    for number in range(3):
        handover.put(number, 1)
    for number in range(3):
        assert is_readable(handover)
        assert handover.take() == number
    assert handover.take() is None
    assert not is_readable(handover)
    putting = Putting(handover, 1, count=1)
    assert is_readable(handover, PATIENCE_S)
    putting.join(PATIENCE_S)
    assert handover.take() == 0


def test_a_failure_comes_after_what_waits_and_stays(handover: Handover[int]) -> None:
    handover.put(1, 1)
    handover.fail(LookupError("gone"))
    assert handover.take() == 1
    for _ in range(2):
        assert is_readable(handover)
        with pytest.raises(LookupError):
            handover.take(PATIENCE_S)


def test_whoever_puts_goes_on_when_nobody_takes_any_more(handover: Handover[int]) -> None:
    putting = Putting(handover, 60, count=50)
    wait_full(putting, 1)
    handover.close()
    putting.join(PATIENCE_S)
    assert not putting.is_alive()
    assert not handover.put(1, 1)
    handover.fail(LookupError())
    assert handover.take() is None
    assert handover.wait_closed(PATIENCE_S)
