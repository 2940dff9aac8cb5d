"""Depth as it is pushed: all of it, then what differs (CONTRACT 5.5); for books, with checksums.

Pure: levels in whole units in, JSON text out.
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from bus.book import TOP_COUNT, checksum
from bus.catalog import Market
from bus.messages import LEVEL_VIEW, Records, struct_of
from bus.text import stripped, wide

_LEVEL_STRUCT = struct_of(LEVEL_VIEW)

Levels = dict[int, int]  # amount by price, in units, best first


class Sides(NamedTuple):
    """Both sides of a market, as far as they are shown."""

    asks: Levels
    bids: Levels


EMPTY = Sides({}, {})


def sides(records: Records, ask_count: int) -> Sides:
    """The sides that LEVEL_VIEW records tell, of which the first `ask_count` are asks."""
    levels = [(price, wide(low, high)) for price, low, high in _LEVEL_STRUCT.iter_unpack(records.tobytes())]
    return Sides(dict(levels[:ask_count]), dict(levels[ask_count:]))


def changed(before: Levels, after: Levels, limit: int, *, is_ascending: bool) -> list[tuple[int, int]]:
    """What depth.update tells of a side: what is new or other, and amount 0 for what is gone, in the order of the book.

    A level that better ones have pushed out of a full side is not mentioned: the client keeps the best `limit`.
    """
    found = [(price, amount) for price, amount in after.items() if before.get(price) != amount]
    gone = [price for price in before if price not in after]
    if gone and len(after) >= limit:
        last = next(reversed(after))
        gone = [price for price in gone if (price < last) == is_ascending]
    if not gone:
        return found
    return sorted([*found, *((price, 0) for price in gone)], reverse=not is_ascending)


def replaced(before: Levels, after: Levels) -> list[tuple[int, int]]:
    """What leads from one side to the other exactly; amount 0 is gone."""
    found = [(price, amount) for price, amount in after.items() if before.get(price) != amount]
    return found + [(price, 0) for price in before if price not in after]


def depth_update(market: Market, whole: Sides) -> str:
    """A depth.update that replaces everything."""
    text = f'{{"asks": {_side(whole.asks.items(), market)}, "bids": {_side(whole.bids.items(), market)}}}'
    return _depth_update(market, "true", text)


def depth_change(market: Market, before: Sides, after: Sides, limit: int) -> str | None:
    """A depth.update with what has changed, or None."""
    asks = changed(before.asks, after.asks, limit, is_ascending=True)
    bids = changed(before.bids, after.bids, limit, is_ascending=False)
    parts = [f'"{name}": {_side(side, market)}' for name, side in (("asks", asks), ("bids", bids)) if side]
    return _depth_update(market, "false", f"{{{', '.join(parts)}}}") if parts else None


def book_snapshot(market: Market, whole: Sides, sequence: int) -> str:
    """A book.update that replaces everything."""
    head = f'"type": "snapshot", "sequence": {sequence}'
    return _book_update(market, head, list(whole.asks.items()), list(whole.bids.items()), whole)


def book_delta(market: Market, before: Sides, after: Sides, sequence: int, previous_sequence: int) -> str | None:
    """A book.update with what has changed, or None."""
    asks, bids = replaced(before.asks, after.asks), replaced(before.bids, after.bids)
    if not asks and not bids:
        return None
    head = f'"type": "delta", "sequence": {sequence}, "previous_sequence": {previous_sequence}'
    return _book_update(market, head, asks, bids, after)


def _depth_update(market: Market, clean: str, text: str) -> str:
    return f'{{"method": "depth.update", "params": [{clean}, {text}, {market.quoted}], "id": null}}'


def _book_update(
    market: Market, head: str, asks: Sequence[tuple[int, int]], bids: Sequence[tuple[int, int]], whole: Sides
) -> str:
    tops = (_texts(list(side.items())[:TOP_COUNT], market) for side in whole)
    told = f'"asks": {_side(asks, market)}, "bids": {_side(bids, market)}, "checksum": {checksum(*tops)}'
    return f'{{"method": "book.update", "params": [{market.quoted}, {{{head}, {told}}}], "id": null}}'


def _texts(levels: Iterable[tuple[int, int]], market: Market) -> list[tuple[str, str]]:
    money_prec, stock_prec = market.money_prec, market.stock_prec
    return [(stripped(price, money_prec), stripped(amount, stock_prec) if amount else "0") for price, amount in levels]


def _side(levels: Iterable[tuple[int, int]], market: Market) -> str:
    pairs = [f'["{price}", "{amount}"]' for price, amount in _texts(levels, market)]
    return f"[{', '.join(pairs)}]"
