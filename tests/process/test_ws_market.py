"""Market data as the gateway pushes it: every deal once, in order, and in the end what market data answers.

Deals are compared with those of the event log, whoever subscribes when, and whatever is killed meanwhile.
"""

import os
import signal
import time
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bus.text import stripped
from tests.process.exchange import PATIENCE_S, Running
from tests.process.load import Load
from tests.process.test_kill import ASSETS, OFTEN, Killer
from tests.process.test_market import MARKET, Varied, deals_of, events, pid_of
from tests.process.ws_client import Client, connected, gateway, trading

TOLD_COUNT = 100  # deals to a new subscriber (CONTRACT 5.4)
JOIN_COUNT = 60
FOLLOWED_COUNT = 200  # deals that each of those waits for
BURST_COUNT = 8
KILL_S = 0.4  # of trade until something is killed
BURST_S = 0.15
CURRENT_S = 20.0  # after which nothing may be old: far above what a loaded machine needs, far below a minute's poll
WHOLE_DAY_S = 86_400  # an interval in which no new row begins meanwhile, nearly always
RENEWED_COUNT = 3
ASKED_S = 0.1
QUIET_S = 1.0  # for what should not come

Deal = dict[str, Any]


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Running]:
    with gateway(tmp_path, supervisor=OFTEN, market={"flush_interval_s": 0.05}) as started:
        yield started


def pushed(client: Client) -> list[list[Deal]]:
    """The deals of each deals.update, oldest first in each."""
    found = []
    for market, deals in client.of("deals.update"):
        assert market == MARKET
        assert all(newer["id"] > older["id"] for newer, older in pairwise(deals)), "newest first in a message"
        found.append(deals[::-1])
    return found


def made(running: Running) -> list[Deal]:
    """All deals of the event log as they are shown, oldest first."""
    frames, listed = events(running)
    market = listed.market_by_name[MARKET]
    deals = np.concatenate([deals_of(frame) for frame in frames])
    deals = deals[deals["market"] == market.index]
    return [
        {
            "id": deal_id,
            "time": moment,
            "price": stripped(price, market.money_prec),
            "amount": stripped(amount, market.stock_prec),
            "type": "sell" if side == 1 else "buy",
        }
        for deal_id, moment, price, amount, side in zip(
            *(deals[name].tolist() for name in ("deal_id", "time", "price_units", "amount_units", "taker_side")),
            strict=True,
        )
    ]


def check_each_once(client: Client, wanted: list[Deal], *, is_from_start: bool) -> None:
    """A subscriber has been told all deals from its first one on, each once, in order."""
    parts = pushed(client)
    told = [deal for part in parts for deal in part]
    ids = [deal["id"] for deal in told]
    assert ids == sorted(set(ids)), [ids[at - 2 : at + 3] for at in range(1, len(ids)) if ids[at] <= ids[at - 1]][:3]
    if is_from_start:
        assert told == wanted
        return
    first = next(at for at, deal in enumerate(wanted) if deal["id"] == ids[0])
    assert told == wanted[first:]
    assert len(parts[0]) == TOLD_COUNT, "first the newest 100"


def wait_for_last(client: Client, wanted: list[Deal]) -> None:
    client.wait(lambda: any(part[-1]["id"] >= wanted[-1]["id"] for part in pushed(client)[-1:]))
    client.look(QUIET_S)


def test_each_deal_is_told_once_to_whoever_is_there_and_to_whoever_joins(running: Running) -> None:
    with connected(running) as early, connected(running) as late:
        early.call("deals.subscribe", MARKET)
        with trading(running, seed=11):
            early.wait(lambda: len(pushed(early)) > 10 and pushed(early)[-1][-1]["id"] > 2 * TOLD_COUNT)
            late.call("deals.subscribe", MARKET)
            late.wait(lambda: len(pushed(late)) > 10)
            early.look()
        wanted = made(running)
        for client in (early, late):
            wait_for_last(client, wanted)
        check_each_once(early, wanted, is_from_start=True)
        check_each_once(late, wanted, is_from_start=False)


