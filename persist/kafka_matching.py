"""Which messages are in a topic already: what was sent before a crash, and never acknowledged, is found there.

The messages that follow from the events after a position are known to the byte, and went out in order, each topic's
by one request at a time. So what the topic holds behind the position is a first part of them, and between them what
others have sent.
"""

from collections.abc import Iterable, Iterator
from typing import NamedTuple


class Matched(NamedTuple):
    """What was found behind a position."""

    own_count: int  # so many of the messages that were expected, the first ones
    foreign_count: int  # messages of somebody else


def match(found: Iterable[bytes], expected: Iterator[bytes]) -> Matched:
    """Compare what a topic holds with what would be sent; of `expected` no more is taken than was found, plus one."""
    own_count = foreign_count = 0
    wanted: bytes | None = None
    for value in found:
        if wanted is None:
            wanted = next(expected, None)
        if value == wanted:
            own_count, wanted = own_count + 1, None
        else:
            foreign_count += 1
    return Matched(own_count, foreign_count)
