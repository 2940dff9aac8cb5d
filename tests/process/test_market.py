"""Market data of a whole exchange: what the original answered, and what its deals make, whoever is killed meanwhile.

PIT_KILLS says how often something is killed.
"""

import json
import os
import random
import time
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bus import catalog
from bus.catalog import Catalog
from bus.client import Client
from bus.messages import DEAL_EVENT, EventKind, Frame, Records
from bus.methods import METHODS, Backend
from bus.text import base, stripped
from conf.settings import DEFAULT_MARKETS_FILE
from engine.retelling import Events
from tests.golden import player
from tests.golden.player import Call
from tests.process.exchange import PATIENCE_S, POLL_S, Running, exchange
from tests.process.load import FRAME_COUNT, Load
from tests.process.test_golden import DEPTH_CACHE_MS
from tests.process.test_kill import ASSETS, OFTEN, Killer
from tests.reference.klines import Row, Tape

KILL_COUNT = int(os.environ.get("PIT_KILLS", "6"))
LOAD_S = 0.3
OFTEN_FLUSHED = {"flush_interval_s": 0.05}
RECORDED = player.files("market_data")
MARKET = "BTCUSD"
INTERVALS = (1, 15, 60, 3_600, 86_400, 604_800, 2_592_000)
RATES = ("0.002", "0.001")
VICTIMS = ("market", "market", "matcher")


def events(running: Running) -> tuple[list[Frame], Catalog]:
    """All that has happened, once the market process has stored it, and what is listed."""
    last_number = running.wait_stored("market")
    frames = []
    with Events(running.settings, after_number=0) as found:
        while found.last_number < last_number:
            if (frame := found.receive(timeout_ms=1_000)) is not None:
                frames.append(frame)
    with running.client() as client:
        return frames, catalog.ask(client)


def deals_of(frame: Frame) -> Records:
    found: Records = frame.records[frame.records["kind"] == EventKind.DEAL].view(DEAL_EVENT)
    return found


@pytest.mark.parametrize("path", RECORDED, ids=lambda path: path.stem)
def test_every_reply_is_the_recorded_one(path: Path, tmp_path: Path) -> None:
    """The original has left out the first deal of its life (CONTRACT 4.4, 10.1 D16): so do we, when we are told to."""
    settings = {**OFTEN_FLUSHED, "skip_first_deal": True}
    http = {"depth_cache_ms": DEPTH_CACHE_MS}
    with exchange(tmp_path, listing=player.listing(path), market=settings, http=http) as running:
        host, _, port = running.settings.http.bind.rpartition(":")
        calls = list(player.play(path, host, int(port), lambda: running.wait_stored("market")))
    different = [call for call in calls if not call.agrees]
    assert not different, "\n".join(map(str, different))
    assert len([call for call in calls if is_market_call(call)]) > 20


def is_market_call(call: Call) -> bool:
    return call.method in METHODS and METHODS[call.method].backend is Backend.MARKET


def test_there_is_something_to_play() -> None:
    assert len(RECORDED) >= 2


class Varied(Load):
    """Load whose orders trade at many prices."""

    def settle(self, client: Client) -> None:
        """Wait for what is on its way."""
        deadline = time.monotonic() + PATIENCE_S
        while self._sent:
            assert time.monotonic() < deadline
            self._take(client)

    def _puts(self) -> Records:
        commands = super()._puts()
        commands["price_units"] += self._draw.integers(-50, 51, FRAME_COUNT) * 10**8
        commands["amount_units"] *= self._draw.integers(1, 9, FRAME_COUNT)
        return commands


def pid_of(name: str, running: Running) -> int:
    """Of a process, once it is there again."""
    deadline = time.monotonic() + PATIENCE_S
    while (row := running.status()[name])["state"] != "ready":
        assert time.monotonic() < deadline, running.logs()
        time.sleep(POLL_S)
    return int(row["pid"])


