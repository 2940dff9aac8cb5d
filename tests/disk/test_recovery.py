"""Whatever is left on disk, the exchange that comes back is the one that was, and so are its events."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bus import eventfiles
from bus.eventlog import Gone, Reader
from bus.messages import COMMAND, FRAME, CommandKind, FrameKind, pack, unpack
from engine import snapshot
from engine.exchange import Exchange
from engine.journal_reader import HEADER_SIZE, Damaged, Scan, segments
from engine.recovery import Diverged
from tests.disk.trading import LISTING, WIDER, Flow, House

AMOUNT_OFFSET = int(COMMAND.fields["amount_units"][1])  # type: ignore[index]  # numpy: None only when unstructured


def events_of(house: House, after: int = 0) -> bytes:
    """All events, as bytes."""
    return b"".join(frame.records.tobytes() for frame in Reader(house.paths.events_dir).frames(after))


def assert_same(one: Exchange, other: Exchange) -> None:
    mine, others = one.dump(), other.dump()
    assert mine.keys() == others.keys()
    for name in mine:
        assert np.array_equal(mine[name], others[name]), name
    assert one.listing == other.listing
    other.audit()


def grown(data_dir: Path, *, snapshots: bool = True) -> tuple[Exchange, bytes]:
    """Let an exchange live for a while, its listing change, and die."""
    with House(data_dir) as house:
        flow = Flow(seed=5)
        house.trade(flow, 10, now=1000.0)
        if snapshots:
            house.events.sync()
            snapshot.save(house.paths.snapshots_dir, house.exchange)
        house.trade(flow, 10, now=2000.0)
        house.configure(WIDER)
        house.trade(flow, 10, now=3000.0)
        return house.exchange, events_of(house)


def reboot(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if the machine had started anew."""
    monkeypatch.setattr(eventfiles, "boot_id", lambda: b"another")


def test_nothing_on_disk_is_an_empty_exchange(tmp_path: Path) -> None:
    with House(tmp_path) as house:
        assert house.exchange.sequence == 1
        assert house.exchange.listing == LISTING


def test_from_the_journal_alone(tmp_path: Path) -> None:
    was, events = grown(tmp_path, snapshots=False)
    with House(tmp_path) as house:
        assert_same(was, house.exchange)
        assert house.rebuilt.snapshot_sequence == 0
        assert house.rebuilt.replayed_count == was.sequence
        assert events_of(house) == events


def test_from_a_snapshot_and_the_rest_of_the_journal(tmp_path: Path) -> None:
    was, events = grown(tmp_path)
    with House(tmp_path) as house:
        assert_same(was, house.exchange)
        assert 0 < house.rebuilt.replayed_count < was.sequence
        assert house.rebuilt.snapshot_sequence + house.rebuilt.replayed_count == was.sequence
        assert events_of(house) == events


def test_a_bad_snapshot_is_passed_over_and_named(tmp_path: Path) -> None:
    was, _ = grown(tmp_path)
    [path] = (tmp_path / "snapshots").iterdir()
    path.write_bytes(path.read_bytes()[:-1])
    with House(tmp_path) as house:
        assert_same(was, house.exchange)
        assert house.rebuilt.snapshot_sequence == 0
        assert str(path) in house.rebuilt.report


