"""The SQLite store: its answers are what the twin's tables say, in whatever parts it was written and is asked."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path
from random import Random

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings

from bus.catalog import Catalog
from bus.messages import Frame
from conf.settings import Settings, load
from persist import sqlite_export, sqlite_schema
from persist.sqlite_reader import SqliteReader
from persist.sqlite_store import SqliteWriter
from persist.store import Order, Page, Times
from tests.engine.flows import START_S, USERS, Step, flows
from tests.persist.answers import ALWAYS, EVERYTHING, compare, compare_exports, same, times_of, without_market
from tests.persist.events import TIME_S, finish_frame, update_frame
from tests.persist.making import in_parts, played, random_play
from tests.persist.plain_reader import PlainReader
from tests.reference.history import History, history_of


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Of an exchange whose history is to be in a file."""
    return load(None, tmp_path)


def written(settings: Settings, parts: Sequence[Sequence[Frame]], catalog: Catalog) -> int:
    """Store frames, each part in a transaction; return the number of the last event stored."""
    writer = SqliteWriter(settings)
    writer.open()
    for part in parts:
        writer.write(part, catalog)
    number = writer.open()
    writer.close()
    return number


def stored(
    settings: Settings, frames: list[Frame], catalog: Catalog, seed: int = 0
) -> tuple[SqliteReader, PlainReader]:
    """Store frames in some parts; return who knows them and who must know the same."""
    assert written(settings, list(in_parts(frames, seed)), catalog) == frames[-1].first + len(frames[-1].records) - 1
    return SqliteReader(settings), PlainReader(history_of(frames, catalog))


@pytest.mark.parametrize("seed", range(3))
def test_everything_is_answered_as_the_twin_has_it(settings: Settings, seed: int) -> None:
    reader, plain = stored(settings, *random_play(seed, steps=60), seed)
    compare(reader, plain)
    compare_exports(reader, plain)
    assert list(plain.all_orders(0, "", ALWAYS))
    reader.close()


def test_so_it_is_for_any_time(settings: Settings) -> None:
    frames, catalog = random_play(3, steps=60)
    reader, plain = stored(settings, frames, catalog)
    compare(reader, plain, times_of(frames))
    compare_exports(reader, plain, times_of(frames))
    reader.close()


@hypothesis_settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=flows())
def test_so_it_is_whatever_traders_do(settings: Settings, monkeypatch: pytest.MonkeyPatch, steps: list[Step]) -> None:
    """In runs of a few entries, and in chunks of a few rows."""
    monkeypatch.setattr(sqlite_schema, "RUN_ENTRY_COUNT", 5)
    monkeypatch.setattr(sqlite_export, "CHUNK_COUNT", 2)
    monkeypatch.setattr(sqlite_export, "CHUNK_MOST", 7)
    monkeypatch.setattr(sqlite_export, "IDS_COUNT", 2)
    settings.paths.history_file.unlink(missing_ok=True)
    reader, plain = stored(settings, *played(steps))
    compare(reader, plain)
    compare_exports(reader, plain)
    reader.close()


def test_answers_grow_with_what_is_written(settings: Settings) -> None:
    frames, catalog = random_play(12)
    history, writer, reader = History(catalog), SqliteWriter(settings), SqliteReader(settings)
    plain = PlainReader(history)
    writer.open()
    for frame in frames:
        writer.write([frame], catalog)
        history.add(frame)
        for user in USERS:
            same(*(each.changes(user, "", "", ALWAYS, Page(0, 20)) for each in (reader, plain)))
            same(*(each.orders(user, "BTCUSD", 0, ALWAYS, Page(0, 20)) for each in (reader, plain)))
    writer.close()
    reader.close()


