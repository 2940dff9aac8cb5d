"""The `history` processes: answers to the five history methods, from the store of the history (CONTRACT 3).

Each answers on a socket of its own, gateways take turns among them. A store that does not answer makes code 2, and is
connected to again with the next question.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

from bus.calls import Outcome, Service
from bus.codes import Code
from bus.endpoints import place
from bus.methods import Backend, Method
from conf.alert import alert
from conf.paths import Paths
from conf.ready import beat, ready
from conf.settings import Settings
from conf.stopping import Stopping
from persist import opening, replies
from persist.store import Page, Reader, StoreDown, StoreWrong, Times

IDLE_MS = 200  # how long a turn may wait for a question


def balance_history(reader: Reader, values: list[Any]) -> str:
    """[user_id, asset, business, start_time, end_time, offset, limit]"""
    user_id, asset, business, start, end, *page = values
    found = reader.changes(user_id, asset, business, Times(start, end), Page(*page))
    return replies.page(found, replies.change, Page(*page))


def order_finished(reader: Reader, values: list[Any]) -> str:
    """[user_id, market, start_time, end_time, offset, limit, side?]"""
    user_id, market, start, end, offset, limit, *more = values
    page = Page(offset, limit)
    found = reader.orders(user_id, market, more[0] if more else 0, Times(start, end), page)
    return replies.page(found, replies.order, page)


def order_finished_detail(reader: Reader, values: list[Any]) -> str:
    """[order_id]"""
    found = reader.order(values[0])
    return "null" if found is None else replies.order(found)


def order_deals(reader: Reader, values: list[Any]) -> str:
    """[order_id, offset, limit]"""
    order_id, *page = values
    return replies.page(reader.deals_of_order(order_id, Page(*page)), replies.deal_of_order, Page(*page))


def user_deals(reader: Reader, values: list[Any]) -> str:
    """[user_id, market, offset, limit]"""
    user_id, market, *page = values
    return replies.page(reader.deals_of_user(user_id, market, Page(*page)), replies.deal_of_user, Page(*page))


ANSWERS: Mapping[str, Callable[[Reader, list[Any]], str]] = {
    "balance.history": balance_history,
    "order.finished": order_finished,
    "order.finished_detail": order_finished_detail,
    "order.deals": order_deals,
    "market.user_deals": user_deals,
}


class Answering:
    """Answers from a store, and tells the operator when it begins or ceases to fail."""

    def __init__(self, make_reader: Callable[[], Reader], paths: Paths, name: str) -> None:
        """`make_reader` may raise StoreWrong; `name` is the process's, for alerts."""
        self._make_reader = make_reader
        self._reader: Reader | None = None
        self._paths = paths
        self._name = name
        self._is_down = False

    def respond(self, method: Method, values: list[Any]) -> Outcome:
        """The JSON text of the result, or INTERNAL_ERROR while the store is down."""
        try:
            self._reader = self._reader or self._make_reader()
            text = ANSWERS[method.name](self._reader, values)
        except (StoreDown, StoreWrong) as error:
            if not self._is_down:
                alert(self._paths, self._name, f"the history can't be read, questions get code 2: {error}")
            self._is_down = True
            return Code.INTERNAL_ERROR
        if self._is_down:
            alert(self._paths, self._name, "the history is read again")
        self._is_down = False
        return text

    def close(self) -> None:
        """Disconnect from the store."""
        if self._reader is not None:
            self._reader.close()


def in_time(settings: Settings) -> Settings:
    """The settings, with a query_timeout_s in which no heartbeat is missed: a question is waited for without any."""
    timeout_s = min(settings.history.query_timeout_s, settings.supervisor.heartbeat_timeout_s / 2)
    return replace(settings, history=replace(settings.history, query_timeout_s=timeout_s))


def main(settings: Settings, index: int) -> int:
    """Run until told to stop; the exit status."""
    stopping = Stopping()
    paths = settings.paths
    answering = Answering(partial(opening.reader_of, in_time(settings)), paths, f"history-{index}")
    with Service(place(settings, Backend.HISTORY.value, index), Backend.HISTORY) as service:
        ready()
        while not stopping:
            beat()
            service.turn(answering.respond, IDLE_MS)
    answering.close()
    return 0
