"""What clients know against the journal: each check finds what it is there for."""

from collections.abc import Callable

import pytest

from bus.catalog import EMPTY
from tests.soak.checks.clients import check_answers, check_cancels, check_orders, check_updates
from tests.soak.load.known import Known, joined
from tests.soak.wanted.commands import Commands, Put

DEPOSIT = (1, "BTC", "deposit", 7)


def known() -> Known:
    """Of three orders one was acknowledged, one refused, one had no answer; of a cancel and of a deposit."""
    found = Known()
    found.asked_orders = {"a", "b", "c"}
    found.acknowledge_order("a", {"id": 1, "left": "0"})
    found.refused_orders = {"b"}
    found.asked_cancels = found.acknowledged_cancels = {1}
    found.asked_updates = found.acknowledged_updates = {DEPOSIT}
    return found


def held() -> Commands:
    """The journal that fits."""
    found = Commands(EMPTY)
    found.puts = dict(known().acknowledged_orders)
    found.cancelled = {1}
    found.updates[DEPOSIT] = 1
    return found


def test_what_fits_agrees() -> None:
    assert check_orders(known(), held()).agrees
    assert check_cancels(known(), held()).agrees
    assert check_updates(known(), held()).agrees
    assert check_answers([], 3, 1).agrees


def test_what_has_no_answer_may_have_been_done_or_not() -> None:
    journal = held()
    journal.puts["c"] = Put(2, b"any")
    finding = check_orders(known(), journal)
    assert finding.agrees
    assert "1 without an answer, of which 1 were done" in finding.text


def lose(journal: Commands) -> None:
    del journal.puts["a"]


def change(journal: Commands) -> None:
    journal.puts["a"] = journal.puts["a"]._replace(digest=b"another")


def renumber(journal: Commands) -> None:
    journal.puts["a"] = journal.puts["a"]._replace(order_id=9)


def double(journal: Commands) -> None:
    journal.doubled.append("a")


def accept_refused(journal: Commands) -> None:
    journal.puts["b"] = Put(2, b"")


def invent(journal: Commands) -> None:
    journal.puts["z"] = Put(2, b"")


@pytest.mark.parametrize(
    ("corrupt", "text"),
    [
        (lose, "1 acknowledged, and not in the journal: a"),
        (change, "1 not as it was acknowledged: a"),
        (renumber, "1 not as it was acknowledged: a"),
        (double, "1 in the journal more than once: a"),
        (accept_refused, "1 in the journal though it was refused: b"),
        (invent, "1 in the journal though nobody asked: z"),
    ],
)
def test_an_order_that_does_not_fit_is_found(corrupt: Callable[[Commands], None], text: str) -> None:
    journal = held()
    corrupt(journal)
    assert check_orders(known(), journal).faults == (text,)


def test_a_cancel_that_does_not_fit_is_found() -> None:
    journal = held()
    journal.cancelled = {2}
    faults = check_cancels(known(), journal).faults
    assert faults == ("1 acknowledged, and not in the journal: 1", "1 cancelled though nobody asked: 2")


def test_a_deposit_that_does_not_fit_is_found() -> None:
    journal = held()
    journal.updates[DEPOSIT] = 2
    assert check_updates(known(), journal).faults == (f"1 counted more than once: {DEPOSIT}",)
    del journal.updates[DEPOSIT]
    assert check_updates(known(), journal).faults == (f"1 acknowledged, and not in the journal: {DEPOSIT}",)
    refused = known()
    refused.refused_updates, refused.acknowledged_updates = {DEPOSIT}, set()
    assert check_updates(refused, held()).faults == (f"1 in the journal though it was refused: {DEPOSIT}",)
    refused.refused_updates = refused.asked_updates = set()
    assert check_updates(refused, held()).faults == (f"1 in the journal though nobody asked: {DEPOSIT}",)


def test_a_wrong_answer_is_a_fault() -> None:
    asked = known()
    asked.acknowledge_order("a", {"id": 2})
    assert check_answers(asked.wrong, 1, 0).faults == ("order a was answered twice",)


def test_what_several_clients_know_is_put_together() -> None:
    other = Known()
    other.asked_orders = {"d"}
    other.answered["order.put_limit"] = 2
    other.latencies_s["order.put_limit"] = [0.1]
    whole = joined([known(), other])
    assert whole.asked_orders == {"a", "b", "c", "d"}
    assert whole.acknowledged_orders == known().acknowledged_orders
    assert whole.answered["order.put_limit"] == 2
    assert whole.latencies_s["order.put_limit"] == [0.1]