def test_pages_are_parts_of_the_whole(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite_schema, "RUN_ENTRY_COUNT", 100)
    frames, catalog = random_play(8, steps=100)
    reader, plain = stored(settings, frames, catalog)
    pick = Random(1).randrange
    whole = len(plain.changes(1, "", "", ALWAYS, EVERYTHING))
    assert whole > 150
    pages = [Page(pick(whole + 10), 1 + pick(101)) for _ in range(100)]
    for page in [*pages, Page(0, 1), Page(-1, 10), Page(-(2**63), 101), Page(2**63 - 1, 101), Page(whole, 1)]:
        for asset in ("", "BTC", "USD"):
            same(*(each.changes(1, asset, "", ALWAYS, page) for each in (reader, plain)))
        same(*(each.orders(1, "BTCUSD", 0, ALWAYS, page) for each in (reader, plain)))
        same(*(each.deals_of_user(1, "BTCUSD", page) for each in (reader, plain)))
    busy = max(plain.all_orders(0, "", ALWAYS), key=lambda order: len(plain.deals_of_order(order.id, EVERYTHING)))
    for offset, limit in product(range(-1, 6), range(1, 4)):
        found = reader.deals_of_order(busy.id, Page(offset, limit))
        same([without_market(deal) for deal in found], plain.deals_of_order(busy.id, Page(offset, limit)))
    reader.close()


def test_a_page_is_found_without_sorting_and_without_a_look_at_the_rest(settings: Settings) -> None:
    """What SQLite plans for each statement: by keys, in their order; only the few runs are all looked at."""
    reader, plain = stored(settings, *random_play(9))
    connection = reader._link._connected()
    statements: list[str] = []
    connection.set_trace_callback(statements.append)
    compare(reader, plain, [Times(int(START_S), 0)])
    for chunks in (
        reader.all_deals(1, "", ALWAYS),
        reader.all_changes(0, "BTC", ALWAYS),
        reader.all_orders(0, "", ALWAYS),
    ):
        list(chunks)
    connection.set_trace_callback(None)
    plans = {
        step[3]
        for statement in set(statements)
        if statement.startswith("SELECT")
        for step in connection.execute(f"EXPLAIN QUERY PLAN {statement}")
    }
    assert any("PRIMARY KEY (run=? AND user_id=? AND number>? AND number<?)" in step for step in plans)
    assert not [step for step in plans if "TEMP B-TREE" in step]
    scanned = {step.split()[1] for step in plans if step.startswith("SCAN")}
    assert scanned <= {"run", "asset", "market", "CONSTANT"}, "small tables only"
    reader.close()


def test_texts_are_what_was_sent_whatever_it_was(settings: Settings) -> None:
    catalog = random_play(0, steps=1)[1]
    usd = catalog.asset_by_name["USD"]
    texts = [
        b"",
        b"\0",
        b"a\0b",
        b"it's",
        b'"',
        b"'; DROP TABLE deal; --",
        "☃ 日本 😀".encode(),
        b"?1",
        b":run",
        b"%s",
        b"\\",
    ]
    broken = [b"\xff\xfe", b"a\xc3", b"\xed\xa0\x80", b"\0\xff\0"]
    frames = [
        update_frame(2 * place + 1, usd, user_id=1, change=1, business=text[:30], detail=text * 3)
        for place, text in enumerate([*texts, *broken])
    ]
    frames = [
        frame
        for place, (update, text) in enumerate(zip(frames, [*texts, *broken], strict=True))
        for frame in (update, finish_frame(2 * place + 2, place + 1, market=0, user_id=1, source=text[:30]))
    ]
    assert written(settings, [frames[:5], frames[5:]], catalog) == len(frames)
    reader = SqliteReader(settings)
    changes = reader.changes(1, "", "", ALWAYS, EVERYTHING)
    orders = reader.orders(1, "BTCUSD", 0, ALWAYS, EVERYTHING)
    due = [text.decode("utf-8", "replace") for text in reversed([*texts, *broken])]
    assert [change.business for change in changes] == [order.source for order in orders] == due
    assert [change.detail for change in changes] == [
        (text * 3).decode("utf-8", "replace") for text in reversed([*texts, *broken])
    ]
    for text in texts[1:]:
        found = reader.changes(1, "USD", text.decode(), ALWAYS, EVERYTHING)
        assert [change.business for change in found] == [text.decode()]
    assert list(reader.all_changes(0, "", ALWAYS)) == changes[::-1]
    reader.close()


