"""What is found in a topic, compared with what would be sent."""

from collections.abc import Iterator

from hypothesis import given
from hypothesis import strategies as st

from persist.kafka_matching import Matched, match

OWN = st.lists(st.binary(max_size=3).map(lambda value: b"own" + value), max_size=30)
FOREIGN = st.lists(st.binary(max_size=3).map(lambda value: b"foreign" + value), max_size=3)


@given(st.data(), OWN)
def test_any_first_part_is_found_whatever_stands_between(data: st.DataObject, own: list[bytes]) -> None:
    cut = data.draw(st.integers(0, len(own)))
    found, foreign_count = [], 0
    for value in own[:cut]:
        others = data.draw(FOREIGN)
        found += [*others, value]
        foreign_count += len(others)
    others = data.draw(FOREIGN)
    assert match([*found, *others], iter(own)) == Matched(cut, foreign_count + len(others))


@given(OWN, FOREIGN)
def test_what_is_not_ours_is_never_taken_for_ours(own: list[bytes], foreign: list[bytes]) -> None:
    assert match(foreign, iter(own)) == Matched(0, len(foreign))


def test_nothing_is_made_when_nothing_was_found() -> None:
    def never() -> Iterator[bytes]:
        raise AssertionError("events were read for nothing")
        yield b""

    assert match([], never()) == Matched(0, 0)


def test_a_topic_that_holds_more_than_is_known_holds_foreign_messages() -> None:
    assert match([b"a", b"b", b"c", b"c"], iter([b"a", b"b"])) == Matched(2, 2)
