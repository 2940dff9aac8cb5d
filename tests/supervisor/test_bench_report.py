"""What benchmarks read and print."""

import json

import numpy as np
import pytest

from bus.messages import CommandKind, Side
from supervisor.bench import orders
from supervisor.bench.http import parse
from supervisor.bench.report import Report, percentiles

WRK = """Running 2s test @ http://127.0.0.1:8080/
  1 threads and 64 connections
  Latency Distribution
     50%    3.10ms
     75%    3.50ms
     90%    4.06ms
     99%    6.22ms
  40960 requests in 2.01s, 12.03MB read
{trouble}Requests/sec:  20378.11
"""


def test_wrks_report_is_read() -> None:
    result = parse(WRK.format(trouble=""))
    assert result == (40960, 2.01, 0, "p50 3.10ms, p90 4.06ms, p99 6.22ms")


def test_all_failures_that_wrk_knows_are_counted() -> None:
    trouble = "  Socket errors: connect 1, read 2, write 3, timeout 4\n  Non-2xx or 3xx responses: 100\n"
    assert parse(WRK.format(trouble=trouble)).failed_count == 110


def test_what_is_no_report_is_refused() -> None:
    with pytest.raises(ValueError, match="not a report of wrk"):
        parse("unable to connect")


def test_percentiles_carry_their_names() -> None:
    assert percentiles(range(101), (50, 99.9, 100)) == {"p50": 50.0, "p99.9": pytest.approx(99.9), "max": 100.0}


def test_json_holds_machine_and_figures(capsys: pytest.CaptureFixture[str]) -> None:
    report = Report(title="t")
    report.add("orders", 5.0, "orders/s", goal="4")
    report.show(as_json=True)
    shown = json.loads(capsys.readouterr().out)
    assert shown["rows"] == [{"what": "orders", "value": 5.0, "unit": "orders/s", "goal": "4", "detail": ""}]
    assert {"machine", "system", "load before", "load after"} <= set(shown["machine"])


def test_the_trading_flow_crosses_the_mid_from_both_sides() -> None:
    flow = orders.trading(1_000)
    prices = flow["price_units"] // orders.TICK_UNITS
    bids = flow["side"] == Side.BID
    assert (prices[bids] >= orders.MID_TICKS).all()
    assert (prices[~bids] <= orders.MID_TICKS).all()
    assert 400 < bids.sum() < 600
    assert np.array_equal(flow, orders.trading(1_000))


def test_the_filling_spreads_its_orders_over_all_levels_and_never_crosses() -> None:
    filled = orders.filling(level_count=10, order_count=100)
    prices, counts = np.unique(filled["price_units"], return_counts=True)
    assert (len(prices), set(counts)) == (10, {10})
    bids = filled["side"] == Side.BID
    assert filled["price_units"][bids].max() < filled["price_units"][~bids].min()


def test_the_stirring_cancels_orders_of_the_filling_by_their_owners() -> None:
    filled = orders.filling(level_count=10, order_count=100)
    stirring = orders.stirring(filled, 10, 1_000)
    cancels = stirring[stirring["kind"] == CommandKind.CANCEL]
    assert 100 < len(cancels) < 300
    assert np.array_equal(filled["user_id"][cancels["subject_id"] - 1], cancels["user_id"])
