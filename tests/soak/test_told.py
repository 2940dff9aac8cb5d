"""What WebSocket clients were told against the journal, and balances, alerts, memory: each check can fail."""

import json
from decimal import Decimal
from typing import Any, cast

import pytest

from bus.catalog import Asset, Catalog
from tests.process.nginx import Front
from tests.soak.checks.alerts import check_alerts
from tests.soak.checks.back import check_back
from tests.soak.checks.balances import check_balances, check_sums
from tests.soak.checks.digests import Chain, digest
from tests.soak.checks.flat import BOUNDS, Growth, check_flat
from tests.soak.checks.notifications import check_deals, check_own, check_public
from tests.soak.disturb.disturber import Done
from tests.soak.load.ws import Deals, Owner
from tests.soak.samples import Sample, growth
from tests.soak.wanted.own import Numbered, Sums, rescaled_up

USER = 7
EVENTS: list[Numbered] = [(number, digest(number)) for number in (3, 5, 8)]
HELD = {"BTC": {"available": "1", "freeze": "0"}}
BTC = Asset(0, "BTC", '"BTC"', 10, 8, 100)
CATALOG = Catalog((BTC,), (), {"BTC": BTC}, {}, (BTC,), ())


def owner(orders: list[Numbered], first_number: int | None = 0) -> Owner:
    found = Owner(cast(Front, None), USER)
    found.orders, found.first_number, found.balances = orders, first_number, dict(HELD)
    return found


def faults(of: Owner) -> tuple[str, ...]:
    return check_own([of], {USER: EVENTS}, {USER: HELD}).faults


def test_a_user_who_was_told_each_event_once_agrees() -> None:
    assert faults(owner(EVENTS)) == ()
    assert faults(owner(EVENTS[1:], first_number=4)) == ()


@pytest.mark.parametrize(
    ("orders", "text"),
    [
        (EVENTS[:2], "1 missing [8]"),
        ([*EVENTS, EVENTS[2]], "1 doubled"),
        ([EVENTS[1], EVENTS[0], EVENTS[2]], "1 out of order"),
        ([*EVENTS, (9, b"")], "1 that are none of his"),
        ([(3, digest("another")), *EVENTS[1:]], "3 of 3 events"),
    ],
)
def test_orders_that_were_not_told_as_they_happened_are_found(orders: list[Numbered], text: str) -> None:
    (fault,) = faults(owner(orders))
    assert text in fault


def test_a_user_who_was_told_another_balance_or_nothing_is_found() -> None:
    assert faults(owner([], first_number=None)) == ("user 7 has never been told anything",)
    late = owner(EVENTS)
    late.balances["BTC"] = {"available": "2", "freeze": "0"}
    late.wrong.append("something else")
    assert len(faults(late)) == 2


def deals(*ids: int) -> dict[str, Deals]:
    return {"BTCUSD": Deals(list(ids), Chain(b"".join(map(digest, ids))))}


def test_deals_are_told_as_a_run_without_gaps() -> None:
    ids, digests = {"BTCUSD": [1, 4, 6, 7]}, {"BTCUSD": deals(1, 4, 6, 7)["BTCUSD"].digests}
    for good in (deals(1, 4), deals(4, 6, 7), deals()):
        assert check_deals([good], ids, digests).agrees
    for bad in (deals(1, 6), deals(4, 4), deals(6, 4), deals(5), deals(6, 7, 8)):
        assert not check_deals([bad], ids, digests).agrees
    changed = deals(1, 4)
    changed["BTCUSD"].digests[-1] ^= 1
    assert not check_deals([changed], ids, digests).agrees


def test_a_last_price_that_is_not_the_last_is_found() -> None:
    assert check_public([], {"BTCUSD": "1"}, {"BTCUSD": "1"}, []).agrees
    assert not check_public([], {"BTCUSD": "2"}, {"BTCUSD": "1"}, []).agrees
    assert not check_public([], {}, {"BTCUSD": "1"}, []).agrees
    assert not check_public(["a book"], {}, {}, []).agrees


def test_a_balance_that_differs_by_one_unit_is_found() -> None:
    wanted = {(USER, "BTC"): (10_000_000_199, 5)}
    shown = {USER: {"BTC": {"available": "1.00000001", "freeze": "0e-8"}}}
    assert check_balances(wanted, dict(wanted), shown, CATALOG).agrees
    assert len(check_balances(wanted, {(USER, "BTC"): (10_000_000_198, 5)}, shown, CATALOG).faults) == 1
    assert len(check_balances(wanted, wanted | {(8, "BTC"): (1, 0)}, shown, CATALOG).faults) == 1
    for wrong in ("1.00000002", "1"):
        assert (
            len(check_balances(wanted, wanted, {USER: {"BTC": {"available": wrong, "freeze": "0"}}}, CATALOG).faults)
            == 1
        )


