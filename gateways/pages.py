"""The pages that GET serves: a table from a path to a function.

A page takes the query as it came, and gives a status and JSON.
"""

from collections.abc import Callable, Mapping
from typing import Any

import orjson

from conf.settings import Settings
from gateways import openrpc
from gateways.coingecko import CoinGecko
from gateways.link import Link
from gateways.marketdata import MarketData
from gateways.rpc import Reply
from gateways.state import State
from gateways.udf import Udf

Page = Callable[[str], Reply]


def pages(settings: Settings, state: State, market: Link, health: Callable[[], dict[str, Any]]) -> Mapping[str, Page]:
    """All pages; `market` is the link to market data, `health` says how the matcher is."""
    market_data = MarketData(market)

    def health_page(text: str) -> Reply:
        found = health()
        return (200 if found["matcher"] else 503), orjson.dumps(found)

    return {
        "/health": health_page,
        "/openrpc.json": lambda text: (200, openrpc.document()),
        **Udf(settings, state, market_data).pages,
        **CoinGecko(state, market_data).pages,
    }
