"""What `dump` gives, `restore` carries on from: the same commands then give the same bytes."""

import dataclasses
from itertools import islice

import numpy as np
import pytest

from bus.codes import Code
from bus.messages import Side
from engine.exchange import Exchange
from engine.schema import Capacity
from tests.engine.driver import SMALL, Driver, same_content
from tests.engine.flows import BLOB_SIZE, LISTING, START_S, random_flow
from tests.engine.test_twin import Batch, compare_state, funded, output, resolved
from tests.reference.records import limit, to_records, update

SNUG = Capacity(
    order_capacity=600,
    level_capacity=600,
    balance_capacity=64,
    user_market_capacity=32,
    update_capacity=500,
    market_capacity=len(LISTING.markets),
)


def halves(seed: int) -> tuple[list[Batch], list[Batch]]:
    """A flow, cut in the middle."""
    batches = resolved(random_flow(seed, steps=60, batch_max=8))
    return batches[:30], batches[30:]


@pytest.mark.parametrize("capacity", [SMALL, SNUG], ids=["the same room", "other room"])
@pytest.mark.parametrize("seed", range(3))
def test_a_restored_exchange_goes_on_as_if_nothing_had_been(seed: int, capacity: Capacity) -> None:
    before, after = halves(seed)
    exchange = Exchange(LISTING, SMALL)
    output(exchange, before, at_once_max=100)
    restored = Exchange.restore(LISTING, exchange.dump(), capacity)
    restored.audit()
    assert same_content(exchange, restored)
    assert output(exchange, after, at_once_max=100) == output(restored, after, at_once_max=100)
    assert same_content(exchange, restored)
    assert exchange.results_hash == restored.results_hash
    restored.audit()


def test_a_restored_exchange_looks_like_the_twin() -> None:
    batches = resolved(random_flow(3, steps=30, batch_max=8))
    twin, exchange = funded(), Exchange(LISTING, SMALL)
    output(exchange, batches, at_once_max=100)
    for commands, now in batches[1:]:
        twin.apply(commands, now, BLOB_SIZE)
    compare_state(twin, Driver(LISTING, exchange=Exchange.restore(LISTING, exchange.dump(), SMALL)))


def test_a_dump_is_a_copy() -> None:
    exchange = Exchange(LISTING, SMALL)
    before, _ = halves(1)
    output(exchange, before, at_once_max=100)
    content = exchange.dump()
    kept = {name: part.tobytes() for name, part in content.items()}
    output(exchange, [([update(1, 0, 5, 99), limit(1, 0, 1, 10**7, 10**12)], START_S + 10**7)], at_once_max=100)
    assert {name: part.tobytes() for name, part in content.items()} == kept


def test_a_repeated_update_is_still_a_repeat_after_a_restore() -> None:
    exchange = Exchange(LISTING, SMALL)
    deposit = to_records([update(1, 0, 5, 99)])
    exchange.apply(deposit, START_S)
    restored = Exchange.restore(LISTING, exchange.dump(), SMALL)
    assert restored.apply(deposit, START_S + 86_399).results["code"] == [Code.REPEAT_UPDATE]
    assert restored.apply(deposit, START_S + 86_400).results["code"] == [Code.OK]


ROOMS = ("order_capacity", "level_capacity", "balance_capacity", "user_market_capacity", "update_capacity")


@pytest.mark.parametrize("field", ROOMS)
def test_a_content_that_does_not_fit_is_refused_by_name(field: str) -> None:
    """Two of everything don't fit where there is room for one."""
    users = (1, 2)
    deposits = [update(user, 1, 10**9, 1) for user in users]
    orders = [limit(user, 0, Side.ASK, 10**7, user * 10**10) for user in users]
    exchange = Exchange(LISTING, SMALL)
    assert not exchange.apply(to_records(deposits + orders), START_S).results["code"].any()
    fitting = dataclasses.asdict(SMALL) | {"market_capacity": len(LISTING.markets)}
    with pytest.raises(ValueError, match=field):
        Exchange.restore(LISTING, exchange.dump(), Capacity(**fitting | {field: 1}))


def test_dumps_of_the_same_flow_are_equal_and_of_another_are_not() -> None:
    batches = resolved(random_flow(5, steps=20, batch_max=8))
    one, other, shorter = (Exchange(LISTING, SMALL) for _ in range(3))
    output(one, batches, at_once_max=100)
    output(other, batches, at_once_max=7)
    output(shorter, islice(batches, len(batches) - 3), at_once_max=100)
    assert same_content(one, other)
    assert not same_content(one, shorter)
    assert all(isinstance(part, np.ndarray) for part in one.dump().values())
