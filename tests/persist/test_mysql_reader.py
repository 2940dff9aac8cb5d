"""The reader of MySQL: what it finds is what is there for that question, in the order of CONTRACT 3."""

import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from itertools import accumulate
from typing import Any

import pytest

from conf.settings import History, Settings
from persist import mysql_reader
from persist.mysql_address import parse
from persist.mysql_link import connected
from persist.mysql_reader import MySqlReader
from persist.mysql_store import MySqlWriter
from persist.store import Page, StoreDown, Times
from supervisor.bench.mariadb import MariaDb
from tests.engine.flows import USERS
from tests.persist import making
from tests.persist.events import TIME_S, update_frame
from tests.persist.mariadb import ask, settings_of
from tests.persist.plain_reader import PlainReader
from tests.reference.history import history_of

ALWAYS, ALL = Times(0, 0), Page(0, 100_000)
MARKETS = ("BTCUSD", "ETHUSD", "XYZUSDT", "", "btcusd", "BTCUSD ")
SOME_TIMES = (ALWAYS, Times(1_700_000_002, 0), Times(0, 1_700_086_403), Times(1_700_000_001, 1_700_100_000))
SOME_PAGES = (Page(0, 1), Page(3, 4), Page(0, 101), Page(10**9, 5), Page(2**63 - 1, 1), Page(-1, 9))


@pytest.fixture
def filled(mysql_settings: Settings) -> Iterator[tuple[MySqlReader, PlainReader]]:
    """A reader of a history, and one of the same from the twin."""
    frames, catalog = making.random_play(11, steps=120)
    with closing(MySqlWriter(mysql_settings)) as writer:
        writer.open()
        writer.write(frames, catalog)
    with closing(MySqlReader(mysql_settings)) as reader:
        yield reader, PlainReader(history_of(frames, catalog))


@pytest.mark.parametrize("times", SOME_TIMES)
def test_changes(filled: tuple[MySqlReader, PlainReader], times: Times) -> None:
    reader, plain = filled
    for user in (*USERS, 4):
        for asset in ("", "USD", "XYZ", "usd", "USD ", "NONE"):
            for business in ("", "trade", "deposit", "Trade", "none"):
                asked = (user, asset, business, times, ALL)
                assert reader.changes(*asked) == plain.changes(*asked)


@pytest.mark.parametrize("times", SOME_TIMES)
def test_orders(filled: tuple[MySqlReader, PlainReader], times: Times) -> None:
    reader, plain = filled
    for user in USERS:
        for market in MARKETS:
            for side in (0, 1, 2):
                asked = (user, market, side, times, ALL)
                assert reader.orders(*asked) == plain.orders(*asked)


def test_orders_by_id_and_deals(filled: tuple[MySqlReader, PlainReader]) -> None:
    reader, plain = filled
    for order_id in range(300):
        assert reader.order(order_id) == plain.order(order_id)
        assert reader.deals_of_order(order_id, ALL) == plain.deals_of_order(order_id, ALL)
    for user in USERS:
        for market in MARKETS:
            assert reader.deals_of_user(user, market, ALL) == plain.deals_of_user(user, market, ALL)


@pytest.mark.parametrize("page", SOME_PAGES)
def test_pages(filled: tuple[MySqlReader, PlainReader], page: Page) -> None:
    reader, plain = filled
    assert reader.changes(1, "", "", ALWAYS, page) == plain.changes(1, "", "", ALWAYS, page)
    assert reader.orders(1, "BTCUSD", 0, ALWAYS, page) == plain.orders(1, "BTCUSD", 0, ALWAYS, page)
    assert reader.deals_of_user(1, "BTCUSD", page) == plain.deals_of_user(1, "BTCUSD", page)
    assert reader.deals_of_order(1, page) == plain.deals_of_order(1, page)


@pytest.mark.parametrize(("chunk", "run"), [(20_000, 200_000), (300, 7)])
def test_exports(
    filled: tuple[MySqlReader, PlainReader], monkeypatch: pytest.MonkeyPatch, chunk: int, run: int
) -> None:
    monkeypatch.setattr(mysql_reader, "CHUNK_COUNT", chunk)
    monkeypatch.setattr(mysql_reader, "RUN_COUNT", run)
    reader, plain = filled
    for times in SOME_TIMES[::3]:
        for user in (0, 1):
            for market in ("", "BTCUSD", "none"):
                asked = (user, market, times)
                assert list(reader.all_orders(*asked)) == list(plain.all_orders(*asked))
                assert list(reader.all_deals(*asked)) == list(plain.all_deals(*asked))
        for user in USERS:
            assert list(reader.all_changes(user, "USD", times)) == list(plain.all_changes(user, "USD", times))


def test_an_export_of_all_changes_is_by_time_and_by_user_as_it_was(filled: tuple[MySqlReader, PlainReader]) -> None:
    reader, plain = filled
    changes = list(reader.all_changes(0, "", ALWAYS))
    assert sorted(changes, key=lambda row: row.user_id) == list(plain.all_changes(0, "", ALWAYS))
    latest = list(accumulate((row.time for row in changes), max))
    went_back_s = max(before - row.time for before, row in zip(latest, changes, strict=True))
    assert went_back_s <= 10.0, "no more than the clock did"


