"""Texts that traders and operators choose come back from MySQL as they were, and do nothing on their way there."""

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from bus.messages import DETAIL_MAX, TEXT_MAX, Frame
from conf.markets import parse
from conf.settings import Settings
from engine.exchange import Exchange
from persist.mysql_reader import MySqlReader
from persist.mysql_rows import literal
from persist.mysql_store import MySqlWriter
from persist.store import Page, Times
from tests.engine.driver import SMALL
from tests.engine.opened import all_accepted, deposits, puts
from tests.persist import making
from tests.persist.events import finish_frame, update_frame
from tests.persist.mariadb import ask, emptied, stored, wanted
from tests.reference.history import history_of

ALWAYS, ALL = Times(0, 0), Page(0, 101)
SPECIAL = (
    "", " ", "''", '"', "\\", "\\'", "%", "%s %(x)s", "{}", "\0", "a\0b", "\n\r\t\x1a", "`", ";", "--", "/*", "NULL",
    "ä", "☃ 日本", "😀" * 7, "e\u0301", "\ufffd", "x" * TEXT_MAX, "ß", "\u2028", "\x7f", "'); --", "' OR 1=1; -- ",
    "\\'); DROP TABLE x;--", "_utf8mb4 X'00'",
)  # fmt: skip
PRINTABLE = "".join(chr(code) for code in range(32, 0x250) if chr(code).isprintable())
INJECTION = "{}'); DROP TABLE balance_history_1; INSERT INTO balance_history_1 VALUES (NULL, 1, 1, '', '', 0, 0, '"


def short_texts() -> list[bytes]:
    """Businesses and sources: special ones, and every printable character of the first pages of Unicode."""
    pieces = [PRINTABLE[start : start + 15] for start in range(0, len(PRINTABLE), 15)]
    texts = [text.encode() for text in (*SPECIAL, *pieces)]
    assert max(map(len, texts)) <= TEXT_MAX
    return texts


def test_every_text_comes_back(mysql_settings: Settings) -> None:
    catalog = making.random_play(0, steps=1)[1]
    usd = catalog.asset_by_name["USD"]
    details = [b"\xff\xfe\x80 no text", INJECTION.encode(), PRINTABLE.encode() * 9, b"'" * DETAIL_MAX, b"\xff" * 8192]
    frames: list[Frame] = []
    for text in short_texts():
        number = len(frames) + 1
        frames.append(update_frame(number, usd, user_id=number, change=1, business=text, detail=text))
        frames.append(finish_frame(number + 1, number + 1, market=0, user_id=number, source=text))
    for detail in details:
        number = len(frames) + 1
        frames.append(update_frame(number, usd, user_id=number, change=1, detail=detail))
    writer = MySqlWriter(mysql_settings)
    writer.open()
    writer.write(frames, catalog)
    writer.close()
    assert stored(mysql_settings) == wanted(history_of(frames, catalog).tables)


@pytest.mark.parametrize("mode", ["NO_BACKSLASH_ESCAPES", "ANSI_QUOTES,PIPES_AS_CONCAT", "TRADITIONAL"])
def test_they_do_whatever_mode_the_server_is_in(mysql_settings: Settings, mode: str) -> None:
    (before,) = ask(mysql_settings, "SELECT @@GLOBAL.sql_mode")
    ask(mysql_settings, f"SET GLOBAL sql_mode = '{mode}'")
    try:
        test_every_text_comes_back(mysql_settings)
    finally:
        ask(mysql_settings, f"SET GLOBAL sql_mode = '{before[0]}'")


@hypothesis_settings(max_examples=10, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(texts=st.lists(st.tuples(st.binary(max_size=TEXT_MAX), st.binary(max_size=100)), min_size=1, max_size=20))
def test_so_does_any_string_of_bytes(mysql_settings: Settings, texts: list[tuple[bytes, bytes]]) -> None:
    catalog = making.random_play(0, steps=1)[1]
    usd = catalog.asset_by_name["USD"]
    frames = [
        update_frame(number, usd, user_id=number, change=1, business=business, detail=detail)
        for number, (business, detail) in enumerate(texts, start=1)
    ]
    emptied(mysql_settings)
    writer = MySqlWriter(mysql_settings)
    writer.open()
    writer.write(frames, catalog)
    writer.close()
    assert stored(mysql_settings) == wanted(history_of(frames, catalog).tables)


def test_a_text_is_one_literal(mysql_settings: Settings) -> None:
    texts = (*SPECIAL, "'\\\"", INJECTION)
    assert ask(mysql_settings, f"SELECT {', '.join(map(literal, texts))}") == [texts]


def test_names_of_assets_and_markets_are_texts_too(mysql_settings: Settings) -> None:
    names = ("U'S\\D", "日本€", "'; DROP --\\\"")
    listing = parse({
        "assets": [{"name": name, "prec_save": 20, "prec_show": 8} for name in names[:2]],
        "markets": [{"name": names[2], "stock": {"name": names[1], "prec": 8}, "money": {"name": names[0], "prec": 8}}],
    })
    exchange = Exchange(listing, SMALL)
    frames = []
    for commands in (deposits(), puts(10)):
        results, events, _ = exchange.apply(commands, 1_700_000_000.5)
        assert all_accepted(results)
        frames.append(making.frame_of(events.copy()))
    catalog = making.catalog_of(exchange)
    writer = MySqlWriter(mysql_settings)
    writer.open()
    writer.write(frames, catalog)
    writer.close()
    assert stored(mysql_settings) == wanted(history_of(frames, catalog).tables)
    reader = MySqlReader(mysql_settings)
    assert {row.market for row in reader.deals_of_user(1, names[2], ALL)} == {names[2]}
    assert {row.asset for row in reader.changes(1, names[1], "trade", ALWAYS, ALL)} == {names[1]}
    reader.close()


@pytest.mark.parametrize("text", ["' OR '1'='1", "\\' OR 1=1 -- ", "x' UNION SELECT 1,2,3,4,5 -- ", "%", "_", "😀"])
def test_a_question_asks_for_its_text_only(mysql_settings: Settings, text: str) -> None:
    catalog = making.random_play(0, steps=1)[1]
    usd = catalog.asset_by_name["USD"]
    frames = [
        update_frame(1, usd, user_id=1, change=1, business=b"deposit"),
        update_frame(2, usd, user_id=1, change=1, before=1, business=text.encode()),
    ]
    writer = MySqlWriter(mysql_settings)
    writer.open()
    writer.write(frames, catalog)
    writer.close()
    reader = MySqlReader(mysql_settings)
    assert [row.business for row in reader.changes(1, "", text, ALWAYS, ALL)] == [text]
    assert reader.changes(1, text, "", ALWAYS, ALL) == []
    assert reader.orders(1, text, 0, ALWAYS, ALL) == []
    reader.close()
