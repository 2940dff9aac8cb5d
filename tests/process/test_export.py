"""`pit history export` beside a running exchange, and after it has stopped."""

import csv
import time
from pathlib import Path

import pyarrow.parquet

from tests.process.exchange import PATIENCE_S, POLL_S, Running, exchange


def trade(running: Running) -> int:
    """An order that two others fill; its id, once it is in the history."""
    running.call("balance.update", 1, "BTC", "deposit", 1, "10", {"memo": '=HYPERLINK("x")'})
    running.call("balance.update", 2, "USD", "=deposit", 1, "100000.5", {})
    order_id = int(running.call("order.put_limit", 1, "BTCUSD", 1, "2", "8000", "0.002", "0.001", "maker")["id"])
    for amount in ("0.5", "1.5"):
        running.call("order.put_limit", 2, "BTCUSD", 2, amount, "8000.00000001", "0.002", "0.001", "-taker")
    deadline = time.monotonic() + PATIENCE_S
    while running.call("order.finished_detail", order_id + 2) is None:
        assert time.monotonic() < deadline, running.logs()
        time.sleep(POLL_S)
    return order_id


def test_what_was_traded_is_exported(tmp_path: Path) -> None:
    with exchange(tmp_path) as running:
        order_id = trade(running)
        orders = list(csv.DictReader(running.pit("history", "export", "orders").stdout.splitlines()))
        out = tmp_path / "changes.parquet"
        done = running.pit("history", "export", "changes", "--asset", "USD", "--user", "2", "--out", str(out))
        assert (done.stdout, done.stderr) == ("", f"3 changes in {out}\n")
    assert {row["id"] for row in orders} == {str(order_id + place) for place in range(3)}
    maker = next(row for row in orders if row["id"] == str(order_id))
    assert (maker["side"], maker["deal_money"], maker["deal_fee"], maker["source"]) == ("sell", "16000", "16", "maker")
    assert {row["source"] for row in orders} == {"maker", "'-taker"}

    changes = pyarrow.parquet.read_table(out).to_pylist()
    assert [(row["business"], str(row["change"].normalize()), str(row["balance"].normalize())) for row in changes] == [
        ("=deposit", "100000.5", "100000.5"),
        ("trade", "-4E+3", "96000.5"),
        ("trade", "-1.2E+4", "84000.5"),
    ]
    deals = list(csv.DictReader(running.pit("history", "export", "deals", "--user", "2").stdout.splitlines()))
    assert [(row["role"], row["amount"], row["deal"], row["fee"], row["deal_fee"]) for row in deals] == [
        ("taker", "0.5", "4000", "0.001", "4"),
        ("taker", "1.5", "12000", "0.003", "12"),
    ]
