"""Bad arguments, numbers at the edges and full tables: a code, and nothing changed."""

import dataclasses
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bus.codes import Code
from bus.messages import FRAME_RECORDS_MAX, TEXT_MAX, UNITS_MAX, USER_MAX, CommandKind, QueryKind, Side
from conf.markets import TOTAL_DIGITS, BadMarkets, Listing, Market, parse, total_max_units
from engine.exchange import EVENTS_MIN, Exchange
from engine.schema import Capacity
from tests.engine.driver import SMALL, Driver, same_content
from tests.engine.flows import BLOB_SIZE, HOSTILE_VALUES, LISTING, START_S
from tests.engine.test_twin import compare_state
from tests.reference.book import NO_ORDER
from tests.reference.exchange import Twin
from tests.reference.records import Command, cancel, limit, market_order, to_records, update

BTCUSD, ETHUSD = 0, 1
USD, BTC, ETH = 0, 1, 2
USER = 7

GOOD = {
    "limit": limit(USER, BTCUSD, Side.BID, 10**7, 10**12, 20, 10),
    "market": market_order(USER, BTCUSD, Side.BID, 10**12, 20),
    "cancel": cancel(USER, BTCUSD, 1),
    "update": update(USER, BTC, 5, 1, detail_offset=8, detail_size=BLOB_SIZE - 8),
}

# What none of a kind's commands may hold, whatever the state. 10^fee_prec is 10^4 in BTCUSD.
BAD: dict[str, dict[str, tuple[object, ...]]] = {
    "limit": {
        "kind": (0, -1, 127, -128, CommandKind.CONFIGURE, 6),
        "user_id": (-1, USER_MAX + 1, USER_MAX + 1 + USER, 2**63 - 1, -(2**63)),
        "market": (-1, len(LISTING.markets), 2**31 - 1, -(2**31)),
        "side": (0, 3, -1, 127, -128),
        "amount_units": (0, -1, UNITS_MAX + 1, 2**63 - 1, -(2**63)),
        "price_units": (0, -1, UNITS_MAX + 1, 2**63 - 1, -(2**63)),
        "taker_rate_units": (-1, 10**4, 2**63 - 1, -(2**63)),
        "maker_rate_units": (-1, 10**4, 2**63 - 1, -(2**63)),
        "text_size": (-1, 31, 32, 33, 127, -128),
    },
    "market": {
        "user_id": (-1, USER_MAX + 1, 2**63 - 1, -(2**63)),
        "market": (-1, len(LISTING.markets), 2**31 - 1, -(2**31)),
        "side": (0, 3, -1, 127, -128),
        "amount_units": (0, -1, UNITS_MAX + 1, 2**63 - 1, -(2**63)),
        "taker_rate_units": (-1, 10**4, 2**63 - 1, -(2**63)),
        "text_size": (-1, 31, 32, 33, 127, -128),
    },
    "cancel": {
        "user_id": (-1, USER_MAX + 1, 2**63 - 1, -(2**63)),
        "market": (-1, len(LISTING.markets), 2**31 - 1, -(2**31)),
    },
    "update": {
        "user_id": (-1, USER_MAX + 1, 2**63 - 1, -(2**63)),
        "asset": (-1, len(LISTING.assets), 2**31 - 1, -(2**31)),
        "text_size": (-1, 31, 32, 33, 127, -128),
        "detail_offset": (-1, 9, BLOB_SIZE + 1, 2**31 - 1, -(2**31)),
        "detail_size": (-1, BLOB_SIZE - 7, 2**31 - 1, -(2**31)),
        "change_units": (10**25 + 1, -(10**25) - 1, 10**37, 2**127 - 1, -(2**127), 2**64 * 10**6),
    },
}
BAD_CASES = [(kind, field, value) for kind, table in BAD.items() for field, values in table.items() for value in values]
BAD_TEXTS = [text for text in HOSTILE_VALUES["text"] if b"\0" in text or text.decode(errors="replace").encode() != text]


