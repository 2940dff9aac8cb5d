"""A whole exchange with its market data in Redis: the original's keys, a failover while it trades, `pit market`."""

import json
import time
from collections.abc import Iterator
from decimal import Decimal
from functools import partial
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from bus.eventlog import Reader
from bus.messages import EventKind
from market.redis_store import POSITION_KEY
from tests.golden import player
from tests.market.sentinels import Group, dumped, sentinels
from tests.process.exchange import PATIENCE_S, POLL_S, Running, exchange

RECORDED = player.FOLDER / "side-31"
SIZES = ("1s", "1m", "1h", "1d")
TRADES_BEFORE, TRADES_AFTER = 20, 20
RATES = ("0.002", "0.001")

Deal = tuple[int, str, str, str]  # id, market, price, amount


@pytest.fixture(scope="module")
def group(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Group]:
    with sentinels(tmp_path_factory.mktemp("redis")) as running:
        yield running


def keys(group: Group, database: int) -> dict[str, Any]:
    with group.master.client(database) as client:
        return dumped(client)


def merged(rows: dict[str, str]) -> list[Decimal]:
    """All candles of a hash as one: open, close, high, low, volume, money."""
    first, close, high, low, volume, money = zip(
        *([Decimal(text) for text in json.loads(rows[start])] for start in sorted(rows, key=int)), strict=True
    )
    return [first[0], close[-1], max(high), min(low), sum(volume, Decimal()), sum(money, Decimal())]


def of_deals(deals: list[Deal]) -> list[Decimal]:
    """The candle that deals make."""
    prices = [Decimal(price) for _, _, price, _ in deals]
    amounts = [Decimal(amount) for *_, amount in deals]
    money = sum(price * amount for price, amount in zip(prices, amounts, strict=True))
    return [prices[0], prices[-1], max(prices), min(prices), sum(amounts, Decimal()), Decimal(money)]


def recorded_deals() -> list[Deal]:
    """What the original sent to Kafka."""
    lines = map(json.loads, (RECORDED / "kafka.jsonl").read_text(encoding="utf-8").splitlines())
    rows = (json.loads(line["value"]) for line in lines if line["topic"] == "deals")
    return [(row[11], row[1], row[6], row[7]) for row in rows]


def without_time(text: str) -> dict[str, Any]:
    deal: dict[str, Any] = json.loads(text)
    assert isinstance(deal.pop("time"), float)
    return deal


def test_the_recorded_deals_leave_the_keys_of_the_original(group: Group, tmp_path: Path) -> None:
    """But for our own position; the first deal is left out, as the original did (CONTRACT 10.1 D16)."""
    path = player.FOLDER / "side-31.jsonl"
    settings = {"store": group.address(1), "skip_first_deal": True}
    with exchange(tmp_path, listing=player.listing(path), market=settings) as running:
        host, _, port = running.settings.http.bind.rpartition(":")
        wait = partial(running.wait_stored, *running.settings.consumers)
        assert all(call.got.status == call.wanted.status for call in player.play(path, host, int(port), wait))
        event_number = wait()
        found = keys(group, 1)
    wanted = json.loads((RECORDED / "redis.json").read_text(encoding="utf-8"))
    position = json.loads(found.pop(POSITION_KEY))
    deals = recorded_deals()
    assert position == {"number": event_number, "deal_id": len(deals), "generation": 0}
    assert found.keys() == wanted.keys()
    assert found["k:offset"] == wanted["k:offset"]
    for market in {market for _, market, _, _ in deals}:
        mine = [deal for deal in deals if deal[1] == market and deal[0] > 1]
        assert found[f"k:{market}:last"] == wanted[f"k:{market}:last"]
        texts = found[f"k:{market}:deals"], wanted[f"k:{market}:deals"]
        assert list(map(without_time, texts[0])) == list(map(without_time, texts[1]))
        for size in SIZES:
            key = f"k:{market}:{size}"
            assert merged(found[key]) == merged(wanted[key]) == of_deals(mine)
            if len(found[key]) == len(wanted[key]) == 1:
                assert list(found[key].values()) == list(wanted[key].values())


