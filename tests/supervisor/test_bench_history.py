"""What the benchmarks of history and market data count and name; and their private MariaDB."""

from pathlib import Path

import numpy as np
import pymysql
import pytest

from bus.eventlog import Writer
from bus.messages import EventKind, pack
from engine.exchange import Exchange
from supervisor.bench import market, orders
from supervisor.bench.mariadb import MariaDb, NoMariaDb, private
from supervisor.bench.stored import Counts, passed, rows_of
from supervisor.bench.trading import finished_ids
from tests.engine.opened import all_accepted
from tests.persist.making import random_play
from tests.reference.history import History


@pytest.mark.parametrize("seed", range(3))
def test_rows_are_counted_as_the_original_writes_them(seed: int) -> None:
    frames, catalog = random_play(seed)
    history = History(catalog)
    written = 0
    for frame in frames:
        history.add(frame)
        before, written = written, sum(map(len, history.tables.values()))
        assert int(rows_of(frame.records).sum()) == written - before
    assert written > 100


def test_any_part_of_the_event_log_is_counted(tmp_path: Path) -> None:
    frames, _ = random_play(4)
    log = Writer(tmp_path, segment_size=1 << 22)
    for frame in frames:
        log.append(pack(frame.kind, frame.records, frame.blob, first=frame.first))
    log.mark_durable(log.last_number)
    log.close()

    events = np.concatenate([frame.records for frame in frames])
    everything = passed(tmp_path, 0, len(events))
    for after_number, number in ((0, len(events)), (0, 0), (5, 6), (7, 40), (40, 40)):
        part = events[after_number:number]
        trade_count = int((part["kind"] == EventKind.DEAL).sum())
        expected = Counts(trade_count, int(rows_of(part).sum()), number - after_number)
        assert everything.between(after_number, number) == expected
    later = passed(tmp_path, 7, 40)
    assert later.between(7, 40) == everything.between(7, 40)
    assert later.between(11, 30) == everything.between(11, 30)


def test_the_load_trades_in_every_market() -> None:
    flow = orders.trading(1_000, 1, len(orders.LISTING.markets))
    assert set(flow["market"].tolist()) == {0, 1, 2}
    exchange = Exchange(orders.LISTING)
    assert all_accepted(exchange.apply(orders.funding(), 1.0, blob_size=len(orders.DETAIL)).results)
    results = exchange.apply(flow, 1.0).results
    assert all_accepted(results)
    finished = finished_ids(results)
    assert 100 < len(finished) < 1_000
    by_id = {int(order["id"]): order for order in results["order"]}
    assert all(by_id[id_]["left_units"] == 0 and by_id[id_]["deal_stock_units"].any() for id_ in finished)


def test_a_private_mariadb_keeps_what_is_committed_when_it_is_killed(tmp_path: Path) -> None:
    with private(tmp_path / "server", ["--innodb-buffer-pool-size=16M"]) as server:
        with pymysql.connect(**server.account) as connection, connection.cursor() as cursor:
            cursor.execute("SELECT @@innodb_flush_log_at_trx_commit, @@innodb_buffer_pool_size, CURRENT_USER()")
            assert cursor.fetchone() == (1, 16 << 20, "tradepit@127.0.0.1")
            cursor.execute("CREATE DATABASE trade_history")
            cursor.execute("CREATE TABLE trade_history.t (a INT)")
            cursor.execute("INSERT INTO trade_history.t VALUES (7)")
            connection.commit()
        server.kill()
        with pytest.raises(pymysql.err.OperationalError):
            pymysql.connect(**server.account)
        server.start()
        with pymysql.connect(**server.account) as connection, connection.cursor() as cursor:
            cursor.execute("SELECT a FROM trade_history.t")
            assert cursor.fetchall() == ((7,),)


def test_a_mariadb_that_does_not_start_says_why(tmp_path: Path) -> None:
    server = MariaDb(tmp_path / "server", ["--no-such-option"])
    server.install()
    with pytest.raises(NoMariaDb, match="no-such-option"):
        server.start()


def test_the_market_benchmark_finds_what_it_names() -> None:
    rows = market.run(quick=True).rows
    assert [row.unit for row in rows] == ["deals/s"] * 2 + ["ms"] * 6
    assert all(row.value > 0 for row in rows)