def started() -> Driver:
    """An exchange in which every good command would be done."""
    driver = Driver(LISTING)
    seller = USER + 1
    deposits = [update(USER, USD, 10**16, 1), update(USER, BTC, 10**10, 2), update(seller, BTC, 10**10, 3)]
    orders = [limit(USER, BTCUSD, Side.ASK, 10**7, 2 * 10**12), limit(seller, BTCUSD, Side.ASK, 10**7, 3 * 10**12)]
    assert codes(driver, deposits + orders) == [Code.OK] * 5
    return driver


def codes(driver: Driver, commands: list[Command], now: float = START_S) -> list[Code]:
    """The codes that commands get."""
    return [Code(result["code"]) for result in driver.apply(commands, now, BLOB_SIZE).results]


def assert_refused(driver: Driver, command: Command, code: Code, now: float = START_S) -> None:
    """The code, an empty reply, no event, not a byte of the content changed."""
    before = Exchange.restore(LISTING, driver.exchange.dump(), driver.exchange.capacity)
    applied = driver.apply([replace(command, request_id=42)], now, BLOB_SIZE)
    refusal = {"request_id": 42, "sequence": 0, "event_number": 0, "code": code, "kind": command.kind}
    assert applied.results == [refusal | {"order": NO_ORDER}]
    assert applied.events == []
    assert same_content(driver.exchange, before)
    driver.exchange.audit()


@pytest.mark.parametrize("kind", GOOD)
def test_the_good_commands_are_good(kind: str) -> None:
    assert codes(started(), [GOOD[kind]]) == [Code.OK]


@pytest.mark.parametrize(("kind", "field", "value"), BAD_CASES)
def test_a_bad_argument_is_refused(kind: str, field: str, value: int) -> None:
    assert_refused(started(), replace(GOOD[kind], **{field: value}), Code.INVALID_ARGUMENT)  # type: ignore[arg-type]  # any field


@pytest.mark.parametrize("text", BAD_TEXTS)
@pytest.mark.parametrize("kind", ["limit", "market", "update"])
def test_a_bad_text_is_refused(kind: str, text: bytes) -> None:
    assert_refused(started(), replace(GOOD[kind], text=text, text_size=len(text)), Code.INVALID_ARGUMENT)


def test_hostile_texts_hold_both_kinds() -> None:
    assert 0 < len(BAD_TEXTS) < len(HOSTILE_VALUES["text"])


@pytest.mark.parametrize("kind", GOOD)
def test_fields_that_a_kind_does_not_use_are_ignored(kind: str) -> None:
    used = {"kind", "request_id", "text", "text_size", *BAD[kind], "subject_id"}
    noise: dict[str, Any] = {field.name: 77 for field in dataclasses.fields(Command) if field.name not in used}
    plain, noisy = started(), started()
    first = plain.apply([GOOD[kind]], START_S, BLOB_SIZE)
    second = noisy.apply([replace(GOOD[kind], **noise)], START_S, BLOB_SIZE)
    assert first == second
    assert same_content(plain.exchange, noisy.exchange)


@pytest.mark.parametrize("kind", ["limit", "market"])
def test_what_follows_a_text_in_its_field_is_not_taken_over(kind: str) -> None:
    [result] = started().apply([replace(GOOD[kind], text=b"web<script>" + b"x" * 21, text_size=3)], START_S).results
    assert result["order"]["source"] == b"web".ljust(32, b"\0")
    assert result["order"]["source_size"] == 3


NOBODY_HAS_ANYTHING = Driver(LISTING)


@given(st.binary(max_size=32) | st.text(max_size=12).map(lambda text: text.encode("utf-8", "surrogatepass")[:32]))
def test_texts_are_what_python_decodes(text: bytes) -> None:
    try:
        is_good = len(text) <= TEXT_MAX and "\0" not in text.decode()
    except UnicodeDecodeError:
        is_good = False
    command = replace(market_order(USER, BTCUSD, Side.ASK, 1), text=text, text_size=len(text))
    expected = Code.ORDER_BALANCE_NOT_ENOUGH if is_good else Code.INVALID_ARGUMENT
    assert codes(NOBODY_HAS_ANYTHING, [command]) == [expected]


