"""What can be subscribed to: a topic is one channel of one market or asset, with its own parameters."""

from enum import StrEnum
from typing import NamedTuple


class Channel(StrEnum):
    """A kind of notification; its messages are called NAME.update."""

    KLINE = "kline"
    PRICE = "price"
    STATE = "state"
    TODAY = "today"
    DEALS = "deals"
    DEPTH = "depth"
    BOOK = "book"
    ORDER = "order"
    ASSET = "asset"


PRIVATE = frozenset({Channel.ORDER, Channel.ASSET})  # one's own: only after server.auth or server.sign
CONFLATED = frozenset(Channel) - PRIVATE - {Channel.DEALS}  # the newest message tells all: older ones can be left out


class Topic(NamedTuple):
    """Sessions that name the same topic get the same messages."""

    channel: Channel
    name: str  # of the market; of the asset on Channel.ASSET
    limit: int = 0  # depth and book: levels a side
    interval: str = ""  # depth: what prices are merged to, as it was written; kline: seconds
