"""ViaBTC's keys, byte for byte; and a Redis that fails over, forgets, and does not say what it has done."""

import json
from collections.abc import Iterator
from contextlib import closing
from itertools import count
from random import Random
from threading import Thread
from typing import Any

import pytest
from redis.exceptions import ConnectionError as Disconnected

from bus import catalog
from bus.catalog import Catalog
from bus.messages import QueryKind
from bus.sentinels import Address
from bus.text import halves
from conf import markets
from conf.settings import MarketData
from engine.exchange import Exchange
from market import redis_store
from market.board import Board
from market.candles import WIDE_MAX
from market.redis_store import POSITION_KEY, RedisStore
from market.schema import DEALS_KEPT_COUNT, Resolution
from market.store import Part, Position, StoreDown, StoreMoved, StoreWrong
from tests.golden import player
from tests.market.keeping import CATALOG, EVER, Keeping, assert_same, recomputed
from tests.market.records import assert_equal, candles, minutes, of, ticks
from tests.market.sentinels import DATABASE_COUNT, Group, dumped, sentinels

GOLDEN = player.FOLDER / "side-31" / "redis.json"
TURNS = 30
A, B, _ = CATALOG.markets
_databases = count()


@pytest.fixture(scope="module")
def group(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Group]:
    with sentinels(tmp_path_factory.mktemp("redis")) as running:
        yield running


@pytest.fixture
def database() -> int:
    """One that no other test uses."""
    number = next(_databases)
    assert number < DATABASE_COUNT
    return number


@pytest.fixture
def store(group: Group, database: int) -> Iterator[RedisStore]:
    with closing(RedisStore(group.address(database))) as store:
        yield store


def dump(group: Group, database: int) -> dict[str, Any]:
    """All keys, as in tests/golden/side-31/redis.json."""
    with group.master.client(database) as client:
        return dumped(client)


def fill(group: Group, database: int, content: dict[str, Any]) -> None:
    """The same way back."""
    with group.master.client(database) as client:
        for key, value in content.items():
            if isinstance(value, dict):
                client.hset(key, mapping=value)
            elif isinstance(value, list):
                client.rpush(key, *value)
            else:
                client.set(key, value)


def golden_catalog() -> Catalog:
    exchange = Exchange(markets.parse(player.listing(player.FOLDER / "side-31.jsonl")))
    return catalog.make(exchange.answer(QueryKind.ASSETS).records, exchange.answer(QueryKind.MARKETS).records)


def test_what_the_original_wrote_is_read_and_written_again_byte_for_byte(
    group: Group, store: RedisStore, database: int
) -> None:
    wanted = json.loads(GOLDEN.read_text())
    position = json.dumps({"number": 99, "deal_id": 24, "generation": 0})
    fill(group, database, wanted | {POSITION_KEY: position})
    loaded = store.load(golden_catalog(), EVER)
    assert loaded.position == Position(number=99, deal_id=24)
    assert sum(len(part.ticks) for part in loaded.parts) == 23  # it leaves out the first one (CONTRACT 10.1 D16)
    other = next(_databases)
    with closing(RedisStore(group.address(other))) as empty:
        empty.load(golden_catalog(), EVER)
        empty.flush(list(loaded.parts), loaded.position)
        assert dump(group, other) == wanted | {POSITION_KEY: position}
        with group.master.client(other) as client:
            client.flushdb()
        empty.rebuild(loaded.parts, loaded.position)
        assert dump(group, other) == wanted | {POSITION_KEY: position.replace('"generation": 0', '"generation": 1')}


def test_the_example_of_the_contract(group: Group, store: RedisStore, database: int) -> None:
    """CONTRACT 11.9, and an idle market (CONTRACT 4.3)."""
    pair, idle = golden_catalog().market_by_name["BTCBCH"], golden_catalog().market_by_name["SATUSD"]
    candle = candles(1510000001, volume=3 * 10**8, money=24015 * 10**16)
    for name, price in zip(("open", "close", "high", "low"), (8000, 8010, 8010, 8000), strict=True):
        candle[f"{name}_units"] = price * 10**8
    tick = ticks(2)
    tick["price_units"], tick["amount_units"], tick["time"] = 8010 * 10**8, 12 * 10**7, 1510000001
    tick["taker_side"] = 1
    store.load(golden_catalog(), EVER)
    made = Part(market=pair, last_units=8010 * 10**8, candles={Resolution.SEC: candle}, ticks=tick)
    store.flush([made, Part(market=idle)], Position(number=5, deal_id=2))
    assert dump(group, database) == {
        "k:BTCBCH:1s": {"1510000001": '["8000", "8010", "8010", "8000", "3", "24015"]'},
        "k:BTCBCH:deals": ['{"id": 2, "time": 1510000001.0, "price": "8010", "amount": "1.2", "type": "sell"}'],
        "k:BTCBCH:last": "8010.00000000",
        "k:SATUSD:last": "0",
        "k:offset": "1",
        POSITION_KEY: '{"number": 5, "deal_id": 2, "generation": 0}',
    }


