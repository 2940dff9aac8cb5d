"""Assets and markets: read from ViaBTC's JSON form or the same in TOML, and checked.

    {"assets": [{"name": "BTC", "prec_save": 20, "prec_show": 8}, ...],
     "markets": [{"name": "BTCUSD", "stock": {"name": "BTC", "prec": 8}, "money": {"name": "USD", "prec": 8},
                  "fee_prec": 4, "min_amount": "0.001"}, ...]}

Unknown keys are ignored, so that an operator's matchengine configuration is taken as it is (CONTRACT 9.4). The
checks are those of CONTRACT 2.1, and that every number the engine can meet fits 128 bits (`total_max_units`).
"""

import json
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

NAME_SIZE_MAX = 15  # bytes (CONTRACT 2.1)
PREC_MAX = 18  # decimals of a price, an amount, a rate
PREC_SAVE_MAX = 30
TOTAL_DIGITS = 37  # all balances of an asset together stay below 10**37 of its units: sums of two fit 127 bits
EXCESS_MAX = 18  # decimals that a fee may have beyond its balance
_PLAIN_NUMBER = re.compile(r"(\d+)(?:\.(\d*))?", re.ASCII)


class BadMarkets(ValueError):
    """The assets or markets can't be used: the text says which and why."""


@dataclass(frozen=True, kw_only=True)
class Asset:
    """A currency: balances are kept with `prec_save` decimals and shown with `prec_show`."""

    name: str
    prec_save: int
    prec_show: int


@dataclass(frozen=True, kw_only=True)
class Market:
    """A pair: `stock` is traded for `money`."""

    name: str
    stock: str
    money: str
    stock_prec: int
    money_prec: int
    fee_prec: int = 4
    min_amount: str = "0.01"

    @property
    def min_units(self) -> int:
        """The smallest amount in 10^-min_prec of stock."""
        return int(self.min_amount.replace(".", ""))

    @property
    def min_prec(self) -> int:
        """The decimals of `min_amount` as it was written, which is how it is shown."""
        return len(self.min_amount.partition(".")[2])


@dataclass(frozen=True, kw_only=True)
class Listing:
    """All assets and markets of an exchange, in the order in which clients see them."""

    assets: tuple[Asset, ...]
    markets: tuple[Market, ...]

    def to_json(self) -> str:
        """The listing in ViaBTC's form; `parse` reads it back."""
        assets = [{"name": a.name, "prec_save": a.prec_save, "prec_show": a.prec_show} for a in self.assets]
        markets = [
            {
                "name": m.name,
                "stock": {"name": m.stock, "prec": m.stock_prec},
                "money": {"name": m.money, "prec": m.money_prec},
                "fee_prec": m.fee_prec,
                "min_amount": m.min_amount,
            }
            for m in self.markets
        ]
        return json.dumps({"assets": assets, "markets": markets})


def fee_excess(market: Market, money: Asset) -> int:
    """How many decimals an ask fee has beyond the money balance it is taken from (CONTRACT 10.3 E5)."""
    return max(0, market.stock_prec + market.money_prec + market.fee_prec - money.prec_save)


def total_max_units(listing: Listing, asset: Asset) -> int:
    """What all balances of `asset` together may reach, so that no product or sum of a deal leaves 128 bits."""
    excess = max((fee_excess(m, asset) for m in listing.markets if m.money == asset.name), default=0)
    return int(10 ** (TOTAL_DIGITS - excess))


def load(path: Path) -> Listing:
    """Read a listing from a .json or .toml file. Raises BadMarkets, OSError."""
    text = path.read_text(encoding="utf-8")
    try:
        document = tomllib.loads(text) if path.suffix == ".toml" else json.loads(text)
    except ValueError as error:
        raise BadMarkets(f"{path}: {error}") from None
    try:
        return parse(document)
    except BadMarkets as error:
        raise BadMarkets(f"{path}: {error}") from None


def parse(document: object) -> Listing:
    """Check a decoded document and make a listing of it. Raises BadMarkets."""
    if not isinstance(document, Mapping):
        raise BadMarkets("an object with the keys 'assets' and 'markets' is needed")
    assets = tuple(_asset(row, where) for row, where in _rows(document, "assets"))
    markets = tuple(_market(row, where) for row, where in _rows(document, "markets"))
    _refuse_doubles("asset", [asset.name for asset in assets])
    _refuse_doubles("market", [market.name for market in markets])
    by_name = {asset.name: asset for asset in assets}
    for market in markets:
        _check_precisions(market, by_name)
    return Listing(assets=assets, markets=markets)


