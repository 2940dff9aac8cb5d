"""Trades over the bus for those who watch them: each order makes one deal with an order that rests."""

import time

import numpy as np
from numpy.typing import NDArray

from bus.client import Client
from bus.codes import Code
from bus.endpoints import address
from bus.messages import COMMAND, CommandKind, Records, Side
from conf.settings import Settings
from supervisor.bench import orders, ws_frames

MAKER_ID, TAKER_ID = 1, 2
MARKETS = tuple(market.name for market in orders.LISTING.markets)
DEALS = ws_frames.request("deals.subscribe", *MARKETS)
RESTING_WHOLE = 10**8 // 4  # of stock; all of them cost less than there is money
REPLY_TIMEOUT_MS = 10_000


class Trades:
    """Makes deals."""

    def __init__(self, settings: Settings) -> None:
        self._client = Client(address(settings.bus.bind, settings.paths.sockets_dir, "commands"))
        self._number = 0

    def close(self) -> None:
        """Disconnect."""
        self._client.close()

    def open(self) -> None:
        """Make two users rich, and rest an ask in each market."""
        deposits = orders.funding(time.time_ns())
        self._send(deposits[np.isin(deposits["user_id"], (MAKER_ID, TAKER_ID))], orders.DETAIL)
        asks = _orders(MAKER_ID, Side.ASK, np.arange(len(MARKETS)))
        asks["amount_units"] = orders.LOT_UNITS * 100 * RESTING_WHOLE
        self._send(asks)

    def make(self, trade_count: int, market_count: int = len(MARKETS)) -> int:
        """Make so many deals with one frame, in the first markets in turn; the time.monotonic_ns of the reply."""
        numbers = np.arange(self._number, self._number + trade_count)
        self._number += trade_count
        results = self._send(_orders(TAKER_ID, Side.BID, numbers % market_count))
        replied_ns = time.monotonic_ns()
        assert not results["order"]["left_units"].any(), "each of the benchmark's orders must trade"
        return replied_ns

    def _send(self, commands: Records, blob: bytes = b"") -> Records:
        self._client.send(commands, blob)
        results = self._client.receive(REPLY_TIMEOUT_MS).records
        assert (results["code"] == Code.OK).all(), "the benchmark's own commands must be accepted"
        return results


def _orders(user_id: int, side: Side, markets: NDArray[np.int64]) -> Records:
    """An order in each of these markets, all at the same price."""
    commands = np.zeros(len(markets), COMMAND)
    commands["kind"] = CommandKind.PUT_LIMIT
    commands["market"] = markets
    commands["side"] = side
    commands["user_id"] = user_id
    commands["price_units"] = orders.MID_TICKS * orders.TICK_UNITS
    commands["amount_units"] = orders.LOT_UNITS
    commands["taker_rate_units"] = orders.TAKER_RATE_UNITS
    commands["maker_rate_units"] = orders.MAKER_RATE_UNITS
    return commands
