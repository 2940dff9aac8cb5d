"""A snapshot comes back as it was, or is refused."""

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine import snapshot
from engine.exchange import Exchange
from engine.snapshot import BadSnapshot
from tests.disk.trading import CAPACITY, LISTING, Flow


def traded(batches: int = 6) -> Exchange:
    exchange = Exchange(LISTING, CAPACITY)
    flow = Flow(seed=1)
    for number in range(batches):
        exchange.apply(flow.batch(40), 1000.0 + number, blob_size=2)
    return exchange


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return snapshot.save(tmp_path_factory.mktemp("snapshots"), traded())


def test_it_comes_back_as_it_was(saved: Path) -> None:
    exchange = traded()
    loaded = snapshot.load(saved)
    assert saved.name == f"{exchange.sequence:020d}.snapshot"
    assert loaded.listing == LISTING
    assert (loaded.sequence, loaded.event_number, loaded.results_hash, loaded.time) == (
        exchange.sequence,
        exchange.event_number,
        exchange.results_hash,
        exchange.time,
    )
    content = exchange.dump()
    assert loaded.content.keys() == content.keys()
    for name, array in content.items():
        assert loaded.content[name].dtype == array.dtype
        assert np.array_equal(loaded.content[name], array)
    restored = Exchange.restore(loaded.listing, loaded.content, CAPACITY)
    restored.audit()
    flow = Flow(seed=2)
    for number in range(5):
        batch = flow.batch(40)
        live, again = (each.apply(batch, 2000.0 + number, blob_size=2) for each in (exchange, restored))
        assert live.results.tobytes() == again.results.tobytes()
        assert live.events.tobytes() == again.events.tobytes()
    assert restored.results_hash == exchange.results_hash


def test_an_empty_exchange_has_a_snapshot_too(tmp_path: Path) -> None:
    loaded = snapshot.load(snapshot.save(tmp_path, Exchange(LISTING, CAPACITY)))
    assert loaded.sequence == 0
    assert len(loaded.content["orders"]) == 0


@settings(max_examples=100, deadline=None)
@given(where=st.floats(0, 1, exclude_max=True), mask=st.integers(1, 255))
def test_a_flipped_byte_is_found(
    saved: Path, tmp_path_factory: pytest.TempPathFactory, where: float, mask: int
) -> None:
    data = bytearray(saved.read_bytes())
    place = int(where * len(data))
    data[place] ^= mask
    flipped = tmp_path_factory.mktemp("flipped") / saved.name
    flipped.write_bytes(data)
    whole = snapshot.load(saved)
    try:
        loaded = snapshot.load(flipped)
    except BadSnapshot:
        return
    # bytes between the arrays belong to nobody
    assert loaded.sequence == whole.sequence
    assert all(loaded.content[name].tobytes() == array.tobytes() for name, array in whole.content.items())


@settings(max_examples=40, deadline=None)
@given(where=st.floats(0, 1, exclude_max=True))
def test_a_truncated_file_is_refused(saved: Path, tmp_path_factory: pytest.TempPathFactory, where: float) -> None:
    data = saved.read_bytes()
    short = tmp_path_factory.mktemp("short") / saved.name
    short.write_bytes(data[: int(where * len(data))])
    with pytest.raises(BadSnapshot):
        snapshot.load(short)


def save_series(directory: Path, keep_count: int = 10) -> list[Path]:
    exchange, flow = Exchange(LISTING, CAPACITY), Flow(seed=3)
    paths = []
    for number in range(4):
        exchange.apply(flow.batch(20), 1000.0 + number, blob_size=2)
        paths.append(snapshot.save(directory, exchange, keep_count=keep_count))
    return paths


def test_the_newest_good_one_is_found_and_the_bad_ones_are_named(tmp_path: Path) -> None:
    first, second, third, fourth = save_series(tmp_path)
    third.write_bytes(third.read_bytes()[:-1])
    data = bytearray(fourth.read_bytes())
    data[30] ^= 1
    fourth.write_bytes(data)
    found = snapshot.newest(tmp_path)
    assert found.snapshot is not None
    assert found.snapshot.path == second
    assert [text.split(": ")[0] for text in found.skipped] == [str(fourth), str(third)]
    assert first.exists()


def test_one_that_is_behind_the_event_log_is_skipped(tmp_path: Path) -> None:
    first, second, *_ = save_series(tmp_path)
    event_number = snapshot.load(second).event_number
    found = snapshot.newest(tmp_path, event_number_max=event_number)
    assert found.snapshot is not None
    assert found.snapshot.path == second
    found = snapshot.newest(tmp_path, event_number_max=event_number - 1)
    assert found.snapshot is not None
    assert found.snapshot.path == first


def test_only_the_newest_stay(tmp_path: Path) -> None:
    paths = save_series(tmp_path, keep_count=2)
    assert snapshot.snapshots(tmp_path) == [paths[3], paths[2]]


def test_a_failed_save_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        snapshot.save(tmp_path, traded())
    assert list(tmp_path.iterdir()) == []


def test_a_half_written_one_from_a_crash_is_no_snapshot(saved: Path, tmp_path: Path) -> None:
    shutil.copy(saved, tmp_path / f"{saved.stem}.tmp")
    assert snapshot.newest(tmp_path) == (None, [])
