"""The recorder's loop, turned by hand: every event is stored once, whatever happens to the store, log and matcher."""

import json
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest

from bus import positions
from bus.catalog import Listed
from bus.client import Client
from bus.endpoints import address
from bus.eventfiles import segments
from conf import alert
from conf.settings import History, Settings
from persist.recorder import BATCH_LEAST, BATCH_MOST, NAME, PAUSE_MOST_S, Recorder
from persist.store import StoreDown, StoreWrong
from tests.engine.opened import private_settings
from tests.persist.memory_store import Fault, MemoryStore, well
from tests.persist.trading import Exchange, exchange

TURN_MS = 50
TURNS_MAX = 2_000


class Clock:
    """Time that passes only when somebody sleeps, or a store takes it."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def now(self) -> float:
        return self.now_s

    def sleep(self, seconds: float) -> None:
        self.now_s += seconds


class Desk:
    """A recorder and what it works with."""

    def __init__(self, settings: Settings, store: MemoryStore) -> None:
        self.settings = settings
        self.store = store
        self.clock = Clock()
        self.client = Client(address(settings.bus.bind, settings.paths.sockets_dir, "commands"))
        self.recorder = Recorder(
            settings, lambda: store, Listed(self.client), now=self.clock.now, sleep=self.clock.sleep
        )

    def turn_until(self, number: int) -> None:
        """Until all events up to this one are stored."""
        for _ in range(TURNS_MAX):
            self.recorder.turn(TURN_MS)
            if self.store.number >= number:
                return
        raise AssertionError(f"{self.store.number} of {number} events are stored; {self.alerts}")

    def turn_for(self, seconds: float) -> None:
        """As long as the clock shows; a turn in which nobody sleeps takes a moment, too."""
        end_s = self.clock.now_s + seconds
        while self.clock.now_s < end_s:
            self.recorder.turn(1)
            self.clock.sleep(TURN_MS / 1000)

    @property
    def alerts(self) -> list[str]:
        """The texts of all alerts."""
        path = self.settings.paths.alerts_file
        return [json.loads(line)["text"] for line in path.read_text().splitlines()] if path.exists() else []

    @property
    def told_number(self) -> int | None:
        """What the positions file says."""
        return positions.told(self.settings.paths.positions_dir).get(NAME)

    def close(self) -> None:
        self.recorder.close()
        self.client.close()


@pytest.fixture(autouse=True)
def _every_alert(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is the recorder that does not tell the same twice."""
    monkeypatch.setattr(alert, "REPEAT_S", 0.0)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return replace(private_settings(tmp_path), history=History(backlog_alert_count=1_000))


@pytest.fixture
def trading(settings: Settings) -> Iterator[Exchange]:
    with exchange(settings) as running:
        running.fund()
        yield running


@pytest.fixture
def desk(settings: Settings, trading: Exchange) -> Iterator[Desk]:
    made = Desk(settings, MemoryStore())
    yield made
    made.close()


def failing(error: Exception, times: int = 1) -> Fault:
    """Raise an error so many times, then nothing."""
    left = [error] * times

    def fail() -> None:
        if left:
            raise left.pop()

    return fail


def test_events_are_stored_in_order_from_the_first_on_and_the_position_is_told(desk: Desk, trading: Exchange) -> None:
    trading.trade(100)
    desk.turn_until(trading.event_number)
    trading.trade(100)
    desk.turn_until(trading.event_number)
    assert desk.store.events == trading.events
    assert desk.told_number == trading.event_number
    assert desk.alerts == []


def test_a_lone_event_is_stored_in_the_turn_in_which_it_comes(desk: Desk, trading: Exchange) -> None:
    desk.turn_until(trading.event_number)
    for _ in range(3):
        count = len(desk.store.batches)
        trading.trade(1)
        assert desk.recorder.turn(30_000) == trading.event_number - desk.store.number + 1 > 0
        assert len(desk.store.batches) == count + 1


def test_another_recorder_goes_on_from_what_the_store_has(desk: Desk, trading: Exchange, settings: Settings) -> None:
    desk.turn_until(trading.event_number)
    desk.recorder.close()
    trading.trade(10)
    position = positions.Position(settings.paths.positions_dir, NAME)
    position.tell(1)  # it lags behind
    position.close()
    other = Desk(settings, desk.store)
    other.turn_until(trading.event_number)
    assert other.store.events == trading.events
    assert other.told_number == trading.event_number
    other.close()


def test_a_store_that_is_down_is_asked_again_after_growing_pauses_and_then_catches_up(
    desk: Desk, trading: Exchange
) -> None:
    tries: list[float] = []

    def down() -> None:
        tries.append(desk.clock.now_s)
        raise StoreDown(f"nobody listens, {len(tries)}")

    desk.store.on_open = down
    trading.trade(10)
    desk.turn_for(60)
    pauses = [after - before for before, after in pairwise(tries)]
    assert pauses[0] < 0.3
    assert pauses[-1] == pytest.approx(PAUSE_MOST_S, abs=0.2)
    assert max(pauses) < pauses[-1] + 0.2
    assert len(desk.alerts) == 1
    assert "nobody listens, 1" in desk.alerts[0]
    assert desk.store.number == 0
    desk.store.on_open = well
    desk.turn_until(trading.event_number)
    desk.recorder.turn(0)
    assert desk.store.events == trading.events
    assert [text for text in desk.alerts[1:] if "stored again" in text] == desk.alerts[1:]
    assert len(desk.alerts) == 2


