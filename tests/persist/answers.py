"""All questions that a reader of the history may be asked, and that two readers answer them alike."""

from collections.abc import Sequence
from itertools import product

from bus.messages import Frame
from persist.store import Deal, Page, Reader, Times
from tests.engine.flows import LISTING, START_S, USERS

EVERYTHING = Page(0, 1 << 60)
ALWAYS = Times(0, 0)
STRANGER = 4  # has no rows
USERS_ASKED = (*USERS, STRANGER, 0, -1, 2**63 - 1)
ASSETS = tuple(asset.name for asset in LISTING.assets)
MARKETS = tuple(market.name for market in LISTING.markets)
UNKNOWN = ("NONE", "btc", "BTC'", "\0")


def times_of(frames: list[Frame]) -> list[Times]:
    """Between the first event and the last, before, after and inside out."""
    first, last = int(START_S), int(frames[-1].time) + 1
    middle = (first + last) // 2
    pairs = [(0, 0), (first, 0), (0, first), (middle, 0), (0, middle), (middle, middle + 60), (middle, last), (last, 0)]
    return [Times(*pair) for pair in [*pairs, (last, first), (1, 2**63 - 1), (-5, -1), (2**63 - 1, 0)]]


def same(found: object, due: object) -> None:
    """Equal, with as many decimals of each number."""
    assert repr(found) == repr(due)


def without_market(deal: Deal) -> Deal:
    """As a row of deal_history says it."""
    return deal._replace(market="", side=0)


def compare(reader: Reader, plain: Reader, times: Sequence[Times] = (ALWAYS,)) -> None:
    """All questions, each for all there is."""
    for user, asset, business, when in product(USERS_ASKED, ("", *ASSETS, *UNKNOWN), ("", "trade", "deposit"), times):
        same(*(each.changes(user, asset, business, when, EVERYTHING) for each in (reader, plain)))
    for user, market, side, when in product(USERS_ASKED, ("", *MARKETS, *UNKNOWN), (0, 1, 2), times):
        same(*(each.orders(user, market, side, when, EVERYTHING) for each in (reader, plain)))
    for user, market in product(USERS_ASKED, ("", *MARKETS, *UNKNOWN)):
        same(*(each.deals_of_user(user, market, EVERYTHING) for each in (reader, plain)))
    for order_id in (-1, 0, *range(1, 300), 2**63 - 1):
        same(reader.order(order_id), plain.order(order_id))
        found = reader.deals_of_order(order_id, EVERYTHING)
        same([without_market(deal) for deal in found], plain.deals_of_order(order_id, EVERYTHING))
        assert all(deal in reader.deals_of_user(deal.user_id, deal.market, EVERYTHING) for deal in found)


def compare_exports(reader: Reader, plain: Reader, times: Sequence[Times] = (ALWAYS,)) -> None:
    """Everything that can be exported."""
    for user, market, when in product(USERS_ASKED, ("", *MARKETS, *UNKNOWN), times):
        same(*(list(each.all_orders(user, market, when)) for each in (reader, plain)))
        same(*(list(each.all_deals(user, market, when)) for each in (reader, plain)))
    for user, asset, when in product(USERS_ASKED, ("", *ASSETS, *UNKNOWN), times):
        found = list(reader.all_changes(user, asset, when))
        assert [change.time for change in found] == sorted(change.time for change in found)
        found.sort(key=lambda change: change.user_id)
        same(found, list(plain.all_changes(user, asset, when)))