def _asset(row: Mapping[str, Any], where: str) -> Asset:
    prec_save = _integer(row, "prec_save", where, 0, PREC_SAVE_MAX)
    return Asset(
        name=_name(row, where),
        prec_save=prec_save,
        prec_show=_integer(row, "prec_show", where, 0, prec_save, default=prec_save),
    )


def _market(row: Mapping[str, Any], where: str) -> Market:
    stock, money = (_item(row.get(side), f"{where}.{side}") for side in ("stock", "money"))
    min_amount = row.get("min_amount", "0.01")
    if not isinstance(min_amount, str) or not (match := _PLAIN_NUMBER.fullmatch(min_amount)):
        raise BadMarkets(f'{where}.min_amount: a decimal number in quotes is needed, like "0.01", not {min_amount!r}')
    if len((match[2] or "").rstrip(".")) > PREC_MAX or len(match[1]) > PREC_MAX:
        raise BadMarkets(f"{where}.min_amount: {min_amount} has more than {PREC_MAX} digits on a side of the point")
    return Market(
        name=_name(row, where),
        stock=_name(stock, f"{where}.stock"),
        money=_name(money, f"{where}.money"),
        stock_prec=_integer(stock, "prec", f"{where}.stock", 0, PREC_MAX),
        money_prec=_integer(money, "prec", f"{where}.money", 0, PREC_MAX),
        fee_prec=_integer(row, "fee_prec", where, 0, PREC_MAX, default=4),
        min_amount=f"{int(match[1])}.{match[2]}" if match[2] else str(int(match[1])),
    )


def _check_precisions(market: Market, assets: Mapping[str, Asset]) -> None:
    where = f"market {market.name}:"
    for name in (market.stock, market.money):
        if name not in assets:
            raise BadMarkets(f"{where} its asset {name} is not among the assets")
    if market.stock == market.money:
        raise BadMarkets(f"{where} stock and money are both {market.stock}")
    stock, money = assets[market.stock], assets[market.money]
    for what, need, asset in (
        ("stock prec + money prec", market.stock_prec + market.money_prec, money),
        ("stock prec + fee_prec", market.stock_prec + market.fee_prec, stock),
        ("money prec + fee_prec", market.money_prec + market.fee_prec, money),
    ):
        if need > asset.prec_save:
            raise BadMarkets(f"{where} {what} is {need}, more than prec_save {asset.prec_save} of {asset.name}")
    if (excess := fee_excess(market, money)) > EXCESS_MAX:
        raise BadMarkets(
            f"{where} its fees have {excess} decimals more than {money.name} keeps, {EXCESS_MAX} is the most"
        )
    if market.min_units * 10 ** max(market.stock_prec - market.min_prec, 0) >= 10**PREC_MAX:
        raise BadMarkets(
            f"{where} min_amount {market.min_amount} has too many digits beside stock prec {market.stock_prec}"
        )
    if market.money_prec + max(market.min_prec - market.stock_prec, 0) > PREC_MAX + 2:
        raise BadMarkets(
            f"{where} min_amount {market.min_amount} has too many decimals beside money prec {market.money_prec}"
        )


def _rows(document: Mapping[str, Any], key: str) -> list[tuple[Mapping[str, Any], str]]:
    """The rows of a list, each with its name for errors."""
    rows = document.get(key)
    if not isinstance(rows, list) or not rows:
        raise BadMarkets(f"'{key}': a list with at least one entry is needed")
    return [(_item(row, f"{key}[{place}]"), f"{key}[{place}]") for place, row in enumerate(rows)]


def _item(row: object, where: str) -> Mapping[str, Any]:
    if not isinstance(row, Mapping):
        raise BadMarkets(f"{where}: an object is needed, not {row!r}")
    return row


def _name(row: Mapping[str, Any], where: str) -> str:
    name = row.get("name")
    if not isinstance(name, str) or not 1 <= len(name.encode()) <= NAME_SIZE_MAX or not name.isprintable():
        raise BadMarkets(f"{where}.name: 1 to {NAME_SIZE_MAX} printable bytes are needed, not {name!r}")
    return name


def _integer(row: Mapping[str, Any], key: str, where: str, least: int, most: int, default: int | None = None) -> int:
    value = row.get(key, default)
    if type(value) is not int or not least <= value <= most:
        raise BadMarkets(f"{where}.{key}: an integer from {least} to {most} is needed, not {value!r}")
    return value


def _refuse_doubles(what: str, names: list[str]) -> None:
    for name in names:
        if names.count(name) > 1:
            raise BadMarkets(f"{what} {name} is there {names.count(name)} times")
