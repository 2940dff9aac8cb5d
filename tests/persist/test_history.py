"""The history methods, asked over the bus: which question is put to the store, and what comes back when it is down."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import zmq

from bus import calls
from bus.calls import Service
from bus.codes import Code
from bus.messages import Frame, unpack
from bus.methods import METHODS, Backend
from conf import alert
from conf.operations import Supervisor
from conf.paths import Paths
from conf.settings import History, Settings
from persist.history import ANSWERS, Answering, in_time
from persist.store import Change, Deal, Order, Page, StoreDown, StoreWrong, Times

PATIENCE_MS = 60_000
ONE = Decimal(1)
ORDER = Order(5, 1.0, 2.0, 7, "BTCUSD", "web", 1, 2, ONE, ONE, ONE, ONE, ONE, ONE, ONE)
DEAL = Deal(1.0, 7, "BTCUSD", 3, 5, 6, 2, 1, ONE, ONE, ONE, ONE, ONE)
CHANGE = Change(1.0, 7, "BTC", "deposit", ONE, ONE, "{}")


@dataclass
class Asked:
    """A `persist.store.Reader` that notes what it is asked for, and has one row of each kind."""

    found: list[Any] = field(default_factory=list)
    is_open: bool = True
    error: Exception | None = None

    def note(self, *asked: Any) -> None:
        self.found.append(asked)
        if self.error is not None:
            raise self.error

    def changes(self, user_id: int, asset: str, business: str, times: Times, page: Page) -> list[Change]:
        self.note(user_id, asset, business, times, page)
        return [CHANGE]

    def orders(self, user_id: int, market: str, side: int, times: Times, page: Page) -> list[Order]:
        self.note(user_id, market, side, times, page)
        return [ORDER]

    def order(self, order_id: int) -> Order | None:
        self.note(order_id)
        return ORDER if order_id == ORDER.id else None

    def deals_of_order(self, order_id: int, page: Page) -> list[Deal]:
        self.note(order_id, page)
        return [DEAL]

    def deals_of_user(self, user_id: int, market: str, page: Page) -> list[Deal]:
        self.note(user_id, market, page)
        return [DEAL]

    def all_orders(self, user_id: int, market: str, times: Times) -> Iterator[Order]:
        raise AssertionError("this is for exports")

    def all_deals(self, user_id: int, market: str, times: Times) -> Iterator[Deal]:
        raise AssertionError("this is for exports")

    def all_changes(self, user_id: int, asset: str, times: Times) -> Iterator[Change]:
        raise AssertionError("this is for exports")

    def close(self) -> None:
        self.is_open = False


class Desk:
    """A history process without the process, and somebody who asks it."""

    def __init__(self, folder: Path) -> None:
        self.paths = Paths(folder, "test")
        self.reader = Asked()
        self.make_error: Exception | None = None
        self.answering = Answering(self.make, self.paths, "history-0")
        place = f"ipc://{folder}/history.sock"
        self.service = Service(place, Backend.HISTORY)
        self.socket: Any = zmq.Context.instance().socket(zmq.DEALER)
        self.socket.setsockopt(zmq.LINGER, 0)
        self.socket.connect(place)

    def make(self) -> Asked:
        if self.make_error is not None:
            raise self.make_error
        return self.reader

    def ask(self, name: str, *params: Any) -> Frame:
        self.socket.send(calls.call(METHODS[name], list(params), 1))
        self.service.turn(self.answering.respond, PATIENCE_MS)
        assert self.socket.poll(PATIENCE_MS), "no answer"
        return unpack(self.socket.recv())

    def result(self, name: str, *params: Any) -> Any:
        frame = self.ask(name, *params)
        assert frame.total == Code.OK
        return json.loads(bytes(frame.blob))

    @property
    def alerts(self) -> list[str]:
        path = self.paths.alerts_file
        return [json.loads(line)["text"] for line in path.read_text().splitlines()] if path.exists() else []

    def close(self) -> None:
        self.service.close()
        self.socket.close()
        self.answering.close()


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Desk]:
    monkeypatch.setattr(alert, "REPEAT_S", 0.0)
    made = Desk(tmp_path)
    yield made
    made.close()


def test_every_history_method_is_answered() -> None:
    assert ANSWERS.keys() == {name for name, method in METHODS.items() if method.backend is Backend.HISTORY}


@pytest.mark.parametrize(
    ("name", "params", "asked"),
    [
        (
            "balance.history",
            [7, "BTC", "trade", 100, 200, 5, 50],
            (7, "BTC", "trade", Times(100, 200), Page(5, 50)),
        ),
        ("balance.history", [7, "", "", "x", None, 1.5, 1], (7, "", "", Times(0, 0), Page(0, 1))),
        ("order.finished", [7, "BTCUSD", 100, 0, 0, 101], (7, "BTCUSD", 0, Times(100, 0), Page(0, 101))),
        ("order.finished", [7, "NOPE", 0, 0, -3, 10, 2], (7, "NOPE", 2, Times(0, 0), Page(-3, 10))),
        ("order.finished", [7, "", 0, 0, 0, 10, 1, 9, "x"], (7, "", 1, Times(0, 0), Page(0, 10))),
        ("order.deals", [5, 1, 10], (5, Page(1, 10))),
        ("market.user_deals", [7, "BTCUSD", 1, 10], (7, "BTCUSD", Page(1, 10))),
    ],
)
def test_a_list_is_asked_for_as_the_parameters_say(
    desk: Desk, name: str, params: list[Any], asked: tuple[Any, ...]
) -> None:
    result = desk.result(name, *params)
    assert desk.reader.found == [asked]
    assert list(result) == ["offset", "limit", "records"]
    assert (result["offset"], result["limit"]) == asked[-1]
    assert len(result["records"]) == 1


def test_an_order_or_null(desk: Desk) -> None:
    assert desk.result("order.finished_detail", 5)["id"] == 5
    assert desk.result("order.finished_detail", 6) is None


@pytest.mark.parametrize("params", [[0, "", "", 0, 0, 0, 10], [7, "", "", 2, 1, 0, 10], [7, "", "", 0, 0, 0, 102], []])
def test_what_is_refused_does_not_reach_the_store(desk: Desk, params: list[Any]) -> None:
    assert desk.ask("balance.history", *params).total == Code.INVALID_ARGUMENT
    assert desk.reader.found == []


@pytest.mark.parametrize("error", [StoreDown("nobody listens"), StoreWrong("there is no table")])
def test_a_store_that_fails_makes_code_2_and_one_alert_until_it_works_again(desk: Desk, error: Exception) -> None:
    desk.reader.error = error
    for _ in range(3):
        assert desk.ask("order.deals", 5, 0, 10).total == Code.INTERNAL_ERROR
    assert len(desk.alerts) == 1
    assert str(error) in desk.alerts[0]
    desk.reader.error = None
    for _ in range(3):
        assert desk.result("order.deals", 5, 0, 10)["records"]
    assert desk.alerts[1:] == ["the history is read again"]


@pytest.mark.parametrize(
    ("query_s", "heartbeat_s", "wanted_s"), [(5.0, 10.0, 5.0), (600.0, 10.0, 5.0), (0.5, 2.0, 0.5)]
)
def test_a_question_ends_before_the_process_counts_as_hung(query_s: float, heartbeat_s: float, wanted_s: float) -> None:
    given = Settings(history=History(query_timeout_s=query_s), supervisor=Supervisor(heartbeat_timeout_s=heartbeat_s))
    assert in_time(given).history.query_timeout_s == wanted_s


def test_a_store_that_can_not_be_made_is_told_too(desk: Desk) -> None:
    desk.make_error = StoreWrong("the port is none")
    assert desk.ask("order.deals", 5, 0, 10).total == Code.INTERNAL_ERROR
    assert "the port is none" in desk.alerts[0]
    desk.make_error = None
    assert desk.result("order.deals", 5, 0, 10)["records"]
