"""Assets and markets in the state: their rows, and the factors that turn one kind of unit into another.

Rows are never removed and never move: a command names an asset or market by its row. `rank` is its place in the
listing that clients see. What can't change while balances and orders are counted in it is refused.
"""

from bus.messages import UNITS_MAX
from conf.markets import TOTAL_DIGITS, Asset, Listing, Market, fee_excess, total_max_units
from engine.schema import Row, State
from engine.wide import load_row, store_row


def trouble(state: State, wanted: Listing) -> str | None:
    """Why the state can't take a listing, or None."""
    header = state.header[0]
    assets, markets = asset_rows(state), market_rows(state)
    for what, rows, items in (("asset", assets, wanted.assets), ("market", markets, wanted.markets)):
        if missing := [name for name in rows if name not in {item.name for item in items}]:
            return f"{what} {missing[0]} has a history in this exchange and can't be taken out of the markets file"
    if len(wanted.assets) > header["asset_capacity"] or len(wanted.markets) > header["market_capacity"]:
        return f"there is room for {header['asset_capacity']} assets and {header['market_capacity']} markets"
    for asset in wanted.assets:
        if asset.name in assets and (why := _asset_trouble(state.assets[assets[asset.name]], asset, wanted)):
            return why
    for market in wanted.markets:
        if market.name in markets and (why := _market_trouble(state, state.markets[markets[market.name]], market)):
            return why
    if len(wanted.markets) * 2 - 2 * len(markets) > len(state.levels) - 1 - int(header["levels_used"]):
        return "no price levels are left for another market: raise [matcher] level_capacity"
    return None


def _asset_trouble(row: Row, asset: Asset, wanted: Listing) -> str | None:
    for key in ("prec_save", "prec_show"):
        if row[key] != getattr(asset, key):
            return f"{key} of asset {asset.name} is {row[key]} and can't become {getattr(asset, key)}"
    held, most = load_row(row, "available_units") + load_row(row, "freeze_units"), total_max_units(wanted, asset)
    if held > most:
        return f"asset {asset.name} holds {held} units, more than the {most} that its markets' fees leave room for"
    return None


def _market_trouble(state: State, row: Row, market: Market) -> str | None:
    for key in ("stock_prec", "money_prec", "fee_prec"):
        if row[key] != getattr(market, key):
            return f"{key} of market {market.name} is {row[key]} and can't become {getattr(market, key)}"
    for key in ("stock", "money"):
        if (name := row_name(state.assets[row[key]])) != getattr(market, key):
            return f"{key} of market {market.name} is {name} and can't become {getattr(market, key)}"
    return None


def write(state: State, wanted: Listing) -> None:
    """Give every asset and market of a listing that `trouble` passed its row."""
    header = state.header[0]
    assets, markets = asset_rows(state), market_rows(state)
    by_name = {asset.name: asset for asset in wanted.assets}
    for rank, asset in enumerate(wanted.assets):
        number = assets.setdefault(asset.name, len(assets))
        _write_asset(state.assets[number], asset, rank, wanted)
    for rank, market in enumerate(wanted.markets):
        number = markets.setdefault(market.name, len(markets))
        row = state.markets[number]
        if row["ask_level"] == 0:
            row["ask_level"], row["bid_level"] = header["levels_used"] + 1, header["levels_used"] + 2
            header["levels_used"] += 2
        _write_market(row, market, rank, assets, by_name, wanted)
    header["asset_count"], header["market_count"] = len(assets), len(markets)
    header["listing_sequence"] += 1


