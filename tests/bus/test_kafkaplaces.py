"""The search for an event in a topic, whatever its messages are: of any size, repeated, dropped, behind a wrong end."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bus.eventlog import Gone
from bus.feed import Step, decide
from bus.kafkaplaces import Place, locate


class Topic:
    """A topic of messages that hold so many events each; some are repeated, some offsets have none."""

    def __init__(self, counts: list[int], back: dict[int, int], holes: set[int], begin: int, told_short: int) -> None:
        self.places: list[Place] = []
        number, offset = 1, 0
        for index, count in enumerate(counts):
            number = max(1, number - back.get(index, 0))  # who writes begins again a little before
            while offset in holes:
                offset += 1
            self.places.append(Place(offset, number, number + count - 1, 5))
            number, offset = number + count, offset + 1
        self.places = self.places[min(begin, len(self.places)) :]
        self._begin = self.places[0].offset if self.places else offset
        self._end = max(self._begin, offset - told_short) if self.places else offset
        self._end = max(self._end, self._begin + bool(self.places))

    def first_offset(self) -> int:
        return self._begin

    def end_offset(self) -> int:
        return self._end

    def at(self, offset: int) -> Place | None:
        return next((place for place in self.places if place.offset >= offset), None)

    def taken(self, after_number: int) -> list[int]:
        """The events that a reader takes which begins where the search says."""
        found: list[int] = []
        last = after_number
        start = locate(self, after_number + 1)
        for place in (place for place in self.places if place.offset >= start):
            step = decide(last, place.first, place.last + 1 - place.first)
            assert step is not Step.FILL, f"{place} after {last}"
            if step is Step.TAKE:
                found += range(last + 1, place.last + 1)
                last = place.last
        return found


TOPICS = st.builds(
    Topic,
    st.lists(st.integers(1, 6), max_size=40),
    st.dictionaries(st.integers(0, 40), st.integers(1, 20), max_size=3),
    st.sets(st.integers(0, 40), max_size=5),
    st.integers(0, 10),
    st.integers(0, 5),
)


@given(topic=TOPICS, after_number=st.integers(0, 250))
def test_every_event_after_the_one_that_is_known_is_taken_once(topic: Topic, after_number: int) -> None:
    last = max((place.last for place in topic.places), default=0)
    if topic.places and topic.places[0].first > after_number + 1:
        with pytest.raises(Gone) as gone:
            locate(topic, after_number + 1)
        assert gone.value.first_number == topic.places[0].first
        return
    assert topic.taken(after_number) == list(range(after_number + 1, last + 1))


def test_a_search_takes_few_looks() -> None:
    topic = Topic([3] * 10_000, {}, set(), 0, 0)
    looks = 0

    class Counted(Topic):
        def __init__(self) -> None:
            self.__dict__ = topic.__dict__

        def at(self, offset: int) -> Place | None:
            nonlocal looks
            looks += 1
            return topic.places[offset]

    assert locate(Counted(), 15_000) == topic.places[4_999].offset
    assert looks < 20


def test_a_gap_is_met_by_who_reads_on() -> None:
    topic = Topic([5] * 10, {}, set(), 0, 0)
    del topic.places[4]
    before, after = next((a, b) for a, b in pairwise(topic.places) if b.first != a.last + 1)
    for number in range(before.last + 1, after.first):
        assert locate(topic, number) == before.offset
    assert locate(topic, after.first) == after.offset
