"""Assets and markets by name, with what a reply needs of them made ready.

A catalog is made from the ASSETS and MARKETS records of the matcher and never changes: when those do, a new one is
made. Ranks are places in the listing, indexes are what commands carry.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from bus import jsontext
from bus.client import Client, query
from bus.endpoints import COMMANDS_TIMEOUT_MS
from bus.messages import UPDATE_EVENT, EventKind, QueryKind, Records

Item = TypeVar("Item")


@dataclass(frozen=True, slots=True)
class Asset:
    """A currency: balances in 10^-prec_save, shown with prec_show decimals."""

    index: int
    name: str
    quoted: str
    prec_save: int
    prec_show: int
    hidden_power: int  # a balance divided by it is in 10^-prec_show


@dataclass(frozen=True, slots=True)
class Market:
    """A pair, and the decimals of everything that is said about its orders (CONTRACT 2.5)."""

    index: int
    name: str
    quoted: str
    stock: Asset
    money: Asset
    stock_prec: int
    money_prec: int
    fee_prec: int
    deal_prec: int
    ask_fee_prec: int
    bid_fee_prec: int
    rate_one_units: int  # a rate is less than it


@dataclass(frozen=True, slots=True)
class Catalog:
    """What is listed. `assets` and `markets` are in the order of the listing, the others by name or by index."""

    assets: tuple[Asset, ...]
    markets: tuple[Market, ...]
    asset_by_name: Mapping[str, Asset]
    market_by_name: Mapping[str, Market]
    asset_by_index: tuple[Asset, ...]
    market_by_index: tuple[Market, ...]


EMPTY = Catalog((), (), {}, {}, (), ())


class Listed:
    """The catalog of a consumer of events: asked of the matcher, again when an event names what it does not have."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._catalog = EMPTY

    def covering(self, events: Records) -> Catalog:
        """A catalog that has every asset and market of these events. Raises NoAnswer."""
        is_update = events["kind"] == EventKind.BALANCE_UPDATE
        asset_max = events[is_update].view(UPDATE_EVENT)["asset"].max(initial=-1)
        market_max = events["market"][~is_update].max(initial=-1)
        if asset_max >= len(self._catalog.assets) or market_max >= len(self._catalog.markets):
            return self.now()
        return self._catalog

    def now(self, timeout_ms: int = COMMANDS_TIMEOUT_MS) -> Catalog:
        """What is listed now. Raises NoAnswer."""
        self._catalog = ask(self._client, timeout_ms)
        return self._catalog


def ask(client: Client, timeout_ms: int = COMMANDS_TIMEOUT_MS) -> Catalog:
    """What the matcher has listed now. Raises NoAnswer when one of two questions has none in time."""
    assets, markets = (client.ask(query(kind), timeout_ms).records for kind in (QueryKind.ASSETS, QueryKind.MARKETS))
    return make(assets, markets)


def make(asset_records: Records, market_records: Records) -> Catalog:
    """A catalog of ASSET_VIEW and MARKET_VIEW records, which come by index."""
    assets = tuple(_asset(index, row) for index, row in enumerate(asset_records))
    markets = tuple(_market(index, row, assets) for index, row in enumerate(market_records))
    return Catalog(
        assets=_ranked(assets, asset_records),
        markets=_ranked(markets, market_records),
        asset_by_name={asset.name: asset for asset in assets},
        market_by_name={market.name: market for market in markets},
        asset_by_index=assets,
        market_by_index=markets,
    )


def _ranked(items: tuple[Item, ...], records: Records) -> tuple[Item, ...]:
    return tuple(items[index] for index in records["rank"].argsort(kind="stable"))


def _asset(index: int, row: Any) -> Asset:
    name = row["name"].decode()
    prec_save, prec_show = int(row["prec_save"]), int(row["prec_show"])
    return Asset(index, name, jsontext.quoted(name), prec_save, prec_show, 10 ** (prec_save - prec_show))


def _market(index: int, row: Any, assets: tuple[Asset, ...]) -> Market:
    name = row["name"].decode()
    stock_prec, money_prec, fee_prec = int(row["stock_prec"]), int(row["money_prec"]), int(row["fee_prec"])
    return Market(
        index=index,
        name=name,
        quoted=jsontext.quoted(name),
        stock=assets[row["stock"]],
        money=assets[row["money"]],
        stock_prec=stock_prec,
        money_prec=money_prec,
        fee_prec=fee_prec,
        deal_prec=stock_prec + money_prec,
        ask_fee_prec=stock_prec + money_prec + fee_prec,
        bid_fee_prec=stock_prec + fee_prec,
        rate_one_units=10**fee_prec,
    )