def test_sums_that_differ_by_one_unit_are_found() -> None:
    sums = Sums(CATALOG)
    sums.came["BTC"], sums.fees["BTC"] = 100, 3
    assert check_sums(sums, {(1, "BTC"): (50, 40), (2, "BTC"): (7, 0)}, CATALOG).agrees
    assert not check_sums(sums, {(1, "BTC"): (50, 40), (2, "BTC"): (8, 0)}, CATALOG).agrees


def test_a_fee_is_rounded_up_to_the_units_of_its_balance() -> None:
    assert rescaled_up(1_001, 5, 2) == 2
    assert rescaled_up(1_000, 5, 2) == 1
    assert rescaled_up(0, 5, 2) == 0
    assert rescaled_up(7, 2, 5) == 7_000
    assert Decimal(rescaled_up(12_345, 4, 2)).scaleb(-2) == Decimal("1.24")


def alert(process: str, text: str) -> str:
    return json.dumps({"process": process, "text": text, "where": "a.py:1(f)"})


def test_only_alerts_of_expected_kinds_that_are_in_redis_too_agree() -> None:
    text = "market ended: killed by SIGKILL; it is started again"
    line, element = alert("supervisor", text), f"supervisor: [fatal]a.py:1(f): {text}"
    assert check_alerts([line], [element]).agrees
    assert not check_alerts([line], []).agrees
    assert not check_alerts([line], [element, element]).agrees
    for bad in ("market ended: exit code 1; it is started again", "market ended: killed by SIGKILL; it stays down"):
        assert not check_alerts([alert("supervisor", bad)], [f"supervisor: [fatal]a.py:1(f): {bad}"]).agrees


def grown(**changes: Any) -> Growth:
    usual = Growth("matcher", 1_000, 2_000, 2_100, 20, 20, 2.0, BOUNDS[0])
    return usual._replace(**changes)


def test_memory_or_files_that_grow_are_found() -> None:
    assert check_flat([grown(), grown(last_kib=4_000)], []).agrees
    assert not check_flat([grown(last_kib=5_000)], []).agrees
    assert check_flat([grown(last_kib=5_000, bound=BOUNDS[1])], []).agrees
    assert not check_flat([grown(last_kib=7_000, bound=BOUNDS[1])], []).agrees
    assert check_flat([grown(last_kib=7_000, bound=None)], []).agrees
    assert not check_flat([grown(last_kib=40_000, bound=None)], []).agrees
    assert not check_flat([grown(files_last=40)], []).agrees
    assert not check_flat([grown()], ["no more samples"]).agrees


def samples(count: int, kib_a_second: float, pid: int = 1, begin_s: float = 0.0) -> list[Sample]:
    return [Sample(begin_s + at, pid, 0, int(1_000 + kib_a_second * at), 0, 10) for at in range(count)]


def test_growth_is_measured_of_the_last_process_of_a_name_only() -> None:
    found = growth("ws-0", [*samples(50, 100.0), *samples(60, 1.0, pid=2, begin_s=50.0)], since_s=60.0)
    assert found is not None
    assert found.bound is None
    assert found.begin_kib == 1_000
    assert found.kib_a_minute == pytest.approx(60, rel=0.05)
    warm = growth("ws-0", samples(400, 2.0), since_s=10.0)
    assert warm is not None
    assert warm.bound == BOUNDS[1]
    assert warm.kib_a_minute == pytest.approx(120, rel=0.05)
    old = growth("ws-0", samples(1_000, 0.5), since_s=10.0)
    assert old is not None
    assert old.bound == BOUNDS[0]
    assert growth("ws-0", samples(20, 1.0), since_s=18.0) is None


def test_processes_that_come_back_late_are_found() -> None:
    quick = [Done("kill", "matcher", 0.0, 0.2)] * 3
    assert check_back(quick, []).agrees
    assert check_back([*quick, Done("kill", "MariaDB", 0.0, 30.0), Done("hang", "ws-0", 0.0, 5.0)], []).agrees
    assert not check_back([*quick, Done("kill", "market", 0.0, 11.0)], []).agrees
    assert not check_back([Done("kill", "market", 0.0, 1.5)], []).agrees
    assert not check_back(quick, ["something did not come back"]).agrees
    assert not check_back([], []).agrees