def test_it_goes_on_as_if_nothing_had_happened(tmp_path: Path) -> None:
    for data_dir, lives in ((tmp_path / "one", 1), (tmp_path / "many", 8)):
        flow = Flow(seed=9)
        for life in range(lives):
            with House(data_dir) as house:
                house.trade(flow, 24 // lives, now=1000.0 + 24 // lives * life)
                if life % 3 == 1:
                    snapshot.save(house.paths.snapshots_dir, house.exchange)
    with House(tmp_path / "one") as one, House(tmp_path / "many") as many:
        assert_same(one.exchange, many.exchange)
        assert events_of(one) == events_of(many)


def test_events_that_the_log_lost_are_made_again(tmp_path: Path) -> None:
    was, events = grown(tmp_path, snapshots=False)
    shutil.rmtree(tmp_path / "events")
    with House(tmp_path) as house:
        assert_same(was, house.exchange)
        assert events_of(house) == events


def test_events_without_journaled_commands_are_cut(tmp_path: Path) -> None:
    was, events = grown(tmp_path)
    with House(tmp_path) as house:
        house.apply(Flow(seed=6).batch(30), 4000.0, journaled=False)
        assert house.events.last_number > was.event_number
    with House(tmp_path) as house:
        assert_same(was, house.exchange)
        assert house.events.last_number == was.event_number
        assert events_of(house) == events


def test_a_torn_tail_is_cut_and_reported(tmp_path: Path) -> None:
    grown(tmp_path)
    frames = [(entry.file, entry.offset, entry.frame.size) for entry in Scan(tmp_path / "journal")]
    file, offset, size = frames[-1]
    data = bytearray(file.read_bytes())
    data[offset + size // 2 : offset + size] = bytes(size - size // 2)
    file.write_bytes(data)
    with House(tmp_path) as house:
        assert "torn bytes behind the last command were cut" in house.rebuilt.report
        house.exchange.audit()
        sequence = house.exchange.sequence
    with House(tmp_path) as house:
        assert house.exchange.sequence == sequence
        assert house.rebuilt.end.torn_bytes == 0


def test_after_another_boot_unsynced_events_are_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    was, events = grown(tmp_path)
    reboot(monkeypatch)
    with House(tmp_path) as house:
        assert house.rebuilt.snapshot_sequence > 0
        assert_same(was, house.exchange)
        assert events_of(house) == events


def test_after_another_boot_a_snapshot_behind_the_trusted_events_is_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    was, events = grown(tmp_path)
    with House(tmp_path) as house:
        snapshot.save(house.paths.snapshots_dir, house.exchange)
    reboot(monkeypatch)
    with House(tmp_path) as house:
        assert 0 < house.rebuilt.snapshot_sequence < was.sequence
        assert_same(was, house.exchange)
        assert events_of(house) == events


def test_when_nothing_reaches_back_far_enough_the_log_begins_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    grown(tmp_path)
    with House(tmp_path) as house:
        house.trade(Flow(seed=7), 60, now=5000.0)
        was = house.exchange
        snapshot.save(house.paths.snapshots_dir, was, keep_count=1)
        assert house.journal.drop_before(was.sequence)
    reboot(monkeypatch)
    with House(tmp_path) as house:
        assert_same(was, house.exchange)
        assert "events up to" in house.rebuilt.report
        house.trade(Flow(seed=8), 2, now=6000.0)
        assert events_of(house, was.event_number)
        with pytest.raises(Gone):
            events_of(house)


def test_a_changed_command_is_damage_and_a_resealed_one_diverges(tmp_path: Path) -> None:
    grown(tmp_path, snapshots=False)
    entry = list(Scan(tmp_path / "journal"))[5]
    data = bytearray(entry.file.read_bytes())
    put = int((entry.frame.records["kind"] == CommandKind.PUT_LIMIT).argmax())
    data[entry.offset + FRAME.itemsize + put * COMMAND.itemsize + AMOUNT_OFFSET] ^= 1
    entry.file.write_bytes(data)
    with pytest.raises(Damaged, match=f"offset {entry.offset}"):
        House(tmp_path)
    reseal(data, entry.offset, entry.frame.size)
    entry.file.write_bytes(data)
    with pytest.raises(Diverged, match=f"offset {entry.offset}"):
        House(tmp_path)


def reseal(data: bytearray, offset: int, size: int) -> None:
    """Give a changed frame the CRC that it would have."""
    frame = unpack(data[offset : offset + size])
    facts: dict[str, Any] = {"first": frame.first, "total": frame.total, "time": frame.time}
    sealed = pack(FrameKind.COMMANDS, frame.records, frame.blob, results_hash=frame.results_hash, sealed=True, **facts)
    data[offset : offset + size] = sealed


def test_a_journal_that_was_removed_goes_on_behind_the_snapshot(tmp_path: Path) -> None:
    with House(tmp_path) as house:
        house.trade(Flow(seed=5), 10, now=1000.0)
        was = house.exchange
        snapshot.save(house.paths.snapshots_dir, was)
    shutil.rmtree(tmp_path / "journal")
    with House(tmp_path) as house:
        assert_same(was, house.exchange)
        house.trade(Flow(seed=6), 3, now=2000.0)
        sequence = house.exchange.sequence
    with House(tmp_path) as house:
        assert house.exchange.sequence == sequence
    assert segments(tmp_path / "journal")[0].stem == f"{was.sequence + 1:020d}"
    assert HEADER_SIZE == 64
