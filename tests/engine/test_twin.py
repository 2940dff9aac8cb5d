"""The engine and the naive exchange play the same flows and have to agree on everything after every step."""

from collections.abc import Iterable
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bus.codes import Code
from bus.messages import UNITS_MAX, Side
from conf.markets import total_max_units
from engine import audit
from engine import exchange as exchange_module
from engine.exchange import Exchange
from engine.schema import Capacity
from tests.engine.driver import SMALL, Driver, same_content
from tests.engine.flows import BLOB_SIZE, HABITS, LISTING, START_S, USERS, Step, flows, funding, random_flow, to_command
from tests.reference.exchange import Twin
from tests.reference.records import Command, cancel, limit, market_order, to_records, update

PAGE_MAX = 101
TIGHT = Capacity(
    order_capacity=9,
    level_capacity=7,
    balance_capacity=31,
    user_market_capacity=8,
    update_capacity=45,
    market_capacity=len(LISTING.markets),
)

Batch = tuple[list[Command], float]


def funded() -> Twin:
    """A twin whose users have money."""
    twin = Twin(LISTING)
    twin.apply(funding(), START_S)
    return twin


def commands_of(steps: Iterable[Step], twin: Twin) -> Iterable[Batch]:
    """The batches that a flow comes to; whoever takes one applies it to the twin before he takes the next."""
    now, number = START_S, 0
    for step in steps:
        now += step.wait_s
        commands = []
        for intent in step.intents:
            number += 1
            commands.append(to_command(intent, twin, number))
        yield commands, now


def compare_state(twin: Twin, driver: Driver) -> None:
    """Balances, books, depths and summaries are the same on both sides, and the engine's audit holds."""
    exchange = driver.exchange
    assert (exchange.sequence, exchange.event_number) == (twin.sequence, twin.event_number)
    assert (exchange.order_id, exchange.deal_id, exchange.time) == (twin.order_id, twin.deal_id, twin.time)
    assert driver.asset_summaries() == twin.asset_summaries()
    assert driver.market_summaries() == twin.market_summaries()
    for user_id in (0, *USERS):
        assert driver.balances(user_id) == twin.balances(user_id)
    for market in range(len(LISTING.markets)):
        compare_market(twin, driver, market)
    exchange.audit()