def trade(running: Running, number: int) -> None:
    """A deal at a price that tells its number."""
    price = str(100 + number)
    running.call("order.put_limit", 1, "BTCUSD", 1, "0.001", price, *RATES, "test")
    running.call("order.put_limit", 2, "BTCUSD", 2, "0.001", price, *RATES, "test")


def fund(running: Running) -> None:
    running.call("balance.update", 1, "BTC", "deposit", 1, "1000", {})
    running.call("balance.update", 2, "USD", "deposit", 2, "1000000", {})


def test_a_failover_while_it_trades_loses_no_deal(group: Group, tmp_path: Path) -> None:
    with exchange(tmp_path, market={"store": group.address(2), "flush_interval_s": 0.05}) as running:
        fund(running)
        numbers = iter(range(1_000_000))
        for _ in range(TRADES_BEFORE):
            trade(running, next(numbers))
        dead = group.master
        killer = Thread(target=group.kill_master)
        killer.start()
        while killer.is_alive():
            trade(running, next(numbers))
            assert running.call("market.last", "BTCUSD") != "0"  # it goes on answering
        killer.join()
        for _ in range(TRADES_AFTER):
            trade(running, next(numbers))
        number = running.wait_stored("market")
        found = keys(group, 2)
        assert json.loads(found[POSITION_KEY])["number"] == number
        deals = [json.loads(text) for text in found["k:BTCUSD:deals"]][::-1]
        assert [deal["id"] for deal in deals] == list(range(1, len(deals) + 1))
        assert [deal["price"] for deal in deals] == [str(100 + number) for number in range(next(numbers))]
        assert merged(found["k:BTCUSD:1s"]) == of_deals([(0, "", deal["price"], deal["amount"]) for deal in deals])
        assert merged(found["k:BTCUSD:1d"]) == merged(found["k:BTCUSD:1s"])
    group.mend(dead)


def test_what_pit_market_brings_in_is_answered_while_it_runs(group: Group, tmp_path: Path) -> None:
    day_s = 86_400
    today = int(time.time()) // day_s * day_s
    lines = ["date,open,high,low,close,volume", *(f"{today - place * day_s},7,9,5,8,1" for place in range(3))]
    (tmp_path / "days.csv").write_text("\n".join(lines) + "\n")
    with exchange(tmp_path / "exchange", market={"store": group.address(3)}) as running:
        fund(running)
        trade(running, 0)
        running.wait_stored("market")

        def days() -> list[list[Any]]:
            return list(running.call("market.kline", "BTCUSD", today - 5 * day_s, today + 2 * day_s, day_s))

        told = running.pit("market", "import", str(tmp_path / "days.csv"), "--market", "BTCUSD").stdout
        assert "BTCUSD 1d: 2 written, 1 there already" in told
        imported = [[today - place * day_s, "7", "8", "9", "5", "1", "0", "BTCUSD"] for place in (2, 1)]
        trade(running, 1)  # else it looks at the store some seconds later
        running.wait_stored("market")
        wait_for(running, lambda: days()[:-1] == imported)
        assert days()[-1][1:5] == ["100", "101", "101", "100"]
        assert running.call("market.last", "BTCUSD") == "101.00000000"
        assert "2 of them deals" in running.pit("market", "rebuild").stdout
        found = keys(group, 3)
        assert json.loads(found[POSITION_KEY])["generation"] == 2
        trade(running, 2)
        running.wait_stored("market")
        wait_for(running, lambda: len(keys(group, 3)["k:BTCUSD:deals"]) == 3)
        assert days()[:2] == imported
        assert days()[-1][1:7] == ["100", "102", "102", "100", "0.003", "0.303"]
        reader = Reader(running.settings.paths.events_dir)
        deals = sum(int((frame.records["kind"] == EventKind.DEAL).sum()) for frame in reader.frames(0))
        assert deals == 3


def wait_for(running: Running, is_so: Any) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not is_so():
        assert time.monotonic() < deadline, running.logs()
        time.sleep(POLL_S)
