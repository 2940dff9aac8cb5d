"""How the methods that change nothing are answered, each from the state."""

from collections.abc import Callable
from typing import Any

from bus.catalog import Catalog, Market
from bus.messages import QueryKind
from bus.orders import order_text
from bus.parameters import Interval
from gateways import replies
from gateways.state import State

DEPTHS_KEPT_COUNT = 1000  # answers to order.depth

Read = Callable[[State, list[Any], Catalog], str]  # checked parameters in, the text of a result out


def asset_list(state: State, values: list[Any], catalog: Catalog) -> str:
    """asset.list"""
    return replies.asset_list(catalog.assets)


def asset_summary(state: State, values: list[Any], catalog: Catalog) -> str:
    """asset.summary"""
    return replies.asset_summary(state.answer(QueryKind.ASSETS).records, values or catalog.assets)


def balance_query(state: State, values: list[Any], catalog: Catalog) -> str:
    """balance.query"""
    user_id, *wanted = values
    return replies.balances(state.answer(QueryKind.BALANCES, user_id=user_id).records, wanted or catalog.assets)


def order_pending(state: State, values: list[Any], catalog: Catalog) -> str:
    """order.pending"""
    user_id, market, offset, limit = values
    found = state.answer(QueryKind.PENDING, market=market.index, user_id=user_id, offset=offset, limit=limit)
    return replies.orders_by_user(found.records, found.total, offset, limit, catalog)


def order_pending_detail(state: State, values: list[Any], catalog: Catalog) -> str:
    """order.pending_detail"""
    market, order_id = values
    found = state.answer(QueryKind.PENDING_DETAIL, market=market.index, order_id=order_id)
    return order_text(found.records.tobytes(), 0, catalog.market_by_index) if len(found.records) else "null"


def order_book(state: State, values: list[Any], catalog: Catalog) -> str:
    """order.book"""
    market, side, offset, limit = values
    found = state.answer(QueryKind.BOOK, market=market.index, side=side, offset=offset, limit=limit)
    return replies.orders_by_price(found.records, found.total, offset, limit, catalog)


def market_list(state: State, values: list[Any], catalog: Catalog) -> str:
    """market.list"""
    return replies.market_list(state.answer(QueryKind.MARKETS).records, catalog.markets)


def market_summary(state: State, values: list[Any], catalog: Catalog) -> str:
    """market.summary"""
    return replies.market_summary(state.answer(QueryKind.MARKETS).records, values or catalog.markets)


class KeptDepths:
    """order.depth, whose answer is kept for a while: to write 100 levels takes longer than all else of a request.

    As in the original, an answer is kept for the parameters' very text: "0" and "0.0" are two (CONTRACT 2.3).
    """

    def __init__(self, age_max_s: float, now: Callable[[], float]) -> None:
        self._age_max_s = age_max_s
        self._now = now
        self._kept: dict[tuple[str, int, str], tuple[float, str]] = {}  # until when, the answer

    def kept(self, params: list[Any]) -> str | None:
        """The answer to unchecked parameters, if they are those of an answer that is kept: then they were right."""
        if len(params) != 3:
            return None
        market, limit, interval = params
        if type(market) is not str or type(limit) is not int or type(interval) is not str:
            return None
        until, answer = self._kept.get((market, limit, interval), (0.0, ""))
        return answer if self._now() < until else None

    def read(self, state: State, values: list[Any], catalog: Catalog) -> str:
        """A new answer to checked parameters."""
        market, limit, interval = values
        answer = _depth(state, market, limit, interval)
        if self._age_max_s:
            if len(self._kept) >= DEPTHS_KEPT_COUNT:
                self._kept.clear()
            self._kept[market.name, limit, interval.text] = (self._now() + self._age_max_s, answer)
        return answer


def _depth(state: State, market: Market, limit: int, interval: Interval) -> str:
    found = state.answer(QueryKind.DEPTH, market=market.index, limit=limit, interval=interval.units)
    return replies.depth(found.records, found.total, market)


READS: dict[str, Read] = {
    "asset.list": asset_list,
    "asset.summary": asset_summary,
    "balance.query": balance_query,
    "order.pending": order_pending,
    "order.pending_detail": order_pending_detail,
    "order.book": order_book,
    "market.list": market_list,
    "market.summary": market_summary,
}
