"""One thing is ready before it is asked for, and trouble in making it passes."""

from collections.abc import Iterator
from itertools import count

import pytest

from bus import ahead
from bus.ahead import Ahead

WAIT_S = 10.0


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ahead, "RETRY_S", 0.01)


class Factory:
    """Makes 1, 2, 3 ...; while `broken`, nothing."""

    def __init__(self) -> None:
        self.broken = ""
        self.changed_count = 0
        self._numbers: Iterator[int] = count(1)

    def make(self) -> int:
        if self.broken:
            raise OSError(self.broken)
        return next(self._numbers)

    def changed(self) -> None:
        self.changed_count += 1


def test_the_next_is_made_when_one_is_taken() -> None:
    factory = Factory()
    numbers = Ahead(factory.make, factory.changed, name="test")
    for expected in (1, 2, 3):
        assert numbers.wait(WAIT_S)
        assert numbers.take() == expected
    assert numbers.wait(WAIT_S)
    assert numbers.close() == 4
    assert factory.changed_count == 4


def test_trouble_is_told_and_tried_again() -> None:
    factory = Factory()
    factory.broken = "no space"
    numbers = Ahead(factory.make, factory.changed, name="test")
    assert not numbers.wait(None)
    assert numbers.trouble == "no space"
    factory.broken = ""
    while numbers.ready is None:
        numbers.wait(0.01)
    assert numbers.close() == 1
    assert not numbers.trouble


def test_taking_what_is_not_ready_is_a_mistake() -> None:
    factory = Factory()
    factory.broken = "no space"
    numbers = Ahead(factory.make, factory.changed, name="test")
    with pytest.raises(AssertionError):
        numbers.take()
    assert numbers.close() is None
