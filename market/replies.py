"""The answers about market data as JSON text, byte for byte ViaBTC's (CONTRACT 4.5), and the checks that need them.

`Respondent` is what a `bus.calls.Service` asks; parameters have passed the method table.
"""

from collections.abc import Callable, Iterator
from typing import Any

from bus.calls import Outcome
from bus.catalog import Market
from bus.codes import Code
from bus.deals import deal_text
from bus.messages import Records
from bus.methods import Method
from bus.text import base, stripped
from conf.settings import MarketData
from market import klines
from market.board import Board, Tape
from market.calendar import DAY_S, source
from market.klines import Question, Row
from market.ticks import Ticks

PERCENT_PREC = 2  # decimals of a change
CHUNK_COUNT = 100  # deals whose text is made and kept in one piece


class Respondent:
    """Answers from a board; `clock` gives seconds since 1970."""

    def __init__(self, board: Board, settings: MarketData, clock: Callable[[], float]) -> None:
        self._board = board
        self._settings = settings
        self._clock = clock
        self._texts: dict[int, DealTexts] = {}  # by index of the market
        self._answers: dict[str, Callable[..., Outcome]] = {
            "market.last": self._last,
            "market.deals": self._deals,
            "market.kline": self._kline,
            "market.status": self._status,
            "market.status_today": self._status_today,
            "market.tickers": self._tickers,
        }

    def __call__(self, method: Method, values: list[Any]) -> Outcome:
        """The answer to a method of Backend.MARKET."""
        return self._answers[method.name](*values)

    def _last(self, market: Market) -> Outcome:
        units = self._board.tape(market.index).last_units
        return f'"{base(units, market.money_prec)}"' if units else '"0"'

    def _deals(self, market: Market, limit: int, last_id: int) -> Outcome:
        texts = self._texts.get(market.index)
        if texts is None:
            texts = self._texts[market.index] = DealTexts(market, self._board.tape(market.index).ticks)
        return f"[{', '.join(texts.newest(limit, last_id))}]"

    def _kline(self, market: Market, start: int, end: int, interval: int) -> Outcome:
        now = int(self._clock())
        end = min(end, now)
        if start > end or source(interval) is None:
            return Code.INVALID_ARGUMENT
        question = Question(start=start, end=end, interval=interval, now=now)
        rows = klines.klines(self._tape(market).series, question, self._board.calendar, self._settings)
        return f"[{', '.join([_kline_row(row, market) for row in rows])}]"

    def _status(self, market: Market, period: int) -> Outcome:
        if period > self._settings.sec_max:
            return Code.INVALID_ARGUMENT
        tape = self._tape(market)
        row = klines.status(tape.series, period, int(self._clock()))
        last = _price(tape.last_units, market)
        return f'{{"period": {period}, "last": "{last}", {_prices(row, market)}, {_sums(row, market)}}}'

    def _status_today(self, market: Market) -> Outcome:
        now, series = int(self._clock()), self._tape(market).series
        sums = _sums(klines.status(series, DAY_S, now), market)
        row = klines.today(series, self._board.calendar, now)
        opening, last, high, low = _four(row, market)
        return f'{{"open": "{opening}", "last": "{last}", "high": "{high}", "low": "{low}", {sums}}}'

    def _tickers(self, *markets: Market) -> Outcome:
        """Each market once, however often it is named: a request has room for 100,000 names."""
        now = int(self._clock())
        wanted = {market.index: market for market in markets or self._board.catalog.markets}.values()
        return f"[{', '.join([self._ticker(market, now) for market in wanted])}]"

    def _ticker(self, market: Market, now: int) -> str:
        tape = self._tape(market)
        row = klines.status(tape.series, DAY_S, now)
        last, change = _price(tape.last_units, market), stripped(_change(row), PERCENT_PREC)
        told = f'"name": {market.quoted}, "last": "{last}", {_prices(row, market)}, {_sums(row, market)}'
        return f'{{{told}, "change": "{change}"}}'

    def _tape(self, market: Market) -> Tape:
        return self._board.tape(market.index)


class DealTexts:
    """The newest deals of a market as text. It is made in chunks when it is wanted, and then kept."""

    def __init__(self, market: Market, ticks: Ticks) -> None:
        self._market = market
        self._ticks = ticks
        self._chunks: dict[int, str] = {}  # chunk n holds the deals n * CHUNK_COUNT + 1 .. (n + 1) * CHUNK_COUNT

    def newest(self, limit: int, last_id: int) -> Iterator[str]:
        """Pieces of text that commas join: at most `limit` deals with an id above `last_id`, newest first."""
        wanted = self._ticks.after(last_id)[-limit:]
        after = self._ticks.count
        begin = after - len(wanted)
        self._forget()
        while after > begin:
            chunk = (after - 1) // CHUNK_COUNT
            first = max(chunk * CHUNK_COUNT, begin)
            yield self._piece(chunk, wanted[first - begin : after - begin])
            after = first

    def _piece(self, chunk: int, ticks: Records) -> str:
        if len(ticks) < CHUNK_COUNT:
            return self._text(ticks)
        if chunk not in self._chunks:
            self._chunks[chunk] = self._text(ticks)
        return self._chunks[chunk]

    def _text(self, ticks: Records) -> str:
        return ", ".join([deal_text(self._market, *tick) for tick in reversed(ticks.tolist())])

    def _forget(self) -> None:
        """Drop the text of deals that are no longer kept."""
        oldest = (self._ticks.count - len(self._ticks.kept)) // CHUNK_COUNT
        for chunk in [chunk for chunk in self._chunks if chunk < oldest]:
            del self._chunks[chunk]


def _kline_row(row: Row, market: Market) -> str:
    opening, close, high, low = _four(row, market)
    volume, money = _volume_and_money(row, market)
    return f'[{row.start}, "{opening}", "{close}", "{high}", "{low}", "{volume}", "{money}", {market.quoted}]'


def _prices(row: Row | None, market: Market) -> str:
    opening, close, high, low = _four(row, market)
    return f'"open": "{opening}", "close": "{close}", "high": "{high}", "low": "{low}"'


def _sums(row: Row | None, market: Market) -> str:
    volume, money = _volume_and_money(row, market)
    return f'"volume": "{volume}", "deal": "{money}"'


def _four(row: Row | None, market: Market) -> tuple[str, str, str, str]:
    """Open, close, high and low; "0" where nothing was traded."""
    if row is None:
        return "0", "0", "0", "0"
    _, opening, close, high, low, *_ = row
    return _price(opening, market), _price(close, market), _price(high, market), _price(low, market)


def _volume_and_money(row: Row | None, market: Market) -> tuple[str, str]:
    if row is None or not row.volume_units:
        return "0", "0"
    money = stripped(row.money_units, market.deal_prec) if row.money_units else "0"  # an imported candle may have none
    return stripped(row.volume_units, market.stock_prec), money


def _price(units: int, market: Market) -> str:
    return stripped(units, market.money_prec) if units else "0"


def _change(row: Row | None) -> int:
    """From the first price to the last, in 10^-PERCENT_PREC percent, toward zero."""
    if row is None or not row.open_units:  # an imported candle of some builds opens at 0 (CONTRACT 4.2)
        return 0
    whole = 100 * 10**PERCENT_PREC
    gained: int = abs(row.close_units - row.open_units) * whole // row.open_units
    return gained if row.close_units >= row.open_units else -gained