def test_markets_that_have_never_traded_are_told_at_the_first_flush(
    group: Group, store: RedisStore, database: int
) -> None:
    """As the original does (CONTRACT 4.3), and once."""
    fill(group, database, {f"k:{A.name}:1m": {"60": '["1", "1", "1", "1", "1", "1"]'}})
    loaded = store.load(CATALOG, EVER)
    assert [part.market for part in loaded.parts] == [A]
    board = Board(MarketData())
    board.know(CATALOG)
    board.load(loaded)
    store.flush(*board.changed())
    idle = {f"k:{market.name}:last": "0" for market in CATALOG.markets if market is not A}
    found = dump(group, database)
    assert {key: value for key, value in found.items() if key.endswith(":last")} == idle
    board.flushed()
    assert board.changed()[0] == []
    assert [part.market for part in store.load(CATALOG, EVER).parts] == list(CATALOG.markets)


def test_candles_of_other_decimals_and_of_old_servers_are_read(group: Group, store: RedisStore, database: int) -> None:
    texts = {
        "60": '["1.239", "1e-1", "9.0e2", "0.0100000", "0.00009"]',
        "120": '["1", "1", "1", "1", "17014118346046923173168730371588410.5727", "2e-6"]',
    }
    fill(group, database, {"k:AONE:1m": texts, "k:AONE:last": "7.999"})
    loaded = store.load(CATALOG, EVER)
    found = of(loaded).candles[Resolution.MIN]
    assert found[0].item()[:5] == (60, 123, 10, 90_000, 1)
    assert found["volume_units"].tolist() == [[0, 0], [*halves(WIDE_MAX)]]
    assert found["money_units"].tolist() == [[0, 0], [2, 0]]
    assert of(loaded).last_units == 799


def test_deals_of_another_server_are_left_out(group: Group, store: RedisStore, database: int) -> None:
    """Their ids go on where it was, ours begin anew."""
    store.load(CATALOG, EVER)
    texts = {
        number: f'{{"id": {number}, "time": 1.5, "price": "1", "amount": "2", "type": "buy"}}' for number in (7, 8)
    }
    fill(group, database, {"k:AONE:deals": [texts[8], texts[7]], "k:offset": "7"})
    loaded = store.load(CATALOG, EVER)
    assert not len(of(loaded).ticks)
    assert loaded.position == Position()
    store.flush([Part(market=A, ticks=ticks(1, 2))], Position(number=4, deal_id=2))
    assert_equal(of(store.load(CATALOG, EVER)).ticks, ticks(1, 2))
    store.flush([Part(market=A, ticks=ticks(9))], Position(number=14, deal_id=9))
    assert_equal(of(store.load(CATALOG, EVER)).ticks, ticks(1, 2, 9))
    assert dump(group, database)["k:AONE:deals"][3:] == [texts[8], texts[7]]


def test_a_large_flush_is_done_at_once(group: Group, store: RedisStore, database: int) -> None:
    store.load(CATALOG, EVER)
    large = {resolution: candles(*range(0, 86_400 * 2_500, 86_400)) for resolution in Resolution}
    store.flush(
        [Part(market=A, candles=large, ticks=ticks(*range(1, DEALS_KEPT_COUNT)))], Position(number=1, deal_id=1)
    )
    with group.master.client(database) as client:
        assert client.hlen("k:AONE:1d") == 2_500
        assert client.llen("k:AONE:deals") == DEALS_KEPT_COUNT - 1


@pytest.mark.parametrize(
    ("key", "value", "part"),
    [
        ("k:AONE:1m", "text", "of another type"),
        ("k:AONE:1m", {"60": "[1]"}, "k:AONE:1m: this is no candle"),
        ("k:AONE:1m", {"60": '["1", "1", "1", "x", "1", "1"]'}, "'x' is no number"),
        ("k:AONE:1m", {"today": '["1", "1", "1", "1", "1", "1"]'}, "this is no candle"),
        ("k:AONE:deals", ["{}"], "k:AONE:deals: this is no deal"),
        ("k:AONE:last", "NaN", "k:AONE:last: 'NaN' is no number"),
        (POSITION_KEY, "12", "12"),
        (POSITION_KEY, '{"number": "12"}', "12"),
    ],
)
def test_what_is_no_market_data_is_refused(
    group: Group, store: RedisStore, database: int, key: str, value: Any, part: str
) -> None:
    fill(group, database, {key: value})
    with pytest.raises(StoreWrong, match=part):
        store.load(CATALOG, EVER)