def compare_market(twin: Twin, driver: Driver, market: int) -> None:
    """Books, depths and pending orders of one market, whole and in pages."""
    for side in (Side.ASK, Side.BID):
        for offset, count in ((0, PAGE_MAX), (1, 2), (5, 3), (-1, 5), (1000, 5)):
            assert driver.book(market, side, offset, count) == twin.book(market, side, offset, count)
    tick = HABITS[market].tick_units
    for count, interval in ((PAGE_MAX, 0), (2, 0), (0, 0), (PAGE_MAX, 3 * tick), (1, 2 * tick), (5, 2**63 - 1)):
        assert driver.depth(market, count, interval) == twin.depth(market, count, interval)
    for user_id in USERS:
        for offset, count in ((0, PAGE_MAX), (1, 2), (-1, 1)):
            expected = twin.pending(market, user_id, offset, count)
            assert driver.pending(market, user_id, offset, count) == expected
    for order_id in (0, -1, twin.order_id, twin.order_id // 2, 2**62):
        assert driver.pending_detail(market, order_id) == twin.pending_detail(market, order_id)


def play_both(steps: Iterable[Step]) -> None:
    """Play a flow to both sides and compare after every batch."""
    twin, driver = funded(), Driver(LISTING)
    driver.apply(funding(), START_S)
    for commands, now in commands_of(steps, twin):
        expected = twin.apply(commands, now, BLOB_SIZE)
        got = driver.apply(commands, now, BLOB_SIZE)
        for result, wanted, command in zip(got.results, expected.results, commands, strict=True):
            assert result == wanted, command
        for event, due in zip(got.events, expected.events, strict=False):
            assert event == due
        assert len(got.events) == len(expected.events)
        compare_state(twin, driver)
    audit.check_events(driver.exchange.state, driver.events)


@given(flows())
def test_both_say_the_same(steps: list[Step]) -> None:
    play_both(steps)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("markets", [1, 3, len(HABITS)])
def test_both_say_the_same_for_long(seed: int, markets: int) -> None:
    play_both(random_flow(seed, steps=40, batch_max=12, markets=markets))


@pytest.mark.parametrize("seed", range(2))
def test_both_agree_on_a_book_of_many_prices(seed: int) -> None:
    """Orders at a thousand prices in no order, half of them cancelled in another."""
    pick = Random(seed).randrange
    twin, driver = Twin(LISTING), Driver(LISTING)
    deposits = [update(USERS[0], asset, 10**20, 1) for asset in (0, 1)]
    puts = []
    for _ in range(1500):
        side = (Side.ASK, Side.BID)[pick(2)]
        price = 10**11 + (1 + pick(500)) * (1 if side == Side.ASK else -1)
        puts.append(limit(USERS[0], 0, side, 10**6 + pick(1000), price))
    order_ids = list(range(1, len(puts) + 1))
    Random(seed).shuffle(order_ids)
    cancels = [cancel(USERS[0], 0, order_id) for order_id in order_ids[::2]]
    crossing = [limit(USERS[0], 0, Side.BID, 10**8, 10**12), market_order(USERS[0], 0, Side.ASK, 10**8)]
    for commands in (deposits, puts, cancels, crossing):
        assert driver.apply(commands, START_S) == twin.apply(commands, START_S)
        compare_state(twin, driver)
    assert twin.deal_id > 50


MAGNITUDES = st.builds(lambda digits, lead: lead * 10**digits, st.integers(0, 18), st.integers(1, 9))


@st.composite
def giants(draw: st.DrawFn) -> list[Command]:
    """Limit and market orders whose numbers have any number of digits, by users who own nearly all there may be."""
    commands = []
    for _ in range(draw(st.integers(2, 12))):
        market = draw(st.integers(0, len(LISTING.markets) - 1))
        end = int(10 ** LISTING.markets[market].fee_prec)
        user, side = draw(st.sampled_from(USERS[:2])), draw(st.sampled_from((Side.ASK, Side.BID)))
        amount, price = (min(UNITS_MAX, draw(MAGNITUDES)) for _ in range(2))
        taker_rate, maker_rate = (draw(st.sampled_from((0, end // 7, end - 1))) for _ in range(2))
        if draw(st.booleans()):
            commands.append(limit(user, market, side, amount, price, taker_rate, maker_rate))
        else:
            commands.append(market_order(user, market, side, amount, taker_rate))
    return commands


@given(giants())
def test_both_agree_on_numbers_of_any_size(commands: list[Command]) -> None:
    twin, driver = Twin(LISTING), Driver(LISTING)
    deposits = []
    for user in USERS[:2]:
        for index, asset in enumerate(LISTING.assets):
            most_shown = total_max_units(LISTING, asset) // 10 ** (asset.prec_save - asset.prec_show)
            deposits.append(update(user, index, most_shown // 2, 1))
    assert {result["code"] for result in driver.apply(deposits, START_S).results} == {Code.OK}
    twin.apply(deposits, START_S)
    for command in commands:
        assert driver.apply([command], START_S) == twin.apply([command], START_S)
    compare_state(twin, driver)
    audit.check_events(driver.exchange.state, driver.events)


def resolved(steps: Iterable[Step]) -> list[Batch]:
    """A flow's batches, to be played several times."""
    twin = funded()
    batches: list[Batch] = [(funding(), START_S)]
    for commands, now in commands_of(steps, twin):
        twin.apply(commands, now, BLOB_SIZE)
        batches.append((commands, now))
    return batches


def output(exchange: Exchange, batches: Iterable[Batch], *, at_once_max: int) -> bytes:
    """Every result and then every event, as bytes, when at most so many commands are applied at once."""
    results, events = [], []
    for commands, now in batches:
        records = to_records(commands)
        while len(records):
            applied = exchange.apply(records[:at_once_max], now, blob_size=BLOB_SIZE)
            results.append(applied.results.tobytes())
            events.append(applied.events.tobytes())
            records = records[applied.done :]
    return b"".join(results + events)


@pytest.mark.parametrize("seed", range(3))
def test_how_commands_are_split_into_batches_changes_no_byte(seed: int) -> None:
    batches = resolved(random_flow(seed, steps=12, batch_max=30))
    whole, single = Exchange(LISTING, SMALL), Exchange(LISTING, SMALL)
    assert output(whole, batches, at_once_max=1000) == output(single, batches, at_once_max=1)
    assert same_content(whole, single)
    assert whole.results_hash == single.results_hash != 0


def test_the_shape_of_the_skip_lists_changes_no_byte() -> None:
    batches = resolved(random_flow(11, steps=20, batch_max=20))
    one, other = Exchange(LISTING, SMALL, seed=1), Exchange(LISTING, SMALL, seed=2**62 + 1)
    assert output(one, batches, at_once_max=1000) == output(other, batches, at_once_max=1000)


@pytest.mark.parametrize("events_min", [1, 2, 3, 7])
def test_a_small_event_buffer_changes_no_byte(events_min: int, monkeypatch: pytest.MonkeyPatch) -> None:
    batches = resolved(random_flow(7, steps=8, batch_max=30))
    roomy = Exchange(LISTING, SMALL)
    monkeypatch.setattr(exchange_module, "EVENTS_MIN", events_min)
    narrow = Exchange(LISTING, SMALL)
    assert output(roomy, batches, at_once_max=1000) == output(narrow, batches, at_once_max=1000)
    assert same_content(roomy, narrow)


@pytest.mark.parametrize("seed", range(4))
def test_a_full_table_refuses_last_and_leaves_no_trace(seed: int) -> None:
    """With hardly any room: a command refused for want of it would else have been done, and changed nothing."""
    twin, driver = funded(), Driver(LISTING, TIGHT)
    driver.apply(funding(), START_S)
    refused = done = 0
    for commands, now in commands_of(random_flow(seed, steps=120, batch_max=3, markets=4), twin):
        for command in commands:
            twin.apply([], now, BLOB_SIZE)
            driver.apply([], now)
            before = driver.exchange.dump()
            [result] = driver.apply([command], now, BLOB_SIZE).results
            if result["code"] == Code.SERVICE_UNAVAILABLE:
                refused += 1
                assert twin.check(command) == Code.OK
                assert {name: part.tobytes() for name, part in driver.exchange.dump().items()} == {
                    name: part.tobytes() for name, part in before.items()
                }
            else:
                done += result["code"] == Code.OK
                assert [result] == twin.apply([command], now, BLOB_SIZE).results
        compare_state(twin, driver)
    assert refused > 20
    assert done > 20
