"""Events that the log has dropped come back from the journal as they were, wherever the log begins now."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from bus.eventfiles import first_of, segments
from bus.eventlog import Reader
from bus.messages import Frame
from conf.settings import Settings, load
from engine import journal_reader, snapshot
from engine.retelling import Events, NotRetold, retold
from tests.disk.trading import CAPACITY, WIDER, Flow, House

BATCH_COUNT, BATCH_SIZE = 60, 100  # enough for some segments of the event log
STEPS_MAX = 100_000


def settings_of(house: House) -> Settings:
    """The capacities may be others than the matcher had, if they are large enough."""
    return replace(load(None, house.paths.data_dir), instance=house.paths.instance)


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    """An exchange whose listing changes in the middle, with two snapshots."""
    with House(tmp_path) as house:
        flow = Flow(seed=3)
        for part in range(3):
            for number in range(BATCH_COUNT):
                house.apply(flow.batch(BATCH_SIZE), 1000.0 * (part + 1) + number)
            if part < 2:
                snapshot.save(house.paths.snapshots_dir, house.exchange)
            if part == 1:
                house.configure(WIDER)
        yield house


def plain(frames: list[Frame]) -> list[tuple[int, bytes, bytes, float]]:
    """All that a consumer may look at."""
    return [(frame.first, frame.records.tobytes(), bytes(frame.blob), frame.time) for frame in frames]


def logged(house: House, after: int = 0) -> list[Frame]:
    """What the log has, before something is taken from it."""
    return list(Reader(house.paths.events_dir).frames(after))


def drop(house: House, count: int) -> int:
    """Remove the oldest segments of the event log; the first event that is left."""
    files = segments(house.paths.events_dir)
    assert len(files) > count
    for file in files[:count]:
        file.unlink()
    return first_of(files[count])


def received(events: Events, last_number: int) -> list[Frame]:
    """All events up to this one."""
    frames: list[Frame] = []
    for _ in range(STEPS_MAX):
        if (frame := events.receive(0)) is not None:
            frames.append(frame)
        if events.last_number >= last_number:
            return frames
    raise AssertionError(f"no event came after {events.last_number}")


@pytest.mark.parametrize("position", [0, 1, 777, 5000])
def test_dropped_events_are_the_same_again_and_then_the_log_goes_on(house: House, position: int) -> None:
    wanted = plain(logged(house, position))
    assert drop(house, 1) > position
    with Events(settings_of(house), position) as events:
        found = received(events, house.exchange.event_number)
        assert not events.is_retelling
    assert plain(found) == wanted


def test_it_begins_with_the_newest_snapshot_that_is_old_enough(house: House) -> None:
    paths = house.paths
    newest, oldest = snapshot.snapshots(paths.snapshots_dir)
    saved = snapshot.load(newest)
    position = saved.event_number
    wanted = plain(logged(house, position))
    assert house.journal.drop_before(saved.sequence)
    assert journal_reader.first_of(journal_reader.segments(paths.journal_dir)[0]) > 1
    first = drop(house, len(segments(paths.events_dir)) - 1)
    oldest.write_bytes(b"damaged")
    found = [frame for frame in retold(paths, CAPACITY, position) if frame is not None]
    assert found[-1].first + len(found[-1].records) == first
    assert plain(found) == wanted[: len(found)]


def test_a_position_in_the_middle_of_a_frame_and_a_log_that_begins_there(house: House) -> None:
    frames = logged(house)
    frame = next(frame for frame in frames[5:] if len(frame.records) > 3)
    drop(house, 1)
    found = next(found for found in retold(house.paths, CAPACITY, frame.first) if found is not None)
    assert found.first == frame.first + 1
    assert found.records.tobytes() == frame.records[1:].tobytes()


def test_a_hole_in_the_log_is_filled(house: House) -> None:
    wanted = plain(logged(house))
    files = segments(house.paths.events_dir)
    assert len(files) > 2
    files[1].unlink()
    with Events(settings_of(house), 0) as events:
        assert plain(received(events, house.exchange.event_number)) == wanted


def test_what_the_journal_does_not_have_is_told(house: House) -> None:
    assert house.journal.drop_before(house.exchange.sequence)
    drop(house, 1)
    for path in snapshot.snapshots(house.paths.snapshots_dir):
        path.unlink()
    with Events(settings_of(house), 0) as events, pytest.raises(NotRetold, match="the journal starts here"):
        received(events, 1)


def test_without_a_journal_nothing_is_made(house: House) -> None:
    drop(house, 1)
    for path in journal_reader.segments(house.paths.journal_dir):
        path.unlink()
    with Events(settings_of(house), 0) as events, pytest.raises(NotRetold, match="the journal ends with event 0"):
        received(events, 1)
