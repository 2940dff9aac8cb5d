"""Tickers, order books and trades as CoinGecko's integration standard for spot exchanges wants them.

Prices and amounts are decimal text without exponents, exact; timestamps are milliseconds, in quotes as in the
standard's examples. A ticker's id is "BTC_USD"; where two markets trade the same pair, the later one's has its name
behind.
"""

from collections.abc import Callable
from time import time
from typing import Any

import orjson

from bus import text
from bus.catalog import Market
from bus.messages import QueryKind
from bus.parameters import DEALS_MAX, PAGE_MAX
from gateways import replies, turns
from gateways.marketdata import AWAY, MarketData, plain
from gateways.query import BadQuery, Query
from gateways.rpc import Reply
from gateways.state import State

TRADES_LIMIT = 200  # trades without a `limit`
MS_LEAST = 100_000_000_000  # a time below it is in seconds: as milliseconds it would be in the year 1973 or before
FOREVER_MS = 1 << 62
GIVE_WAY_COUNT = 500  # trades that are written while others wait
_SIDES = ("buy", "sell")

Ids = dict[str, Market]


class UnknownTicker(Exception):
    """There is no such ticker."""


class CoinGecko:
    """The pages, by path."""

    def __init__(
        self,
        state: State,
        market_data: MarketData,
        now: Callable[[], float] = time,
        give_way: Callable[[], None] = turns.give_way,
    ) -> None:
        """`give_way` lets other greenlets run."""
        self._give_way = give_way
        self._state = state
        self._market_data = market_data
        self._now = now
        self.pages = {
            "/pairs": _page(self._pairs),
            "/tickers": _page(self._tickers),
            "/orderbook": _page(self._orderbook),
            "/historical_trades": _page(self._historical_trades),
        }

    def _pairs(self, query: Query) -> Any:
        return [
            {"ticker_id": ticker_id, "base": market.stock.name, "target": market.money.name}
            for ticker_id, market in self._ids().items()
        ]

    def _tickers(self, query: Query) -> Any:
        """What happened in 24 hours. A market that market data does not know yet is left out."""
        figures = {row["name"]: row for row in self._market_data.ask("market.tickers")}
        return [
            self._ticker(ticker_id, market, figures[market.name])
            for ticker_id, market in self._ids().items()
            if market.name in figures
        ]

    def _ticker(self, ticker_id: str, market: Market, figures: dict[str, str]) -> dict[str, str]:
        book = self._book(market, 1)
        return {
            "ticker_id": ticker_id,
            "base_currency": market.stock.name,
            "target_currency": market.money.name,
            "last_price": plain(figures["last"]),
            "base_volume": plain(figures["volume"]),
            "target_volume": plain(figures["deal"]),
            "bid": book["bids"][0][0] if book["bids"] else "0",
            "ask": book["asks"][0][0] if book["asks"] else "0",
            "high": plain(figures["high"]),
            "low": plain(figures["low"]),
        }

    def _orderbook(self, query: Query) -> Any:
        """`depth` counts both sides together; 0, or none, is all that there is to have."""
        ticker_id, market = self._named(query)
        depth = query.integer("depth", 0, least=0)
        level_count = min((depth + 1) // 2, PAGE_MAX) if depth else PAGE_MAX
        return {"ticker_id": ticker_id, "timestamp": str(_ms(self._now())), **self._book(market, level_count)}

    def _book(self, market: Market, level_count: int) -> dict[str, list[list[str]]]:
        found = self._state.answer(QueryKind.DEPTH, market=market.index, limit=level_count, interval=0)
        book = orjson.loads(replies.depth(found.records, found.total, market))
        return {side: [[plain(price), plain(amount)] for price, amount in book[side]] for side in ("bids", "asks")}

    def _historical_trades(self, query: Query) -> Any:
        """The newest trades first; those that market data remembers are 10,000 a market."""
        _, market = self._named(query)
        sides = _sides(query)
        limit = query.integer("limit", TRADES_LIMIT, least=0) or DEALS_MAX
        since_ms, until_ms = _moment(query, "start_time", 0), _moment(query, "end_time", FOREVER_MS)
        takes_all = sides == _SIDES and not since_ms and until_ms == FOREVER_MS
        deals = self._market_data.ask("market.deals", market.name, min(limit, DEALS_MAX) if takes_all else DEALS_MAX, 0)
        wanted = [deal for deal in deals if deal["type"] in sides and since_ms <= _ms(deal["time"]) <= until_ms][:limit]
        trades: dict[str, list[Any]] = {side: [] for side in sides}
        for count, deal in enumerate(wanted, 1):
            trades[deal["type"]].append(_trade(deal, market))
            if count % GIVE_WAY_COUNT == 0:
                self._give_way()
        return trades

    def _named(self, query: Query) -> tuple[str, Market]:
        """The ticker that the query is about. Raises BadQuery, UnknownTicker and as `State`."""
        ticker_id = query.text("ticker_id")
        market = self._ids().get(ticker_id)
        if market is None:
            raise UnknownTicker
        return ticker_id, market

    def _ids(self) -> Ids:
        ids: Ids = {}
        for market in self._state.catalog().markets:
            pair = f"{market.stock.name}_{market.money.name}"
            ids.setdefault(f"{pair}_{market.name}" if pair in ids else pair, market)
        return ids


def _page(answer: Callable[[Query], Any]) -> Callable[[str], Reply]:
    def page(text: str) -> Reply:
        try:
            return 200, orjson.dumps(answer(Query(text)))
        except BadQuery as wrong:
            return 400, _error(str(wrong))
        except UnknownTicker:
            return 404, _error("there is no such ticker_id")
        except AWAY:
            return 503, _error("the service is not available")

    return page


def _error(text: str) -> bytes:
    return orjson.dumps({"error": text})


def _sides(query: Query) -> tuple[str, ...]:
    side = query.text("type", "")
    if side and side not in _SIDES:
        raise BadQuery("type is neither buy nor sell")
    return (side,) if side else _SIDES


def _moment(query: Query, name: str, default: int) -> int:
    """A time in milliseconds that may have been given in seconds."""
    given = query.integer(name, default, least=0)
    return given * 1000 if given < MS_LEAST else given


def _ms(time_s: float) -> int:
    return round(time_s * 1000)


def _trade(deal: dict[str, Any], market: Market) -> dict[str, Any]:
    price, amount = text.parse(deal["price"], market.money_prec), text.parse(deal["amount"], market.stock_prec)
    assert price is not None, "market data writes numbers"
    assert amount is not None, "market data writes numbers"
    return {
        "trade_id": deal["id"],
        "price": plain(deal["price"]),
        "base_volume": plain(deal["amount"]),
        "target_volume": plain(text.stripped(price * amount, market.deal_prec)),
        "trade_timestamp": str(_ms(deal["time"])),
        "type": deal["type"],
    }
