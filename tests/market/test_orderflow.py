"""What the rows of one recorded order become, told as the talk between the player and the exchange."""

import pytest

from bus.messages import CommandKind, Side
from market.bitstamp import Row
from market.orderflow import Flow, Reply, Request, funding, user_of

ENDLESS_MS = float("inf")
PUT, CANCEL = CommandKind.PUT_LIMIT, CommandKind.CANCEL


def row(
    action: str, *, time_ms: int = 0, exchange_id: str = "a", amount: int = 5, price: int = 10, side: int = Side.BID
) -> Row:
    return Row(time_ms, exchange_id, action, side, price, amount)


def reply(request: Request, *, text: str = "", order_id: int = 1, is_open: bool = False) -> Reply:
    return Reply(request, text, order_id, is_open, False, 0.0)


def only(flow: Flow) -> Request:
    (request,) = flow.take(ENDLESS_MS, 10)
    return request


def test_created_puts_and_deleted_cancels_by_the_id_that_the_reply_gave() -> None:
    flow = Flow([row("created"), row("deleted")], 3)
    put = only(flow)
    assert (put.kind, put.side, put.price_units, put.amount_units) == (PUT, Side.BID, 10, 5)
    flow.finish(reply(put, order_id=77, is_open=True))
    cancel = only(flow)
    assert (cancel.kind, cancel.order_id, cancel.user_id) == (CANCEL, 77, put.user_id)
    flow.finish(reply(cancel))
    assert not flow.is_waiting
    assert flow.row_count == 2
    assert flow.skipped_count == 0


def test_changed_cancels_and_then_puts_the_remainder_at_its_price() -> None:
    flow = Flow([row("created"), row("changed", amount=2, price=11), row("deleted")], 3)
    flow.finish(reply(only(flow), order_id=7, is_open=True))
    cancel = only(flow)
    assert (cancel.kind, cancel.order_id) == (CANCEL, 7)
    flow.finish(reply(cancel))
    put = only(flow)
    assert (put.kind, put.amount_units, put.price_units) == (PUT, 2, 11)
    flow.finish(reply(put, order_id=8, is_open=True))
    assert only(flow).order_id == 8


def test_a_remainder_is_not_put_when_the_order_had_been_filled_here() -> None:
    flow = Flow([row("created"), row("changed"), row("deleted")], 3)
    flow.finish(reply(only(flow), is_open=True))
    flow.finish(reply(only(flow), text="order not found"))
    assert not flow.take(ENDLESS_MS, 10)
    assert flow.skipped_count == 1


@pytest.mark.parametrize("text", ["", "balance not enough"])
def test_nothing_is_left_to_cancel_of_an_order_that_was_filled_or_refused(text: str) -> None:
    flow = Flow([row("created"), row("deleted")], 3)
    flow.finish(reply(only(flow), text=text, is_open=False))
    assert not flow.take(ENDLESS_MS, 10)
    assert flow.skipped_count == 1


def test_an_order_that_the_recording_never_created_is_skipped() -> None:
    flow = Flow([row("deleted")], 3)
    assert not flow.take(ENDLESS_MS, 10)
    assert flow.skipped_count == 1
    assert not flow.is_waiting


def test_rows_of_one_order_wait_for_its_reply_while_others_go_on() -> None:
    flow = Flow([row("created"), row("deleted"), row("created", exchange_id="b")], 3)
    first, second = flow.take(ENDLESS_MS, 10)
    assert (first.exchange_id, second.exchange_id) == ("a", "b")
    assert not flow.take(ENDLESS_MS, 10)
    flow.finish(reply(first, is_open=True))
    assert only(flow).kind == CANCEL


def test_rows_are_taken_when_they_are_due_and_no_more_than_asked() -> None:
    flow = Flow([row("created", exchange_id=str(place), time_ms=place) for place in range(5)], 3)
    assert len(flow.take(2, 10)) == 3
    assert flow.next_time_ms == 3
    assert len(flow.take(ENDLESS_MS, 1)) == 1


def test_an_order_keeps_its_user_and_users_share_the_orders() -> None:
    users = [user_of(str(number), 300) for number in range(10_000)]
    assert users == [user_of(str(number), 300) for number in range(10_000)]
    assert len(set(users)) == 300


def test_funding_covers_all_of_a_users_orders_and_rounds_up() -> None:
    rows = [
        row("created", side=Side.ASK, amount=1, price=999),  # 0.0001 of stock, shown with 2 decimals: 0.01
        row("created", side=Side.BID, amount=10_000, price=150),  # 1 x 1.50
        row("created", side=Side.BID, amount=10_000, price=50),
    ]
    stock, money = funding(rows, 1, ("BTC", 2), ("USD", 2), (4, 2), business_id=90)
    assert (stock.asset, stock.change_units, stock.business_id) == ("BTC", 1, 90)
    assert (money.asset, money.change_units, money.business_id) == ("USD", 200, 91)
