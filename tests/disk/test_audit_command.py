"""`pit audit` proves what is on the disk, changes nothing there, and says what is wrong."""

from pathlib import Path

import numpy as np
import pytest

from bus import eventfiles, eventlog
from bus.messages import UPDATE_EVENT, EventKind
from engine import snapshot
from engine.audit_command import NotSound, report
from engine.exchange import Exchange
from engine.journal_reader import HEADER_SIZE, segments
from tests.disk.trading import CAPACITY, Flow, House


def lived(data_dir: Path) -> House:
    """An exchange that traded, wrote a snapshot and traded on."""
    house = House(data_dir)
    flow = Flow(seed=5)
    house.trade(flow, 5, now=1000.0)
    snapshot.save(house.paths.snapshots_dir, house.exchange)
    house.trade(flow, 5, now=2000.0)
    return house


def told(house: House, *, from_start: bool = False) -> dict[str, str]:
    lines = report(house.paths, CAPACITY, from_start=from_start)
    return {line[:20].strip(): line[20:] for line in lines}


def files(data_dir: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in data_dir.rglob("*") if path.is_file()}


@pytest.mark.parametrize("from_start", [False, True])
def test_a_sound_state_is_proved_while_the_exchange_lives(tmp_path: Path, from_start: bool) -> None:
    with lived(tmp_path) as house:
        before = files(tmp_path)
        rows = told(house, from_start=from_start)
        assert files(tmp_path) == before
        exchange, saved = house.exchange, snapshot.newest(house.paths.snapshots_dir).snapshot
        assert saved is not None
        replayed = exchange.sequence - (0 if from_start else saved.sequence)
        assert rows["last command"] == f"{exchange.sequence:,}"
        assert rows["commands replayed"] == f"{replayed:,}"
        assert rows["orders"] == f"{len(exchange.dump()['orders']):,}"
        assert rows["events"] == f"{exchange.event_number:,}, and they make these balances"


def test_a_snapshot_with_a_wrong_balance_is_found(tmp_path: Path) -> None:
    with lived(tmp_path) as house:
        saved = snapshot.newest(house.paths.snapshots_dir).snapshot
        assert saved is not None
        content = saved.content | {"balances": saved.content["balances"].copy()}
        content["balances"]["freeze_units"][0, 0] += 1
        snapshot.save(house.paths.snapshots_dir, Exchange.restore(saved.listing, content, CAPACITY))
        with pytest.raises(NotSound, match="frozen, open orders froze"):
            told(house)
        assert told(house, from_start=True)["begun with"] == "the journal's first command"


def test_an_event_log_of_other_deposits_is_found(tmp_path: Path) -> None:
    with lived(tmp_path) as house:
        path = eventfiles.segments(house.paths.events_dir)[0]
        frame = next(eventlog.Reader(house.paths.events_dir).frames(0))
        place = int(np.flatnonzero(frame.records["kind"] == EventKind.BALANCE_UPDATE)[0])
        known = frame.records[place : place + 1].tobytes()
        event = np.frombuffer(known, UPDATE_EVENT).copy()
        event["change_units"][0, 0] += 1
        path.write_bytes(path.read_bytes().replace(known, event.tobytes()))
        with pytest.raises(NotSound, match="deposits and deals make"):
            told(house)


def test_what_the_event_log_lacks_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with lived(tmp_path) as house:
        monkeypatch.setattr(eventfiles, "boot_id", lambda: b"another")
        assert told(house)["events"].startswith("not checked: the log ends with 0 of")


def test_a_damaged_journal_and_none_are_not_sound(tmp_path: Path) -> None:
    with lived(tmp_path) as house:
        file = segments(house.paths.journal_dir)[0]
        data = bytearray(file.read_bytes())
        data[HEADER_SIZE + 100] ^= 1
        file.write_bytes(data)
        with pytest.raises(NotSound, match=file.name):
            told(house, from_start=True)
        file.unlink()
        with pytest.raises(NotSound, match="holds no journal"):
            told(house)