def test_an_answer_that_was_lost_counts_once(store: RedisStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """The script was run, or was not: the next flush finds out."""
    keeping, draw, run = Keeping(store), Random(3), redis_store._run
    lost_counts = {"command": 0, "answer": 0}

    def run_and_lose(*arguments: Any) -> Any:
        lost = draw.choice(["command", "answer", None, None])
        replies = run(*arguments) if lost != "command" else None
        if lost is not None:
            lost_counts[lost] += 1
            raise Disconnected(f"the {lost} was lost")
        return replies

    monkeypatch.setattr(redis_store, "_run", run_and_lose)
    while keeping.number < TURNS:
        keeping.turn()
    assert keeping.moved_count == lost_counts["answer"] > 3
    assert keeping.down_count == sum(lost_counts.values())
    monkeypatch.undo()
    keeping.flush()
    assert_same(store.load(CATALOG, EVER), recomputed(keeping.number))


def test_a_flush_does_nothing_when_another_was_quicker(
    group: Group, store: RedisStore, database: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the look at the position and the script."""
    store.load(CATALOG, EVER)
    store.flush([Part(market=A, candles=minutes(0))], Position(number=1))
    run = redis_store._run

    def run_late(*arguments: Any) -> Any:
        monkeypatch.setattr(redis_store, "_run", run)
        with closing(RedisStore(group.address(database))) as other:
            other.fill(A, Resolution.MIN, candles(60), replace=False)
        return run(*arguments)

    monkeypatch.setattr(redis_store, "_run", run_late)
    late = [Part(market=A, candles=minutes(60, 120, price=3), ticks=ticks(1))], Position(number=2, deal_id=1)
    with pytest.raises(StoreDown, match="this moment"):
        store.flush(*late)
    with pytest.raises(StoreMoved):
        store.flush(*late)
    part = of(store.load(CATALOG, EVER))
    assert_equal(part.candles[Resolution.MIN], candles(0, 60))
    assert not len(part.ticks)


def test_nobody_there_is_told() -> None:
    address = "sentinel://127.0.0.1:1,127.0.0.1:2/nobody/0"
    with closing(RedisStore(address)) as store, pytest.raises(StoreDown, match=address):
        store.load(CATALOG, EVER)


def test_a_failover_in_the_middle_of_flushes_loses_nothing(group: Group, store: RedisStore) -> None:
    keeping = Keeping(store)
    killer = Thread(target=group.kill_master)
    for _ in range(TURNS):
        keeping.turn()
    dead = group.master
    killer.start()
    while killer.is_alive():
        keeping.turn()
    for _ in range(TURNS):
        keeping.turn()
    killer.join()
    keeping.flush()
    assert keeping.down_count > 0
    assert_same(store.load(CATALOG, EVER), recomputed(keeping.number))
    group.mend(dead)
    assert_same(store.load(CATALOG, EVER), recomputed(keeping.number))


def test_flushes_that_a_failover_loses_are_made_again(group: Group, store: RedisStore, database: int) -> None:
    """The replica becomes the master without having had the last of them."""
    keeping = Keeping(store)
    for _ in range(TURNS):
        keeping.turn()
    with group.master.client() as master:
        assert master.wait(1, 10_000) == 1
    group.part()
    for _ in range(TURNS):
        keeping.turn()
    before = keeping.number
    dead = group.kill_master()
    with group.master.client(database) as client:
        assert json.loads(client.get(POSITION_KEY) or "")["number"] < keeping.board.position.number
    keeping.turn()
    assert keeping.moved_count == 1
    assert keeping.number < before
    while keeping.number < before + TURNS:
        keeping.turn()
    assert keeping.moved_count == 1
    assert_same(store.load(CATALOG, EVER), recomputed(keeping.number))
    group.mend(dead)


def test_a_rebuild_that_broke_off_leaves_nothing_behind(group: Group, store: RedisStore, database: int) -> None:
    store.load(CATALOG, EVER)
    store.flush([Part(market=A, candles=minutes(0))], Position(number=1))

    def parts() -> Iterator[Part]:
        yield Part(market=A, candles=minutes(60, 120), ticks=ticks(1))
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        store.rebuild(parts(), Position(number=5))
    assert_equal(of(store.load(CATALOG, EVER)).candles[Resolution.MIN], candles(0))
    store.rebuild([Part(market=A, candles={Resolution.HOUR: candles(3600)})], Position(number=5))
    assert sorted(dump(group, database)) == ["k:AONE:1h", "k:AONE:last", POSITION_KEY]


def test_an_address_is_taken_apart_and_put_together() -> None:
    text = "sentinel://one:1,two:22/main/3"
    address = Address.parse(text)
    assert address == ((("one", 1), ("two", 22)), "main", 3)
    assert str(address) == text
    for wrong in ("redis://one:1/main/3", "sentinel://one:1/main", "sentinel://one/main/0"):
        with pytest.raises(ValueError, match="one"):
            Address.parse(wrong)