def read(state: State) -> Listing:
    """The listing that the rows were written from."""
    header = state.header[0]
    assets = [
        (int(row["rank"]), Asset(name=row_name(row), prec_save=int(row["prec_save"]), prec_show=int(row["prec_show"])))
        for row in state.assets[: header["asset_count"]]
    ]
    markets = [
        (
            int(row["rank"]),
            Market(
                name=row_name(row),
                stock=row_name(state.assets[row["stock"]]),
                money=row_name(state.assets[row["money"]]),
                stock_prec=int(row["stock_prec"]),
                money_prec=int(row["money_prec"]),
                fee_prec=int(row["fee_prec"]),
                min_amount=_decimal_text(int(row["min_units"]), int(row["min_prec"])),
            ),
        )
        for row in state.markets[: header["market_count"]]
    ]
    return Listing(
        assets=tuple(asset for _, asset in sorted(assets, key=lambda pair: pair[0])),
        markets=tuple(market for _, market in sorted(markets, key=lambda pair: pair[0])),
    )


def _decimal_text(units: int, prec: int) -> str:
    digits = str(units).rjust(prec + 1, "0")
    return f"{digits[:-prec]}.{digits[-prec:]}" if prec else digits


def asset_rows(state: State) -> dict[str, int]:
    """Name -> row."""
    return {row_name(state.assets[number]): number for number in range(int(state.header[0]["asset_count"]))}


def market_rows(state: State) -> dict[str, int]:
    """Name -> row."""
    return {row_name(state.markets[number]): number for number in range(int(state.header[0]["market_count"]))}


def row_name(row: Row) -> str:
    """The name in an ASSET or MARKET row."""
    return bytes(row["name"][: row["name_size"]]).decode()


def _write_name(row: Row, name: str) -> None:
    encoded = name.encode()
    row["name"][:] = list(encoded.ljust(len(row["name"]), b"\0"))
    row["name_size"] = len(encoded)


def _write_asset(row: Row, asset: Asset, rank: int, wanted: Listing) -> None:
    row["lock"] += 1
    _write_name(row, asset.name)
    row["prec_save"], row["prec_show"], row["rank"] = asset.prec_save, asset.prec_show, rank
    show_scale = 10 ** (asset.prec_save - asset.prec_show)
    store_row(row, "show_scale", show_scale)
    store_row(row, "change_max_units", 10**TOTAL_DIGITS // show_scale)
    store_row(row, "total_max_units", total_max_units(wanted, asset))
    row["lock"] += 1


def _write_market(
    row: Row, market: Market, rank: int, numbers: dict[str, int], assets: dict[str, Asset], wanted: Listing
) -> None:
    stock, money = assets[market.stock], assets[market.money]
    sp, mp, fp = market.stock_prec, market.money_prec, market.fee_prec
    min_prec = max(market.min_prec, sp)
    stock_scale = 10 ** (stock.prec_save - sp)
    deal_scale = 10 ** (money.prec_save - sp - mp)
    spend_scale = 10 ** (money.prec_save - sp)
    row["lock"] += 1
    _write_name(row, market.name)
    row["stock"], row["money"] = numbers[market.stock], numbers[market.money]
    row["stock_prec"], row["money_prec"], row["fee_prec"], row["rank"] = sp, mp, fp, rank
    row["min_prec"], row["min_units"] = market.min_prec, market.min_units
    row["rate_end_units"] = 10**fp
    row["fee_divisor"] = 10 ** fee_excess(market, money)
    for field, value in {
        "stock_scale": stock_scale,
        "deal_scale": deal_scale,
        "spend_scale": spend_scale,
        "money_scale": 10**mp,
        "bid_fee_scale": 10 ** (stock.prec_save - sp - fp),
        "ask_fee_scale": 10 ** max(0, money.prec_save - sp - mp - fp),
        "min_amount_scale": 10 ** (min_prec - sp),
        "min_limit_units": market.min_units * 10 ** (min_prec - market.min_prec),
        "min_spend_scale": 10 ** (mp + min_prec - sp),
        "amount_max_units": min(total_max_units(wanted, stock) // stock_scale, UNITS_MAX),
        "deal_max_units": total_max_units(wanted, money) // deal_scale,
        "spend_max_units": min(total_max_units(wanted, money) // spend_scale, UNITS_MAX),
        "cost_max_units": 10**TOTAL_DIGITS // 10**fp,
    }.items():
        store_row(row, field, value)
    row["lock"] += 1
