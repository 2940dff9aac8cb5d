"""The courier's file: kept as a whole, and refused when it is none."""

import json
import os
from pathlib import Path

import pytest

from conf.paths import Paths
from persist import kafka_position
from persist.kafka_position import Place, Position, Resend
from persist.kafka_records import Producer
from persist.store import StoreWrong

POSITION = Position(77, 2, {"deals": Place(10, 3, 2), "orders": Place(12, 9, 8)}, Producer(7000, 1))


@pytest.fixture
def paths(tmp_path: Path) -> Paths:
    return Paths(tmp_path, "main")


def test_what_was_saved_is_loaded_and_nothing_else_is_left(paths: Paths) -> None:
    assert kafka_position.load(paths) is None
    kafka_position.save(paths, POSITION._replace(places={}))
    kafka_position.save(paths, POSITION)
    assert kafka_position.load(paths) == POSITION
    assert [file.name for file in paths.data_dir.iterdir()] == ["courier.json"]


def test_a_write_that_broke_off_leaves_what_was_there(paths: Paths) -> None:
    kafka_position.save(paths, POSITION)
    paths.courier_file.with_name("courier.json.new").write_text('{"exch')
    assert kafka_position.load(paths) == POSITION
    kafka_position.save(paths, POSITION)


def test_a_write_that_the_disk_cuts_short_leaves_what_was_there(paths: Paths, monkeypatch: pytest.MonkeyPatch) -> None:
    kafka_position.save(paths, POSITION)
    write = os.write
    monkeypatch.setattr(os, "write", lambda descriptor, data: write(descriptor, data[:10]))
    with pytest.raises(OSError, match="only 10 of"):
        kafka_position.save(paths, POSITION._replace(resent=9))
    assert kafka_position.load(paths) == POSITION


def test_nobody_has_sent_yet(paths: Paths) -> None:
    kafka_position.save(paths, POSITION._replace(producer=None))
    assert kafka_position.load(paths) == POSITION._replace(producer=None)


def test_a_torn_file_is_refused_wherever_it_ends(paths: Paths) -> None:
    kafka_position.save(paths, POSITION)
    whole = paths.courier_file.read_bytes()
    for size in range(len(whole)):
        paths.courier_file.write_bytes(whole[:size])
        with pytest.raises(StoreWrong, match=r"courier\.json is damaged"):
            kafka_position.load(paths)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("exchange", None),
        ("exchange", -1),
        ("resent", 1.5),
        ("topics", []),
        ("topics", {"deals": {"event": 1}}),
        ("topics", {"deals": {"event": True, "offset": 0}}),
        ("topics", {"deals": {"event": 1, "offset": 1 << 63}}),
        ("topics", {"deals": 3}),
        ("topics", {"deals": {"event": 1, "offset": 0}}),
        ("producer", [1]),
        ("producer", [1, -1]),
        ("producer", "nobody"),
    ],
)
def test_values_that_can_not_be_are_refused(paths: Paths, key: str, value: object) -> None:
    kafka_position.save(paths, POSITION)
    document = json.loads(paths.courier_file.read_text())
    paths.courier_file.write_text(json.dumps(document | {key: value}))
    with pytest.raises(StoreWrong):
        kafka_position.load(paths)


def test_a_request_is_kept_too(paths: Paths) -> None:
    assert kafka_position.load_resend(paths) is None
    kafka_position.save_resend(paths, Resend(3, 100, ("deals",)))
    assert kafka_position.load_resend(paths) == Resend(3, 100, ("deals",))
    paths.resend_file.write_text("[]")
    with pytest.raises(StoreWrong):
        kafka_position.load_resend(paths)