def check_market(running: Running) -> int:
    """Every deal and k-line that is answered is that of the twin, made of all events; how many deals there are."""
    frames, listed = events(running)
    market = listed.market_by_name[MARKET]
    deals = np.concatenate([deals_of(frame) for frame in frames])
    deals = deals[deals["market"] == market.index]
    limits = running.settings.market
    tape = Tape(limits.time_zone, limits.sec_max, limits.min_max, limits.hour_max, limits.kline_row_max)
    for deal in deals:
        tape.deal(float(deal["time"]), int(deal["price_units"]), int(deal["amount_units"]))
    newest = deals[-10_000:][::-1]
    answered = running.call("market.deals", MARKET, 10_000, 0)
    assert [deal["id"] for deal in answered] == newest["deal_id"].tolist()
    assert [deal["time"] for deal in answered] == newest["time"].tolist()
    prices = [stripped(units, market.money_prec) for units in newest["price_units"].tolist()]
    assert [deal["price"] for deal in answered] == prices
    assert running.call("market.last", MARKET) == base(int(newest[0]["price_units"]), market.money_prec)
    first, last = int(deals["time"].min()), int(deals["time"].max())
    for interval in INTERVALS:
        wanted = tape.kline(first, last, interval, int(time.time()))
        assert wanted is not None
        rows = running.call("market.kline", MARKET, first, last, interval)
        assert rows == [shown(row, market) for row in wanted], interval
    return len(deals)


def shown(row: Row, market: Any) -> list[Any]:
    """A row of the twin as market.kline shows it."""
    start, *prices, volume, money = row
    sums = (stripped(volume, market.stock_prec), stripped(money, market.deal_prec)) if volume else ("0", "0")
    return [start, *(stripped(price, market.money_prec) for price in prices), *sums, market.name]


@pytest.mark.timeout(60 + 10 * KILL_COUNT)
def test_market_data_forgets_nothing_and_counts_nothing_twice_when_it_or_the_matcher_is_killed(tmp_path: Path) -> None:
    draw, load = random.Random(3), Varied(seed=3)
    with exchange(tmp_path, supervisor=OFTEN, market=OFTEN_FLUSHED) as running:
        with running.client() as client:
            load.fund(client, ASSETS)
        victims = [*islice(cycle(VICTIMS), KILL_COUNT)]
        for victim in victims:
            with running.client() as client:
                load.run(client, Killer(pid_of(victim, running), LOAD_S + draw.random() / 2).is_done)
                if victim == "matcher":
                    load.lose()
                else:
                    load.settle(client)
        pid_of("matcher", running)
        assert check_market(running) > 100
        assert running.status()["market"]["restart_count"] == victims.count("market")
        running.pit("restart", "market")
        pid_of("market", running)
        check_market(running)


def test_a_market_that_is_listed_while_the_exchange_runs_has_market_data(tmp_path: Path) -> None:
    listing = json.loads(DEFAULT_MARKETS_FILE.read_text())
    later = listing["markets"].pop()
    with exchange(tmp_path, listing=listing) as running:
        assert running.ask("market.last", later["name"])["error"]["code"] == 1
        listing["markets"].append(later)
        (tmp_path / "markets.json").write_text(json.dumps(listing))
        running.pit("restart", "matcher")
        deadline = time.monotonic() + PATIENCE_S
        while running.ask("market.last", later["name"])["result"] != "0":
            assert time.monotonic() < deadline, running.logs()
            time.sleep(POLL_S)
        for user, asset in ((1, later["stock"]["name"]), (2, later["money"]["name"])):
            running.call("balance.update", user, asset, "deposit", user, "100", {})
        for user in (1, 2):
            running.call("order.put_limit", user, later["name"], user, "1", "0.5", *RATES, "")
        running.wait_stored("market")
        assert running.call("market.last", later["name"]) == "0.50000000"
        tickers = {row["name"]: row["last"] for row in running.call("market.tickers")}
        assert tickers == {market["name"]: "0.5" if market is later else "0" for market in listing["markets"]}