# Numbers at the edges


def test_the_largest_deal_is_exact() -> None:
    """10^18-1 of stock, at the highest price that its fee leaves room for, with the highest fee; as the twin says."""
    price = 10**TOTAL_DIGITS // 10**4 // UNITS_MAX
    assert 10**14 < price < UNITS_MAX
    deposits = [
        update(1, BTC, UNITS_MAX, 1),
        update(2, USD, -(-UNITS_MAX * price // 10**8), 1),  # rounded up
    ]
    sell = limit(1, BTCUSD, Side.ASK, UNITS_MAX, price, 9999, 9999)
    orders = [sell, replace(sell, user_id=2, side=Side.BID)]
    twin, driver = Twin(LISTING), Driver(LISTING)
    got, expected = (side.apply(deposits + orders, START_S) for side in (driver, twin))
    assert [result["code"] for result in got.results] == [Code.OK] * 4
    assert got == expected
    assert got.events[-1]["order"]["deal_money_units"] == UNITS_MAX * price
    compare_state(twin, driver)


@pytest.mark.parametrize(("side", "asset"), [(Side.ASK, BTC), (Side.BID, USD)])
def test_a_price_times_an_amount_that_leaves_no_room_for_its_fee_is_refused(side: int, asset: int) -> None:
    driver = Driver(LISTING)
    most = 10**TOTAL_DIGITS // 10**4
    price = most // UNITS_MAX
    assert codes(driver, [update(1, asset, 10**25, 1)]) == [Code.OK]
    fitting = limit(1, BTCUSD, side, UNITS_MAX, price)
    assert_refused(driver, replace(fitting, price_units=price + 1), Code.INVALID_ARGUMENT)
    assert_refused(driver, replace(fitting, price_units=UNITS_MAX), Code.INVALID_ARGUMENT)
    assert codes(driver, [fitting]) == [Code.OK]


def test_a_price_times_an_amount_may_be_exactly_the_most() -> None:
    driver = Driver(LISTING)
    assert codes(driver, [update(1, BTC, 10**25, 1)]) == [Code.OK]
    exact = limit(1, BTCUSD, Side.ASK, 10**17, 10 ** (TOTAL_DIGITS - 4 - 17))
    assert_refused(driver, replace(exact, price_units=exact.price_units + 1), Code.INVALID_ARGUMENT)
    assert codes(driver, [exact]) == [Code.OK]


def test_an_order_beyond_any_balance_has_not_enough() -> None:
    """Amounts of which not even the scale to balance units fits 128 bits."""
    driver = started()
    assert_refused(driver, limit(USER, BTCUSD, Side.ASK, UNITS_MAX, 1), Code.ORDER_BALANCE_NOT_ENOUGH)
    assert_refused(driver, limit(USER, BTCUSD, Side.BID, UNITS_MAX, 10**14), Code.ORDER_BALANCE_NOT_ENOUGH)
    assert_refused(driver, market_order(USER, BTCUSD, Side.BID, UNITS_MAX), Code.ORDER_BALANCE_NOT_ENOUGH)
    assert_refused(driver, market_order(USER, BTCUSD, Side.ASK, UNITS_MAX), Code.ORDER_BALANCE_NOT_ENOUGH)


@pytest.mark.parametrize("asset", range(len(LISTING.assets)))
def test_an_asset_is_filled_to_its_total_and_no_further(asset: int) -> None:
    prec = LISTING.assets[asset]
    most_shown = total_max_units(LISTING, prec) // 10 ** (prec.prec_save - prec.prec_show)
    driver = Driver(LISTING)
    assert codes(driver, [update(1, asset, most_shown - 1, 1)]) == [Code.OK]
    assert_refused(driver, update(2, asset, 2, 2), Code.INVALID_ARGUMENT)
    assert codes(driver, [update(2, asset, 1, 3)]) == [Code.OK]
    assert_refused(driver, update(2, asset, 1, 4), Code.INVALID_ARGUMENT)
    assert_refused(driver, update(1, asset, 1, 1), Code.REPEAT_UPDATE)
    assert_refused(driver, update(2, asset, -2, 5), Code.UPDATE_BALANCE_NOT_ENOUGH)
    assert codes(driver, [update(2, asset, -1, 6), update(1, asset, 1, 7)]) == [Code.OK] * 2


@pytest.mark.parametrize("user_id", [0, 1, USER_MAX])
def test_the_first_and_the_last_user_can_trade(user_id: int) -> None:
    driver = Driver(LISTING)
    deposits = [update(user_id, asset, 10**17, 1) for asset in (USD, BTC)]
    orders = [limit(user_id, BTCUSD, side, 10**7, 10**10) for side in (Side.ASK, Side.BID)]
    assert codes(driver, deposits + orders) == [Code.OK] * 4
    assert driver.exchange.deal_id == 1
    resting = [limit(user_id, BTCUSD, Side.ASK, 10**7, 10**10), cancel(user_id, BTCUSD, 3)]
    assert codes(driver, resting) == [Code.OK] * 2
    driver.exchange.audit()


@pytest.mark.parametrize("order_id", [0, -1, 2, 3, 2**62, 2**63 - 1, -(2**63)])
def test_an_id_that_no_order_rests_under_is_not_found(order_id: int) -> None:
    driver = Driver(LISTING)
    assert codes(driver, [update(USER, BTC, 10**10, 1), limit(USER, BTCUSD, Side.ASK, 10**7, 10**12)]) == [Code.OK] * 2
    assert_refused(driver, cancel(USER, BTCUSD, order_id), Code.ORDER_NOT_FOUND)
    assert_refused(driver, cancel(USER, ETHUSD, 1), Code.ORDER_NOT_FOUND)
    assert driver.pending_detail(BTCUSD, order_id) == []


def test_time_does_not_go_backwards() -> None:
    driver = started()
    [result] = driver.apply([GOOD["limit"]], START_S - 1000, BLOB_SIZE).results
    assert result["order"]["ctime"] == driver.exchange.time == START_S


# Full tables


def tight(**room: int) -> Driver:
    """An exchange with room for little of one thing; no sentinel's level is left over."""
    return Driver(LISTING, replace(SMALL, market_capacity=len(LISTING.markets), **room))


def sells(count: int, *, user_id: int = 1, first_price: int = 10**10, step: int = 1) -> list[Command]:
    return [limit(user_id, BTCUSD, Side.ASK, 10**7, first_price + step * number) for number in range(count)]


def test_orders_beyond_the_capacity_are_refused_until_one_leaves() -> None:
    driver = tight(order_capacity=3)
    assert codes(driver, [update(1, BTC, 10**12, 1), *sells(3, step=0)]) == [Code.OK] * 4
    [more] = sells(1)
    for _ in range(5):
        assert_refused(driver, more, Code.SERVICE_UNAVAILABLE)
        assert codes(driver, [cancel(1, BTCUSD, driver.exchange.order_id), more]) == [Code.OK] * 2


def test_levels_beyond_the_capacity_are_refused_until_one_is_empty() -> None:
    driver = tight(level_capacity=3)
    assert codes(driver, [update(1, BTC, 10**12, 1), *sells(3)]) == [Code.OK] * 4
    [more] = sells(1, first_price=10**11)
    for _ in range(5):
        assert_refused(driver, more, Code.SERVICE_UNAVAILABLE)
        assert codes(driver, [cancel(1, BTCUSD, driver.exchange.order_id), more]) == [Code.OK] * 2


def test_balances_beyond_the_capacity_are_refused() -> None:
    driver = tight(balance_capacity=3)
    assert codes(driver, [update(user, BTC, 10**9, 1) for user in (1, 2, 3)]) == [Code.OK] * 3
    assert_refused(driver, update(4, BTC, 10**9, 1), Code.SERVICE_UNAVAILABLE)
    assert_refused(driver, update(1, USD, 10**9, 2), Code.SERVICE_UNAVAILABLE)
    assert_refused(driver, sells(1)[0], Code.SERVICE_UNAVAILABLE)  # a deal would make a balance of USD
    assert codes(driver, [update(3, BTC, 1, 2)]) == [Code.OK]


def test_a_market_order_needs_room_for_what_it_gets() -> None:
    driver = tight(balance_capacity=3)
    deposits = [update(1, BTC, 10**9, 1), update(2, USD, 10**14, 1)]
    assert codes(driver, [*deposits, *sells(1)]) == [Code.OK] * 3
    assert_refused(driver, market_order(2, BTCUSD, Side.BID, 10**9), Code.SERVICE_UNAVAILABLE)


def test_users_with_orders_beyond_the_capacity_are_refused() -> None:
    driver = tight(user_market_capacity=2)
    assert codes(driver, [update(user, BTC, 10**9, 1) for user in (1, 2, 3)]) == [Code.OK] * 3
    assert codes(driver, [*sells(1, user_id=1), *sells(1, user_id=2)]) == [Code.OK] * 2
    assert_refused(driver, sells(1, user_id=3)[0], Code.SERVICE_UNAVAILABLE)
    assert codes(driver, sells(1, user_id=2)) == [Code.OK]


def test_updates_beyond_the_capacity_are_refused_until_the_oldest_is_a_day_old() -> None:
    driver = tight(update_capacity=3)
    for number in range(3):
        assert codes(driver, [update(1, BTC, 1, number)], START_S + number) == [Code.OK]
    driver.apply([], START_S + 86_399.5)
    assert_refused(driver, update(1, BTC, 1, 3), Code.SERVICE_UNAVAILABLE, START_S + 86_399.5)
    assert_refused(driver, update(1, BTC, 1, 2), Code.REPEAT_UPDATE, START_S + 86_399.5)
    assert codes(driver, [update(1, BTC, 1, number) for number in (3, 4)], START_S + 86_400) == [
        Code.OK,
        Code.SERVICE_UNAVAILABLE,
    ]


def test_updates_are_remembered_for_a_day_while_the_oldest_are_forgotten() -> None:
    """One an hour in a small table, for long: each of the last 24 is a repeat, the one before is not."""
    hour, kept = 3600.0, 24
    driver = tight(update_capacity=kept + 1)
    for number in range(300):
        now = START_S + hour * number
        assert codes(driver, [update(1, BTC, 1, number)], now) == [Code.OK]
        last = range(max(0, number - kept + 1), number + 1)
        repeats = codes(driver, [update(1, BTC, 1, done) for done in last], now)
        assert set(repeats) == {Code.REPEAT_UPDATE}
    assert codes(driver, [update(1, BTC, 1, 300 - kept - 1)], now) == [Code.OK]


def test_reasons_of_the_command_itself_come_before_want_of_room() -> None:
    driver = tight(order_capacity=1, level_capacity=1, balance_capacity=2, user_market_capacity=1, update_capacity=2)
    assert codes(driver, [update(1, asset, 10**15, 1) for asset in (USD, BTC)] + sells(1)) == [Code.OK] * 3
    assert_refused(driver, limit(2, BTCUSD, Side.ASK, 10**7, 10**10), Code.ORDER_BALANCE_NOT_ENOUGH)
    assert_refused(driver, limit(1, BTCUSD, Side.ASK, 10**4, 10**10), Code.AMOUNT_TOO_SMALL)
    assert_refused(driver, market_order(1, BTCUSD, Side.ASK, 10**7), Code.NO_ENOUGH_TRADER)
    assert_refused(driver, update(1, BTC, 1, 1), Code.REPEAT_UPDATE)
    assert_refused(driver, update(2, BTC, -1, 2), Code.UPDATE_BALANCE_NOT_ENOUGH)
    assert_refused(driver, update(2, BTC, 10**25, 2), Code.INVALID_ARGUMENT)
    assert_refused(driver, limit(1, BTCUSD, Side.ASK, 10**7, 10**11), Code.SERVICE_UNAVAILABLE)
    assert_refused(driver, update(1, BTC, 1, 2), Code.SERVICE_UNAVAILABLE)


def test_a_batch_longer_than_a_frame_is_done() -> None:
    count = FRAME_RECORDS_MAX + 1
    exchange = Exchange(LISTING, replace(SMALL, update_capacity=count))
    applied = exchange.apply(to_records([update(1, BTC, 1, number) for number in range(count)]), START_S)
    assert applied.done == len(applied.events) == count
    assert not applied.results["code"].any()


def test_an_order_that_is_refused_is_not_counted_through_the_book() -> None:
    """A penniless user who asks for everything: counting the deals that he will never make would take milliseconds."""
    count = EVENTS_MIN // 2 + 1
    driver = Driver(LISTING, replace(SMALL, order_capacity=count, level_capacity=count))
    assert set(codes(driver, [update(1, BTC, 10**15, 1), *sells(count)])) == {Code.OK}
    hostile = [market_order(2, BTCUSD, Side.BID, UNITS_MAX), limit(2, BTCUSD, Side.BID, 10**17, 10**12)]
    applied = driver.exchange.apply(to_records([update(3, BTC, 1, 1), *hostile]), START_S)
    assert applied.results["code"].tolist() == [Code.OK, *[Code.ORDER_BALANCE_NOT_ENOUGH] * 2]


# Questions


@pytest.mark.parametrize("kind", [QueryKind.PENDING, QueryKind.PENDING_DETAIL, QueryKind.BOOK, QueryKind.DEPTH])
@pytest.mark.parametrize("market", [-1, len(LISTING.markets), 2**31 - 1, -(2**31)])
def test_a_question_about_no_market_is_an_error(kind: QueryKind, market: int) -> None:
    with pytest.raises(ValueError, match="market"):
        started().exchange.answer(kind, market=market, limit=5)


@pytest.mark.parametrize("kind", [0, -1, 99])
def test_an_unknown_question_is_an_error(kind: int) -> None:
    with pytest.raises(ValueError, match="kind"):
        started().exchange.answer(kind)


@pytest.mark.parametrize("user_id", [0, -1, USER_MAX + 1, USER_MAX + 1 + USER, 2**62, -(2**63)])
def test_a_user_who_can_not_be_has_nothing(user_id: int) -> None:
    driver = started()
    assert driver.balances(user_id) == []
    assert driver.pending(BTCUSD, user_id, 0, 101) == ([], 0)


def test_pages_are_clipped() -> None:
    driver = Driver(LISTING)
    assert set(codes(driver, [update(1, BTC, 10**12, 1), *sells(105)])) == {Code.OK}
    for count, shown in ((-1, 0), (0, 0), (101, 101), (102, 101), (2**62, 101)):
        orders, total = driver.book(BTCUSD, Side.ASK, 0, count)
        assert (len(orders), total) == (shown, 105)
        assert len(driver.pending(BTCUSD, 1, 0, count)[0]) == shown
        assert len(driver.depth(BTCUSD, count, 0)[0]) == shown
    for offset, shown in ((-(2**62), 0), (-1, 0), (104, 1), (105, 0), (2**62, 0)):
        assert len(driver.book(BTCUSD, Side.ASK, offset, 5)[0]) == shown
        assert len(driver.pending(BTCUSD, 1, offset, 5)[0]) == shown


# The listing


def with_market(listing: Listing, **changes: object) -> Listing:
    """The listing with its first market changed."""
    first, *others = listing.markets
    return replace(listing, markets=(replace(first, **changes), *others))  # type: ignore[arg-type]  # any field


GROWN = replace(
    LISTING,
    assets=(*LISTING.assets[:2], replace(LISTING.assets[0], name="EUR"), *LISTING.assets[2:]),
    markets=(
        Market(name="BTCEUR", stock="BTC", money="EUR", stock_prec=8, money_prec=8),
        *(replace(market, min_amount="0.5") if market.name == "BTCUSD" else market for market in LISTING.markets),
    ),
)


def test_new_assets_and_markets_come_behind_the_old_ones_and_rank_as_listed() -> None:
    twin, driver = Twin(LISTING), started()
    twin.apply([update(USER, USD, 10**16, 1), update(USER, BTC, 10**10, 2), update(USER + 1, BTC, 10**10, 3)], START_S)
    orders = [limit(USER, 0, Side.ASK, 10**7, 2 * 10**12), limit(USER + 1, 0, Side.ASK, 10**7, 3 * 10**12)]
    twin.apply(orders, START_S)
    for venue in (twin, driver):
        venue.configure(GROWN)
    compare_state(twin, driver)
    eur, btceur = len(LISTING.assets), len(LISTING.markets)
    commands = [
        update(USER, eur, 10**16, 9),
        limit(USER, btceur, Side.BID, 10**7, 10**12),
        limit(USER, BTCUSD, Side.ASK, 10**7, 10**12),  # now too small
        limit(USER + 1, btceur, Side.ASK, 10**7, 10**12, 20),
        limit(USER, btceur + 1, Side.ASK, 10**7, 10**12),
    ]
    got, expected = (venue.apply(commands, START_S) for venue in (driver, twin))
    assert got == expected
    wanted = [Code.OK, Code.OK, Code.AMOUNT_TOO_SMALL, Code.OK, Code.INVALID_ARGUMENT]
    assert [result["code"] for result in got.results] == wanted
    compare_state(twin, driver)


@pytest.mark.parametrize(
    ("listing", "text"),
    [
        (replace(LISTING, markets=LISTING.markets[1:]), "BTCUSD"),
        (replace(LISTING, assets=LISTING.assets[1:]), "USD"),
        (replace(LISTING, assets=(replace(LISTING.assets[0], prec_save=24), *LISTING.assets[1:])), "prec_save"),
        (replace(LISTING, assets=(replace(LISTING.assets[0], prec_show=4), *LISTING.assets[1:])), "prec_show"),
        (with_market(LISTING, stock_prec=7), "stock_prec"),
        (with_market(LISTING, money_prec=7), "money_prec"),
        (with_market(LISTING, fee_prec=3), "fee_prec"),
        (with_market(LISTING, stock="ETH"), "stock"),
        (with_market(LISTING, money="USDT"), "money"),
    ],
    ids=["no market", "no asset", "prec_save", "prec_show", "stock_prec", "money_prec", "fee_prec", "stock", "money"],
)
def test_a_listing_that_changes_what_balances_and_orders_mean_is_refused(listing: Listing, text: str) -> None:
    driver = started()
    before = Exchange.restore(LISTING, driver.exchange.dump(), SMALL)
    with pytest.raises(BadMarkets, match=text):
        driver.configure(listing)
    assert same_content(driver.exchange, before)
    assert codes(driver, [GOOD["limit"]]) == [Code.OK]


def test_more_markets_than_there_is_room_for_are_refused() -> None:
    with pytest.raises(BadMarkets, match="room for"):
        Exchange(LISTING, replace(SMALL, market_capacity=len(LISTING.markets) - 1))
    with pytest.raises(BadMarkets, match="room for"):
        Exchange(LISTING, replace(SMALL, asset_capacity=len(LISTING.assets) - 1))


@pytest.mark.parametrize("min_amount", ["999999999999999999.9999", "9" * 18 + "." + "9" * 18, "10000000000.1"])
def test_a_least_amount_that_no_order_could_reach_is_refused(min_amount: str) -> None:
    stock, money = ({"name": name, "prec": 8} for name in ("A", "B"))
    document = {
        "assets": [{"name": name, "prec_save": 16, "prec_show": 8} for name in ("A", "B")],
        "markets": [{"name": "AB", "stock": stock, "money": money, "min_amount": min_amount}],
    }
    with pytest.raises(BadMarkets, match="min_amount"):
        parse(document)


@pytest.mark.parametrize("field", [field.name for field in dataclasses.fields(Capacity)])
@pytest.mark.parametrize("value", [0, -1, 1 << 29])
def test_a_capacity_out_of_range_is_refused(field: str, value: int) -> None:
    with pytest.raises(ValueError, match=field):
        Exchange(LISTING, replace(SMALL, **{field: value}))