def test_numbers_of_any_size_are_exact(settings: Settings) -> None:
    catalog = random_play(0, steps=1)[1]
    sizes = [0, 1, -1, 2**63 - 1, 2**63, -(2**63), -(2**63) - 1, 2**64, -(2**64), 10**37 - 1, 1 - 10**37]
    asset = replace(catalog.asset_by_index[5], prec_save=12, prec_show=12, hidden_power=1)
    named = replace(catalog, asset_by_index=(*catalog.asset_by_index[:5], asset, *catalog.asset_by_index[6:]))
    frames = [update_frame(place, asset, user_id=1, change=size, before=-1) for place, size in enumerate(sizes, 1)]
    written(settings, [frames], named)
    reader = SqliteReader(settings)
    changes = reader.changes(1, asset.name, "", ALWAYS, EVERYTHING)[::-1]
    assert [str(change.change) for change in changes] == [shown(size) for size in sizes]
    assert [str(change.balance) for change in changes] == [shown(size - 1) for size in sizes]
    reader.close()


def shown(units: int) -> str:
    """As a decimal with 12 places shows itself."""
    if units == 0:
        return "0E-12"
    if abs(units) < 10:
        return f"{units}E-12"
    sign, digits = ("-" if units < 0 else ""), str(abs(units)).rjust(13, "0")
    return f"{sign}{digits[:-12]}.{digits[-12:]}"


def test_a_file_tells_what_its_numbers_mean(settings: Settings) -> None:
    frames, catalog = random_play(2)
    reader, _ = stored(settings, frames, catalog)
    connection = sqlite_schema.connect(settings.paths.history_file, must_exist=True, timeout_s=1)
    deals = connection.execute(
        """SELECT deal_id, stock.name, money.name, market.name, price_units, money_prec FROM deal
        JOIN market ON market.id = deal.market JOIN asset stock ON stock.id = market.stock
        JOIN asset money ON money.id = market.money ORDER BY deal_id"""
    ).fetchall()
    markets = catalog.market_by_name
    assert [deal[0] for deal in deals] == list(range(1, len(deals) + 1))
    for _, stock, money, market, _, money_prec in deals:
        assert (stock, money) == (markets[market].stock.name, markets[market].money.name)
        assert money_prec == markets[market].money_prec
    connection.close()
    reader.close()


def test_there_is_nothing_before_there_is_a_file_and_then_what_is_in_it(settings: Settings) -> None:
    reader = SqliteReader(settings)
    compare(reader, PlainReader(history_of([], random_play(0, steps=1)[1])))
    assert not settings.paths.history_file.exists()
    settings.paths.history_file.touch()
    assert reader.order(1) is None, "it is being made"
    frames, catalog = random_play(4)
    compare(reader, stored(settings, frames, catalog)[1])
    settings.paths.history_file.rename(settings.data_dir / "old.db")
    assert reader.changes(1, "", "", ALWAYS, EVERYTHING) == []
    written(settings, [[update_frame(1, catalog.asset_by_index[0], user_id=1, change=1)]], catalog)
    [change] = reader.changes(1, "", "", ALWAYS, EVERYTHING)
    assert change.time == TIME_S
    reader.close()


def test_names_that_are_listed_later_are_known(settings: Settings) -> None:
    _, catalog = random_play(0, steps=1)
    asset_count, market_count = 4, 1
    before = replace(
        catalog,
        asset_by_index=catalog.asset_by_index[:asset_count],
        market_by_index=catalog.market_by_index[:market_count],
    )
    first = update_frame(1, catalog.asset_by_index[0], user_id=1, change=1)
    later = [
        update_frame(2, catalog.asset_by_index[-1], user_id=1, change=2),
        finish_frame(3, 1, market=len(catalog.market_by_index) - 1, user_id=1, source=b"web"),
    ]
    writer, reader = SqliteWriter(settings), SqliteReader(settings)
    writer.open()
    writer.write([first], before)
    assert len(reader.changes(1, "", "", ALWAYS, EVERYTHING)) == 1
    writer.write(later, catalog)
    newest = reader.changes(1, "", "", ALWAYS, Page(0, 1))
    assert [change.asset for change in newest] == [catalog.asset_by_index[-1].name]
    assert isinstance(order := reader.order(1), Order)
    assert order.market == catalog.market_by_index[-1].name
    writer.close()
    reader.close()