def test_a_write_that_fails_is_done_again_once_whether_it_was_committed_or_not(desk: Desk, trading: Exchange) -> None:
    desk.turn_until(trading.event_number)
    desk.store.before_commit = failing(StoreDown("gone before"), 3)
    trading.trade(20)
    desk.turn_until(trading.event_number)
    desk.store.after_commit = failing(StoreDown("gone behind"), 3)
    for _ in range(5):
        trading.trade(20)
        desk.turn_until(trading.event_number)
    desk.turn_for(10)
    assert desk.store.events == trading.events
    assert desk.told_number == trading.event_number
    assert sum("gone" in text for text in desk.alerts) == sum("stored again" in text for text in desk.alerts) > 0


def test_a_store_that_answers_but_takes_nothing_alerts_once(desk: Desk, trading: Exchange) -> None:
    desk.store.before_commit = failing(StoreDown("the disk is full"), 20)
    desk.turn_for(30)
    assert len(desk.alerts) == 1
    desk.turn_until(trading.event_number)
    assert len(desk.alerts) == 2


def test_a_store_that_is_wrong_is_told_with_every_new_text_until_somebody_mends_it(
    desk: Desk, trading: Exchange
) -> None:
    desk.store.on_open = failing(StoreWrong("there is no table"), 100)
    desk.turn_for(3)
    desk.store.on_open = failing(StoreWrong("there is no column"), 4)
    desk.turn_until(trading.event_number)
    assert ["table" in desk.alerts[0], "column" in desk.alerts[1], "stored again" in desk.alerts[2]] == [True] * 3
    assert len(desk.alerts) == 3


def test_nothing_is_written_to_a_history_that_is_ahead_even_when_trading_overtakes_it(
    desk: Desk, trading: Exchange, settings: Settings
) -> None:
    position = positions.Position(settings.paths.positions_dir, NAME)
    position.close()  # this exchange has had a recorder before
    foreign_number = desk.store.number = trading.event_number + 5
    desk.turn_for(10)
    trading.trade(50)
    assert trading.event_number > foreign_number
    desk.turn_for(10)
    assert desk.store.batches == []
    assert len(desk.alerts) == 1
    assert f"event {foreign_number:,}" in desk.alerts[0]
    desk.store.number = 0  # somebody has emptied it
    desk.turn_until(trading.event_number)
    assert desk.store.events == trading.events


def test_nothing_is_written_to_a_history_that_this_data_folder_never_wrote(desk: Desk, trading: Exchange) -> None:
    desk.store.number = 3
    desk.turn_for(10)
    assert desk.store.batches == []
    assert desk.told_number is None
    assert len(desk.alerts) == 1
    assert str(desk.settings.paths.history_file) in desk.alerts[0]


def test_a_matcher_that_is_away_is_waited_for(desk: Desk, trading: Exchange) -> None:
    trading.stop()
    assert desk.recorder.turn(TURN_MS) == 0
    assert not desk.store.is_open
    trading.start()
    desk.turn_until(trading.event_number)
    assert desk.alerts == []


def test_a_long_backlog_is_told_and_its_end_too(desk: Desk, trading: Exchange) -> None:
    desk.turn_until(trading.event_number)
    desk.store.on_open = desk.store.before_commit = failing(StoreDown("nobody listens"), 10)
    trading.trade(1_000)
    desk.turn_for(5)
    assert ["are not in the history yet" in desk.alerts[0], "nobody listens" in desk.alerts[1]] == [True] * 2
    desk.turn_until(trading.event_number)
    desk.recorder.turn(0)
    assert ["stored again" in desk.alerts[2], "drained: 0 events" in desk.alerts[3]] == [True] * 2
    assert len(desk.alerts) == 4


def test_batches_grow_while_writes_are_quick_and_shrink_when_they_are_slow(desk: Desk, trading: Exchange) -> None:
    desk.turn_until(trading.event_number)
    desk.recorder.close()
    for _ in range(5):
        trading.trade(10_000)
    store = MemoryStore(desk.store.number)
    slow = Desk(desk.settings, store)
    slow.turn_until(store.number + 20 * BATCH_LEAST)
    sizes = [sum(map(len, batch)) // 192 for batch in store.batches]
    assert sizes == sorted(sizes)
    assert sizes[0] < sizes[-1] <= 2 * BATCH_MOST
    store.before_commit = lambda: slow.clock.sleep(2.0)
    slow.turn_until(trading.event_number)
    later = [sum(map(len, batch)) // 192 for batch in store.batches][len(sizes) :]
    assert later[-2] < later[0]
    assert min(later[:-1]) >= BATCH_LEAST
    slow.close()


def test_events_that_the_log_has_dropped_are_made_again(desk: Desk, trading: Exchange) -> None:
    desk.turn_until(trading.event_number)
    desk.recorder.close()
    for _ in range(4):
        trading.trade(10_000)
    events = trading.events
    files = segments(trading.settings.paths.events_dir)
    assert len(files) > 1
    files[0].unlink()
    store = MemoryStore(desk.store.number)
    other = Desk(desk.settings, store)
    other.turn_until(trading.event_number)
    assert desk.store.events + store.events == events
    assert len([text for text in other.alerts if "stored" in text]) == 0
    other.close()


def test_a_data_folder_that_takes_no_position_is_told_and_waited_for(desk: Desk, trading: Exchange) -> None:
    folder = desk.settings.paths.positions_dir
    folder.touch()
    desk.turn_for(5)
    assert desk.store.batches == []
    assert len(desk.alerts) == 1
    assert str(folder) in desk.alerts[0]
    folder.unlink()
    desk.turn_until(trading.event_number)
    assert desk.store.events == trading.events
