"""The forms of messages in Kafka: what is split comes back the same, and what is bent is refused."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bus import catalog, kafka
from bus.messages import (
    ASSET_VIEW,
    DETAIL_MAX,
    EVENT,
    FRAME,
    MARKET_VIEW,
    UPDATE_EVENT,
    BadFrame,
    EventKind,
    Frame,
    FrameKind,
    pack,
    unpack,
)

MARK = 77
SIZE_LEAST = FRAME.itemsize + EVENT.itemsize + DETAIL_MAX
DETAILS = st.lists(st.none() | st.binary(max_size=DETAIL_MAX), min_size=1, max_size=40)  # None: no balance update


def frame_of(details: list[bytes | None], first: int = 1, shift: int = 0) -> Frame:
    """A frame of an event each; `shift` bytes stand before the details, as they do in the rest of a frame."""
    records = np.zeros(len(details), EVENT)
    records["number"] = np.arange(first, first + len(details))
    records["order"]["id"] = records["number"] * 7
    blob = bytes(shift)
    updates = records.view(UPDATE_EVENT)
    for place, detail in enumerate(details):
        records["kind"][place] = EventKind.DEAL if detail is None else EventKind.BALANCE_UPDATE
        if detail is None:
            updates["detail_offset"][place] = -5  # deals have other fields there
            continue
        updates["detail_offset"][place], updates["detail_size"][place] = len(blob), len(detail)
        blob += detail
    return unpack(pack(FrameKind.EVENTS, records, blob, first=first, time=2.5))


def told(frames: list[Frame]) -> list[tuple[bytes, bytes | None]]:
    """What each event says, without the place of its detail."""
    found: list[tuple[bytes, bytes | None]] = []
    for frame in frames:
        for record in frame.records.copy():
            update = record.view(UPDATE_EVENT)
            detail = None
            if record["kind"] == EventKind.BALANCE_UPDATE:
                start, size = int(update["detail_offset"]), int(update["detail_size"])
                detail, update["detail_offset"] = bytes(frame.blob[start : start + size]), 0
            found.append((record.tobytes(), detail))
    return found


@given(details=DETAILS, first=st.integers(1, 2**60), size_max=st.integers(SIZE_LEAST, 60_000), shift=st.integers(0, 99))
def test_what_is_split_comes_back_the_same(details: Any, first: int, size_max: int, shift: int) -> None:
    frame = frame_of(details, first, shift)
    messages = list(kafka.event_messages(frame, MARK, size_max))
    assert all(len(message) <= size_max for message in messages)
    read = [kafka.events_of(message) for message in messages]
    assert told(read) == told([frame])
    assert [part.first for part in read] == [int(part.records["number"][0]) for part in read]
    assert {(part.total, part.time) for part in read} == {(MARK, 2.5)}
    fewest = -(-sum(EVENT.itemsize + len(detail or b"") for detail in details) // (size_max - FRAME.itemsize))
    assert fewest <= len(messages) <= 2 * fewest + 1


def test_a_frame_of_common_size_is_one_message() -> None:
    frame = frame_of([None] * 2048)
    assert len(list(kafka.event_messages(frame, MARK))) == 1


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("kind", 0),
        ("kind", 6),
        ("asset", -1),
        ("detail_offset", -1),
        ("detail_size", -1),
        ("detail_size", 4),
        ("detail_offset", 2**31 - 1),
        ("number", 9),
    ],
)
def test_bent_events_are_refused(field: str, value: int) -> None:
    frame = frame_of([b"abc", None])
    records = frame.records.copy()
    records.view(UPDATE_EVENT)[field][0] = value
    message = pack(FrameKind.EVENTS, records, b"abc", first=1)
    with pytest.raises(BadFrame):
        kafka.events_of(message)


@pytest.mark.parametrize(
    "message",
    [
        b"",
        b"[1, 2]",
        pack(FrameKind.EVENTS, np.zeros(0, EVENT), first=1),
        pack(FrameKind.EVENTS, np.zeros(1, EVENT), first=0),
        pack(FrameKind.PING, np.zeros(0, "u1")),
    ],
)
def test_what_is_no_message_of_events_is_refused(message: bytes) -> None:
    with pytest.raises(BadFrame):
        kafka.events_of(message)


def listing() -> tuple[Any, Any]:
    assets, markets = np.zeros(2, ASSET_VIEW), np.zeros(1, MARKET_VIEW)
    assets["name"], assets["prec_save"], assets["rank"] = [b"USD", b"BTC"], 8, [1, 0]
    markets["name"], markets["stock"], markets["money"] = b"BTCUSD", 1, 0
    return assets, markets


def test_what_is_listed_comes_back_the_same() -> None:
    *records, mark = kafka.catalog_of(kafka.catalog_message(*listing(), MARK))
    assert mark == MARK
    assert catalog.make(*records) == catalog.make(*listing())
    assert [market.stock.name for market in catalog.make(*records).markets] == ["BTC"]


def test_a_bent_listing_is_refused() -> None:
    assets, markets = listing()
    markets["stock"] = 2
    good = kafka.catalog_message(*listing(), MARK)
    for message in (kafka.catalog_message(assets, markets, MARK), good[:-1], good + b"\0", good[: len(good) // 2], b""):
        with pytest.raises(BadFrame):
            kafka.catalog_of(message)


def test_an_exchange_is_known_by_its_mark() -> None:
    marks = {kafka.mark_of(seed) for seed in (0, 1, 2**62 - 1)}
    assert len(marks) == 3
    assert all(0 < mark < 2**62 for mark in marks)
    assert kafka.mark_of(1) == kafka.mark_of(1)
