"""The loop of the player against an exchange that is a table of replies."""

import time
from collections.abc import Sequence

import pytest

from bus.messages import CommandKind, Side
from market import player
from market.bitstamp import Row
from market.links import LinkBroken, MarketView
from market.orderflow import Flow, Reply, Request
from market.player import Player, Tally

MARKET = MarketView(
    name="BTCUSD",
    index=0,
    stock="BTC",
    money="USD",
    stock_prec=2,
    money_prec=2,
    fee_prec=4,
    shown_precs={"BTC": 2, "USD": 2},
    asset_indexes={"BTC": 0, "USD": 1},
)


class Table:
    """A link whose exchange rests every order, and answers in the next call; `refused` are texts by kind."""

    def __init__(self, refused: dict[int, str] | None = None, *, is_dead: bool = False) -> None:
        self.sent: list[Request] = []
        self.refused = refused or {}
        self.is_dead = is_dead
        self.waiting: list[Request] = []

    @property
    def in_flight_count(self) -> int:
        return len(self.waiting)

    def market(self, name: str) -> MarketView:
        return MARKET

    def room_count(self) -> int:
        return 3 - len(self.waiting)

    def send(self, requests: Sequence[Request]) -> None:
        assert len(requests) <= self.room_count()
        self.sent += requests
        self.waiting += requests

    def replies(self, wait_s: float) -> list[Reply]:
        if self.is_dead:
            return []
        done, self.waiting = self.waiting, []
        return [
            Reply(request, self.refused.get(request.kind, ""), place, request.kind == CommandKind.PUT_LIMIT, False, 0.1)
            for place, request in enumerate(done, start=len(self.sent))
        ]

    def close(self) -> None:
        pass


def rows(count: int) -> list[Row]:
    made = []
    for place in range(count):
        made.append(Row(1000 + place, str(place), "created", Side.BID, 100, 100))
        made.append(Row(1000 + place, str(place), "deleted", Side.BID, 100, 100))
    return made


def test_every_row_is_played_once_and_counted() -> None:
    link, tally = Table(), Tally()
    seen: list[int] = []
    flow = Flow(rows(10), 3)
    Player(link).play(flow, tally, 0.0, seen.append)
    assert (tally.put_count, tally.cancel_count, len(tally.latencies_s)) == (10, 10, 20)
    assert not tally.refusals
    assert seen[-1] == 20
    assert len(link.sent) == 20


def test_refusals_are_counted_by_their_text() -> None:
    tally = Tally()
    Player(Table({CommandKind.CANCEL: "order not found"})).play(Flow(rows(4), 3), tally, 0.0, lambda _: None)
    assert tally.refusals == {"cancel: order not found": 4}


def test_rows_wait_for_their_time() -> None:
    recorded = [Row(1000, "a", "created", Side.BID, 1, 1), Row(1100, "b", "created", Side.BID, 1, 1)]
    began_s = time.perf_counter()
    Player(Table()).play(Flow(recorded, 3), Tally(), 2.0, lambda _: None)
    seconds = time.perf_counter() - began_s
    assert seconds >= 0.05


def test_users_are_funded_and_a_refused_deposit_ends_it() -> None:
    link = Table()
    Player(link).fund(MARKET, rows(10), 3)
    assert {request.kind for request in link.sent} == {CommandKind.UPDATE_BALANCE}
    assert {request.asset for request in link.sent} == {"USD"}
    with pytest.raises(LinkBroken, match="a deposit was refused: repeat update"):
        Player(Table({CommandKind.UPDATE_BALANCE: "repeat update"})).fund(MARKET, rows(1), 3)


def test_an_exchange_that_falls_silent_ends_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(player, "REPLY_TIMEOUT_S", 0.01)
    with pytest.raises(LinkBroken, match="no reply"):
        Player(Table(is_dead=True)).play(Flow(rows(1), 3), Tally(), 0.0, lambda _: None)
