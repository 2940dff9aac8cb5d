"""What a link to a running exchange is to the player, and what both kinds of it need to know of a market."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from market.orderflow import Reply, Request

REPLY_TIMEOUT_S = 10.0  # without any reply for so long, the exchange is taken for gone
TAKER_RATE, MAKER_RATE = "0.002", "0.001"
SOURCE = "replay"


class LinkBroken(Exception):
    """The exchange can't be reached or answers nonsense: the text says which."""


@dataclass(frozen=True, kw_only=True)
class MarketView:
    """A market as the exchange lists it."""

    name: str
    index: int  # -1 over HTTP, where names travel
    stock: str
    money: str
    stock_prec: int  # decimals of an amount
    money_prec: int  # decimals of a price
    fee_prec: int
    shown_precs: dict[str, int]  # decimals of a deposit, by asset
    asset_indexes: dict[str, int]


class Link(Protocol):
    """Carries requests to the exchange and replies back. Requests of one `send` may be answered in any order."""

    @property
    def in_flight_count(self) -> int:
        """How many requests have no reply yet."""

    def market(self, name: str) -> MarketView:
        """The market of that name. Raises LinkBroken."""

    def room_count(self) -> int:
        """How many requests `send` takes now."""

    def send(self, requests: Sequence[Request]) -> None:
        """Send them on their way. Raises LinkBroken."""

    def replies(self, wait_s: float) -> list[Reply]:
        """The replies that have come, waiting at most so long for the first. Raises LinkBroken."""

    def close(self) -> None:
        """Let go of the sockets."""