def test_the_first_to_join_in_the_middle_of_trade_is_told_each_deal_once(running: Running) -> None:
    """Nobody follows the market when it joins, so the newest 100 come from market data, which may be ahead or behind.

    It need not wait for trade to pause, however far market data is behind.
    """
    followed = []
    with trading(running, seed=12), connected(running) as client:
        client.call("deals.subscribe", MARKET)
        client.wait(lambda: sum(map(len, pushed(client))) > 2 * TOLD_COUNT)
        for _ in range(JOIN_COUNT):
            client.call("deals.unsubscribe")
            client.told.clear()
            client.call("deals.subscribe", MARKET)
            client.wait(lambda: sum(map(len, pushed(client))) > FOLLOWED_COUNT)
            followed.append(pushed(client))
    wanted = made(running)
    places = {deal["id"]: place for place, deal in enumerate(wanted)}
    for parts in followed:
        told = [deal for part in parts for deal in part]
        first = places[told[0]["id"]]
        ids, wanted_ids = ([deal["id"] for deal in deals] for deals in (told, wanted[first : first + len(told)]))
        assert ids == wanted_ids, [len(part) for part in parts]
        assert told == wanted[first : first + len(told)]
        assert len(parts[0]) >= TOLD_COUNT


def test_a_subscription_that_is_renewed_while_market_data_is_asked_is_told_each_deal_once(running: Running) -> None:
    """What the first one asked for is not for the second one."""
    with trading(running, seed=15):
        time.sleep(KILL_S)
    wanted = made(running)
    pid = running.pid("market")
    with connected(running) as client:
        for _ in range(RENEWED_COUNT):
            os.kill(pid, signal.SIGSTOP)
            try:
                client.call("deals.subscribe", MARKET)
                time.sleep(ASKED_S)  # in which the question leaves
                client.call("deals.unsubscribe")
                client.told.clear()
                client.call("deals.subscribe", MARKET)
            finally:
                os.kill(pid, signal.SIGCONT)
            client.wait(lambda: bool(client.told))
            client.look(QUIET_S)
            assert pushed(client) == [wanted[-TOLD_COUNT:]]
            client.call("deals.unsubscribe")


def test_no_deal_is_lost_or_told_twice_when_market_data_or_the_matcher_is_killed(running: Running) -> None:
    load = Varied(seed=13)
    with running.client() as bus:
        load.fund(bus, ASSETS)
    with connected(running) as early, connected(running) as late:
        early.call("deals.subscribe", MARKET)
        for number, victim in enumerate(("market", "matcher", "market", "matcher")):
            with running.client() as bus:
                load.run(bus, Killer(pid_of(victim, running), KILL_S).is_done)
                if victim == "matcher":
                    load.lose()
                else:
                    load.settle(bus)
            if number == 1:
                late.call("deals.subscribe", MARKET)
        pid_of("matcher", running)
        wanted = made(running)
        for client in (early, late):
            wait_for_last(client, wanted)
        check_each_once(early, wanted, is_from_start=True)
        check_each_once(late, wanted, is_from_start=False)


def newest(client: Client) -> dict[str, Any]:
    """What the last notification of each channel says."""
    found: dict[str, Any] = {}
    for told in client.told:
        found[told.method] = told.params[-1]
    return found


def answered(running: Running, now: int) -> dict[str, Any]:
    """The same as market data answers it."""
    rows = running.call("market.kline", MARKET, now - 1, now, WHOLE_DAY_S)
    return {
        "price.update": running.call("market.last", MARKET),
        "state.update": running.call("market.status", MARKET, WHOLE_DAY_S),
        "today.update": running.call("market.status_today", MARKET),
        "kline.update": rows[-1],
    }


def check_newest(client: Client, running: Running) -> None:
    """Soon the client has been told what market data answers."""
    running.wait_stored("market")
    wanted = answered(running, int(time.time()))
    deadline = time.monotonic() + CURRENT_S
    while newest(client) != wanted and time.monotonic() < deadline:
        client.look(0.1)
    assert newest(client) == wanted, running.logs()


def burst(load: Load, running: Running, is_over: Callable[[], bool]) -> None:
    with running.client() as bus:
        load.run(bus, is_over)
        assert isinstance(load, Varied)
        load.settle(bus)


def test_in_the_end_prices_states_and_klines_are_those_of_market_data(running: Running) -> None:
    load = Varied(seed=14)
    with running.client() as bus:
        load.fund(bus, ASSETS)
    with connected(running) as client:
        for channel in ("price", "state", "today"):
            client.call(f"{channel}.subscribe", MARKET)
        client.call("kline.subscribe", MARKET, WHOLE_DAY_S)
        for _ in range(BURST_COUNT):
            end = time.monotonic() + BURST_S
            burst(load, running, lambda end=end: time.monotonic() > end)  # type: ignore[misc]
            check_newest(client, running)
        burst(load, running, Killer(pid_of("market", running), BURST_S).is_done)
        pid_of("market", running)
        check_newest(client, running)
        burst(load, running, Killer(pid_of("market", running), 0.0).is_done)  # it is away when the last deal is made
        pid_of("market", running)
        check_newest(client, running)
    assert PATIENCE_S > CURRENT_S
