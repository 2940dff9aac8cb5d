"""Where reads are answered from: shared memory when it can be, else the matcher itself."""

from dataclasses import dataclass, field
from typing import Any, cast

import numpy as np
import pytest

from bus.messages import FrameKind, QueryKind, Records, pack, unpack
from engine.reader import NotReady, Reader, Torn
from engine.views import Answered
from gateways.link import Link, NotConnected
from gateways.state import CATALOG_AGE_MAX_S, CATALOG_CHECK_S, READER_RETRY_S, State
from tests.gateways.making import CATALOG, asset_views, market_views


@dataclass
class FakeReader:
    """A reader that answers unless it is told to fail."""

    fails: type[Exception] | None = None
    listing_number: int = 1
    asked: list[dict[str, Any]] = field(default_factory=list)

    @property
    def listing_sequence(self) -> int:
        if self.fails is NotReady:
            raise NotReady("not here")
        return self.listing_number

    def answer(self, kind: QueryKind, **asked: int) -> Answered:
        self.asked.append({"kind": kind, **asked})
        if self.fails:
            raise self.fails("not now")
        return Answered({QueryKind.ASSETS: asset_views(), QueryKind.MARKETS: market_views()}[kind], 0)


@dataclass
class FakeLink:
    """A link to a matcher that knows the same as the reader."""

    fails: type[Exception] | None = None
    asked: list[Any] = field(default_factory=list)

    def query(self, record: Records) -> Any:
        self.asked.append(record[0])
        if self.fails:
            raise self.fails
        is_assets = record[0]["kind"] == QueryKind.ASSETS
        kind, records = (FrameKind.ASSETS, asset_views()) if is_assets else (FrameKind.MARKETS, market_views())
        return unpack(pack(kind, records, total=5))


@dataclass
class Parts:
    """A State and what it is over."""

    reader: FakeReader = field(default_factory=FakeReader)
    link: FakeLink = field(default_factory=FakeLink)
    now_s: float = 100.0

    def __post_init__(self) -> None:
        self.state = State(cast(Reader, self.reader), cast(Link, self.link), lambda: self.now_s)


def test_memory_answers_without_the_matcher() -> None:
    parts = Parts()
    assert parts.state.catalog() == CATALOG
    assert not parts.link.asked


@pytest.mark.parametrize("fails", [NotReady, Torn])
def test_what_memory_cannot_answer_the_matcher_does(fails: type[Exception]) -> None:
    parts = Parts(FakeReader(fails=fails))
    found = parts.state.answer(QueryKind.ASSETS, user_id=3, limit=7)
    assert found.total == 5
    assert np.array_equal(found.records, asset_views())
    (query,) = parts.link.asked
    assert (query["kind"], query["user_id"], query["limit_count"]) == (QueryKind.ASSETS, 3, 7)


def test_without_either_it_is_told() -> None:
    parts = Parts(FakeReader(fails=NotReady), FakeLink(fails=NotConnected))
    with pytest.raises(NotConnected):
        parts.state.catalog()
    parts.link.fails = None
    assert parts.state.catalog() == CATALOG


def test_memory_that_is_not_there_is_looked_for_only_now_and_then() -> None:
    parts = Parts(FakeReader(fails=NotReady))
    for _ in range(3):
        parts.state.answer(QueryKind.ASSETS)
    assert len(parts.reader.asked) == 1
    parts.now_s += READER_RETRY_S
    parts.reader.fails = None
    parts.state.answer(QueryKind.ASSETS)
    assert len(parts.reader.asked) == 2
    assert len(parts.link.asked) == 3


def test_a_changed_listing_is_seen_soon() -> None:
    parts = Parts()
    first = parts.state.catalog()
    assert parts.state.catalog() is first
    parts.now_s += CATALOG_CHECK_S
    assert parts.state.catalog() is first
    parts.reader.listing_number += 1
    assert parts.state.catalog() is first
    parts.now_s += CATALOG_CHECK_S
    assert parts.state.catalog() is not first


def test_without_memory_the_listing_is_asked_for_again_when_it_is_old() -> None:
    parts = Parts(FakeReader(fails=NotReady))
    first = parts.state.catalog()
    parts.now_s += CATALOG_AGE_MAX_S * 0.9
    assert parts.state.catalog() is first
    parts.now_s += CATALOG_AGE_MAX_S * 0.2
    assert parts.state.catalog() is not first