def test_an_export_that_is_given_up_leaves_no_connection(filled: tuple[MySqlReader, PlainReader]) -> None:
    reader, _ = filled
    deals = reader.all_deals(0, "", ALWAYS)
    first = next(deals)
    deals.close()  # type: ignore[attr-defined]  # it is a generator
    assert first.deal_id == 1


def test_questions_to_tables_of_viabtc(viabtc_settings: Settings) -> None:
    catalog = making.random_play(0, steps=1)[1]
    usd = catalog.asset_by_name["USD"]
    with closing(MySqlWriter(viabtc_settings)) as writer:
        writer.open()
        frames = [
            update_frame(1, usd, user_id=1, change=1, business="dépôt".encode()),
            update_frame(2, usd, user_id=1, change=1, before=1, business=b"DEPOT"),
        ]
        writer.write(frames, catalog)
    with closing(MySqlReader(viabtc_settings)) as reader:
        assert [row.business for row in reader.changes(1, "USD", "dépôt", ALWAYS, ALL)] == ["dépôt"]
        assert reader.changes(1, "usd", "", ALWAYS, ALL) == []
        assert reader.changes(1, "USD", "depot", ALWAYS, ALL) == []
        assert reader.changes(1, "USD", "😀", ALWAYS, ALL) == []
        (row, _) = reader.all_changes(0, "USD", ALWAYS)
        assert (row.time, row.business) == (TIME_S, "dépôt")


def test_a_table_or_a_database_that_is_missing(mysql_settings: Settings, mariadb: MariaDb) -> None:
    ask(mysql_settings, "DROP TABLE deal_history_7")
    with closing(MySqlReader(mysql_settings)) as reader:
        with pytest.raises(StoreDown, match=r"deal_history_7.*pit history init"):
            reader.deals_of_order(7, ALL)
        assert reader.deals_of_order(8, ALL) == [], "the others answer"
    elsewhere = settings_of(mariadb, mysql_settings.data_dir, "nowhere")
    with closing(MySqlReader(elsewhere)) as reader, pytest.raises(StoreDown, match="nowhere"):
        reader.order(1)


def test_it_outlives_its_server(mysql_settings: Settings, mariadb: MariaDb) -> None:
    with closing(MySqlReader(mysql_settings)) as reader:
        assert reader.order(1) is None
        mariadb.kill()
        with pytest.raises(StoreDown):
            reader.order(1)
        mariadb.start()
        assert reader.order(1) is None
        mariadb.stop()
        mariadb.start()
        assert reader.order(1) is None, "a connection that has died unnoticed is made anew at once"


def test_an_idle_connection_that_was_closed_is_made_anew(mysql_settings: Settings) -> None:
    with closing(MySqlReader(mysql_settings)) as reader:
        assert reader.order(1) is None
        for (number,) in ask(
            mysql_settings, "SELECT id FROM information_schema.processlist WHERE id < CONNECTION_ID()"
        ):
            ask(mysql_settings, f"KILL {number}")
        assert reader.order(1) is None


@contextmanager
def locked(settings: Settings, table: str) -> Iterator[None]:
    """Nobody else can read a table meanwhile."""
    is_locked, is_over = threading.Event(), threading.Event()

    def hold() -> None:
        address = parse(settings.history.store)
        with connected(address, timeout_s=60) as connection, connection.cursor() as cursor:
            cursor.execute(f"LOCK TABLES {address.database}.{table} WRITE")
            is_locked.set()
            is_over.wait(60)

    holder = threading.Thread(target=hold)
    holder.start()
    assert is_locked.wait(60)
    try:
        yield
    finally:
        is_over.set()
        holder.join()


def test_a_question_has_its_time(mysql_settings: Settings) -> None:
    settings = replace(mysql_settings, history=History(store=mysql_settings.history.store, query_timeout_s=0.2))
    with closing(MySqlReader(settings)) as reader:
        assert reader.order(1) is None
        with locked(settings, "order_detail_1"), pytest.raises(StoreDown, match="max_statement_time"):
            reader.order(1)
        assert reader.order(1) is None


def test_who_may_not_read_is_told(mysql_settings: Settings, mariadb: MariaDb) -> None:
    ask(mysql_settings, "CREATE OR REPLACE USER reader@'127.0.0.1' IDENTIFIED BY 'p@:/ß'")
    store = f"mysql://reader:p%40%3A%2F%C3%9F@127.0.0.1:{mariadb.port}/trade_history"
    with closing(MySqlReader(replace(mysql_settings, history=History(store=store)))) as reader:
        with pytest.raises(StoreDown, match=r"denied.*GRANT"):
            reader.order(1)
        ask(mysql_settings, "GRANT SELECT ON trade_history.* TO reader@'127.0.0.1'")
        assert reader.order(1) is None


@pytest.mark.parametrize("make", [MySqlReader, MySqlWriter])
def test_nobody_is_there(mysql_settings: Settings, make: Callable[[Settings], Any]) -> None:
    settings = replace(mysql_settings, history=History(store="mysql://u:secret@127.0.0.1:1/d"))
    with closing(make(settings)) as party, pytest.raises(StoreDown, match=r"u@127\.0\.0\.1:1/d") as raised:
        party.order(1) if make is MySqlReader else party.open()
    assert "secret" not in str(raised.value)
