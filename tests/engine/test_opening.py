"""How an exchange comes back: adopted from memory when that is sound, else rebuilt; and what is refused."""

import json
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from bus.messages import COMMAND, FrameKind, pack
from bus.positions import Position
from conf import markets
from conf.markets import BadMarkets
from conf.settings import DEFAULT_MARKETS_FILE, Settings
from engine import snapshot
from engine.memory import InUse
from engine.opening import Opened, needed_after, open_exchange
from engine.reader import NotReady, Reader
from engine.recovery import events_frames
from engine.schema import MemoryState
from tests.engine.opened import all_accepted, deposits, die, opened, private_settings, puts, sweep


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return private_settings(tmp_path)


def do(parts: Opened, commands: "np.ndarray[tuple[int], np.dtype[np.void]]", *, journal: bool = True) -> None:
    """Apply, journal and log a batch, as the matcher's turn does."""
    exchange = parts.exchange
    applied = exchange.apply(commands, 100.0)
    assert all_accepted(applied.results)
    if not journal:
        return
    parts.journal.append(
        pack(
            FrameKind.COMMANDS,
            commands,
            first=exchange.sequence - len(commands) + 1,
            time=exchange.time,
            results_hash=exchange.results_hash,
            sealed=True,
        )
    )
    for frame in events_frames(applied.events, b"", exchange.time):
        parts.events.append(frame)
    assert parts.journal.sync_now()


def test_a_first_start_journals_its_listing(settings: Settings) -> None:
    with opened(settings) as parts:
        assert parts.exchange.sequence == 1
        assert parts.exchange.listing == markets.load(DEFAULT_MARKETS_FILE)


def test_clean_memory_at_the_journals_end_is_adopted(settings: Settings) -> None:
    parts = open_exchange(settings)
    do(parts, deposits())
    do(parts, puts(40))
    before = parts.exchange.dump()
    die(parts)
    with opened(settings) as again:
        assert "adopted" in again.report
        assert all((again.exchange.dump()[name] == before[name]).all() for name in before)
        again.exchange.audit()
        do(again, puts(2))


@pytest.mark.parametrize("harm", ["dirty", "ahead of the journal", "events missing", "capacity"])
def test_anything_else_is_rebuilt_and_nothing_is_lost(settings: Settings, harm: str) -> None:
    parts = open_exchange(settings)
    do(parts, deposits())
    do(parts, puts(41))
    before = parts.exchange.dump()
    again_settings = settings
    if harm == "dirty":
        parts.exchange.header["dirty"] = 1
        parts.exchange.state.slots["order"]["left_units"][3] += 1
    elif harm == "ahead of the journal":
        do(parts, puts(3), journal=False)
    elif harm == "events missing":
        parts.events.cut(parts.events.last_number - 1)
    else:
        again_settings = replace(settings, matcher=replace(settings.matcher, order_capacity=9999))
    die(parts)
    with opened(again_settings) as again:
        assert "rebuilt" in again.report
        assert all((again.exchange.dump()[name] == before[name]).all() for name in before)
        assert again.events.last_number == again.exchange.event_number
        again.exchange.audit()


def test_a_snapshot_shortens_the_replay(settings: Settings) -> None:
    parts = open_exchange(settings)
    do(parts, deposits())
    do(parts, puts(41))
    parts.events.mark_durable(parts.exchange.event_number)
    parts.events.sync()
    snapshot.save(settings.paths.snapshots_dir, parts.exchange)
    do(parts, puts(3))
    before = parts.exchange.dump()
    die(parts)
    sweep(settings)
    with opened(settings) as again:
        assert "and 3 commands" in again.report, again.report
        assert all((again.exchange.dump()[name] == before[name]).all() for name in before)


def test_memory_of_another_journal_is_not_adopted(settings: Settings, tmp_path: Path) -> None:
    parts = open_exchange(settings)
    die(parts)
    other = replace(settings, data_dir=tmp_path / "other")
    other.paths.make()
    with opened(other) as again:
        assert "rebuilt" in again.report


def test_two_matchers_of_one_instance_are_refused(settings: Settings, tmp_path: Path) -> None:
    with opened(settings), pytest.raises(InUse, match="another matcher runs"):
        open_exchange(replace(settings, data_dir=tmp_path / "other"))


def test_a_markets_file_may_grow_but_not_lose_or_change(settings: Settings, tmp_path: Path) -> None:
    document = json.loads(DEFAULT_MARKETS_FILE.read_text())
    file = tmp_path / "markets.json"

    def written(change: dict[str, object]) -> Settings:
        file.write_text(json.dumps(document | change))
        return replace(settings, markets_file=file)

    with opened(settings) as parts:
        do(parts, deposits())
    doge = {"name": "DOGE", "prec_save": 20, "prec_show": 8}
    with opened(written({"assets": [doge, *document["assets"]]})) as parts:
        assert [asset.name for asset in parts.exchange.listing.assets] == ["DOGE", "USD", "BTC", "ETH"]
        assert parts.exchange.sequence == 1 + len(deposits()) + 1
        parts.exchange.audit()
    finer = [{**document["assets"][0], "prec_save": 21}, *document["assets"][1:]]
    refused: list[tuple[dict[str, object], str]] = [
        ({"assets": [doge, *document["assets"]], "markets": document["markets"][1:]}, "BTCUSD has a history"),
        ({"assets": [doge, *finer]}, "prec_save of asset USD is 20 and can't become 21"),
    ]
    for change, words in refused:
        with pytest.raises(BadMarkets, match=words):
            open_exchange(written(change))


def test_readers_follow_to_new_memory_and_notice_a_stopped_matcher(settings: Settings) -> None:
    reader = Reader(settings.paths.state_name)
    with pytest.raises(NotReady, match="does not run"):
        reader.answer(7)
    with opened(settings) as parts:
        assert len(reader.answer(7).records) == 3
        parts.exchange.header["beat"] = time.monotonic() - 10
        with pytest.raises(NotReady, match="stopped"):
            reader.answer(7)
        parts.exchange.header["state"] = MemoryState.MAKING
        with pytest.raises(NotReady, match="starting"):
            reader.answer(7)
    with opened(settings):
        assert len(reader.answer(7).records) == 3


def test_a_journal_that_was_changed_is_not_replayed_as_if_nothing_were(settings: Settings) -> None:
    with opened(settings) as parts:
        do(parts, deposits())
        wrong = np.zeros(1, COMMAND)
        wrong["kind"] = 3  # a cancel of an order that never was
        frame = pack(FrameKind.COMMANDS, wrong, first=parts.exchange.sequence + 1, time=100.0, sealed=True)
        parts.journal.append(frame)
        assert parts.journal.sync_now()
    with pytest.raises(Exception, match="don't give the results that they gave"):
        open_exchange(settings)


def test_the_event_log_keeps_what_the_slowest_configured_consumer_has_not_stored(tmp_path: Path) -> None:
    settings = private_settings(tmp_path)
    assert needed_after(settings) is None
    told = {"recorder": 7, "market": 5, "gone": 1}
    for name, number in told.items():
        position = Position(settings.paths.positions_dir, name)
        position.tell(number)
        position.close()
    assert needed_after(settings) == 5
