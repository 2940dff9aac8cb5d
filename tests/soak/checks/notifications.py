"""What WebSocket clients were told against what follows from the journal."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any

from tests.soak.checks.digests import SIZE, Chain
from tests.soak.checks.finding import Finding, finding
from tests.soak.load.ws import Deals, Owner
from tests.soak.wanted.own import Numbered


def check_own(
    owners: Sequence[Owner], wanted: Mapping[int, Sequence[Numbered]], balances: Mapping[int, Any]
) -> Finding:
    """Each event of a user's orders since he came was told once, in order; his balances as told last are the last."""
    told = sum(len(owner.orders) for owner in owners)
    connections = sum(owner.connection_count for owner in owners)
    return finding(
        "own orders and balances",
        f"{told:,} events of orders told to {len(owners)} users over {connections} connections",
        [fault for owner in owners for fault in _faults_of(owner, wanted[owner.user_id], balances[owner.user_id])],
    )


def _faults_of(owner: Owner, wanted: Sequence[Numbered], balances: Any) -> Iterator[str]:
    if owner.first_number is None:
        yield f"user {owner.user_id} has never been told anything"
        return
    mine = [each for each in wanted if each[0] > owner.first_number]
    if owner.orders != mine:
        numbers, told = [number for number, _ in mine], [number for number, _ in owner.orders]
        missing, more = set(numbers) - set(told), set(told) - set(numbers)
        doubled = len(told) - len(set(told))
        disorder = sum(one > other for one, other in pairwise(told))
        yield (
            f"user {owner.user_id} was told {len(told):,} of {len(numbers):,} events: {len(missing):,} missing "
            f"{sorted(missing)[:3]}, {len(more):,} that are none of his, {doubled:,} doubled, {disorder:,} out of order"
        )
    for asset, held in owner.balances.items():
        if held != balances[asset]:
            yield f"user {owner.user_id} was told in the end {held} {asset}, he has {balances[asset]}"
    yield from owner.wrong


def check_deals(
    connections: Iterable[Mapping[str, Deals]], ids: Mapping[str, Sequence[int]], digests: Mapping[str, Chain]
) -> Finding:
    """On each connection a market's deals come once, in order, without a gap, as they were."""
    told = [(name, deals) for connection in connections for name, deals in connection.items()]
    places = {name: {deal_id: place for place, deal_id in enumerate(of_market)} for name, of_market in ids.items()}
    total = sum(len(deals.ids) for _, deals in told)
    return finding(
        "deals told",
        f"{total:,} over {len(told)} subscriptions",
        (fault for name, deals in told if (fault := _run_fault(name, deals, places, digests))),
    )


def _run_fault(name: str, deals: Deals, places: Mapping[str, Mapping[int, int]], digests: Mapping[str, Chain]) -> str:
    if not deals.ids:
        return ""
    first = places.get(name, {}).get(deals.ids[0])
    if first is None:
        return f"{name}: deal {deals.ids[0]} was told, and there is none"
    if digests[name][first * SIZE : first * SIZE + len(deals.digests)] != deals.digests:
        return f"{name}: {len(deals.ids):,} deals from {deals.ids[0]} on are not those that were made"
    return ""


def check_public(
    wrong: Sequence[str], prices: Mapping[str, str], last: Mapping[str, str], books: Sequence[str]
) -> Finding:
    """The last price told is the last price, and the books that were followed are the books."""
    faults = [
        f"{name}: told {prices.get(name)} last, it is {price}"
        for name, price in last.items()
        if prices.get(name) != price
    ]
    return finding("prices and books told", f"{len(prices)} prices, {len(books)} books", [*wrong, *faults])
