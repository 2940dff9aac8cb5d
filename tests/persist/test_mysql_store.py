"""The writer of MySQL: what it stores is what the twin of the tables says, or the operator hears why not."""

from collections.abc import Sequence
from dataclasses import replace
from decimal import ROUND_HALF_UP, Decimal, localcontext
from typing import Any

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings

from bus.catalog import Catalog
from bus.messages import UPDATE_EVENT, Frame
from conf.settings import Settings
from persist.mysql_rows import number
from persist.mysql_schema import POSITION_TABLE
from persist.mysql_store import MySqlWriter
from persist.store import StoreDown, StoreWrong
from tests.engine.flows import Step, flows
from tests.persist import making, viabtc
from tests.persist.events import update_frame
from tests.persist.mariadb import ask, emptied, stored, wanted
from tests.reference.history import Tables, history_of


def written(settings: Settings, parts: Sequence[Sequence[Frame]], catalog: Catalog) -> int:
    """Store these frames; return the number of the last event stored."""
    writer = MySqlWriter(settings)
    try:
        writer.open()
        for frames in parts:
            writer.write(frames, catalog)
        return writer.open()
    finally:
        writer.close()


@pytest.mark.parametrize("seed", range(3))
def test_tables_are_those_of_the_twin(mysql_settings: Settings, seed: int) -> None:
    frames, catalog = making.random_play(seed, steps=80)
    last = written(mysql_settings, list(making.in_parts(frames, seed)), catalog)
    assert last == frames[-1].first + len(frames[-1].records) - 1
    assert stored(mysql_settings) == wanted(history_of(frames, catalog).tables)


@hypothesis_settings(max_examples=10, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=flows())
def test_so_they_are_whatever_traders_do(mysql_settings: Settings, steps: list[Step]) -> None:
    frames, catalog = making.played(steps)
    emptied(mysql_settings)
    written(mysql_settings, [frames], catalog)
    assert stored(mysql_settings) == wanted(history_of(frames, catalog).tables)


def test_statements_and_packets_of_any_size_store_the_same(
    mysql_settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("persist.mysql_store.PART_SIZE", 700)
    frames, catalog = making.random_play(4)
    written(mysql_settings, [frames], catalog)
    assert stored(mysql_settings) == wanted(history_of(frames, catalog).tables)


def test_nothing_to_write_is_written(mysql_settings: Settings) -> None:
    assert written(mysql_settings, [[]], making.random_play(5, steps=1)[1]) == 0


def rounded(tables: Tables) -> Tables:
    """As the columns of ViaBTC's tables hold it: rounded half away from zero."""

    def shown(column: str, value: Any) -> Any:
        if not isinstance(value, Decimal):
            return value
        return value.quantize(Decimal(1).scaleb(-viabtc.SCALES.get(column, viabtc.SCALE)), ROUND_HALF_UP)

    with localcontext(prec=100):
        return {
            name: [{column: shown(column, value) for column, value in row.items()} for row in rows]
            for name, rows in tables.items()
        }


def test_tables_of_viabtc_are_continued_and_round_half_away_from_zero(viabtc_settings: Settings) -> None:
    columns = "(time, user_id, asset, business, `change`, balance, detail)"
    ask(viabtc_settings, f"INSERT INTO balance_history_1 {columns} VALUES (1.5, 1, 'BTC', 'deposit', 1, 1, '{{}}')")
    ((old_id,),) = ask(viabtc_settings, "SELECT id FROM balance_history_1")
    ask(viabtc_settings, "DROP TABLE deal_history_5")
    before = ask(viabtc_settings, "SHOW CREATE TABLE order_history_3")
    frames, catalog = making.random_play(6, steps=60)
    written(viabtc_settings, [frames], catalog)
    found = stored(viabtc_settings)
    assert found["balance_history_1"].pop(0)["time"] == 1.5
    assert found == rounded(wanted(history_of(frames, catalog).tables))
    assert ask(viabtc_settings, "SELECT MIN(id) FROM balance_history_1 WHERE time > 1.5") == [(old_id + 1,)], (
        "ids go on"
    )
    assert ask(viabtc_settings, "SHOW CREATE TABLE order_history_3") == before, "nothing is altered"
    assert "decimal(30,8)" in ask(viabtc_settings, "SHOW CREATE TABLE deal_history_5")[0][1], "made like the others"
    assert not viabtc_settings.paths.alerts_file.exists(), "to be rounded is no reason for an alert"


def test_what_does_not_fit_is_clipped_and_told_once(viabtc_settings: Settings) -> None:
    ask(viabtc_settings, "ALTER TABLE balance_history_7 MODIFY business VARCHAR(5) NOT NULL")
    catalog = making.random_play(0, steps=1)[1]
    pip = catalog.asset_by_name["PIP"]
    frames = [
        update_frame(1, pip, user_id=7, change=10**30, business="depot 日本".encode()),
        update_frame(2, pip, user_id=8, change=-(10**30), business="😀!".encode(), detail='{"😀": "ä"}'.encode()),
        update_frame(3, pip, user_id=8, change=5, business=b"fits"),
    ]
    written(viabtc_settings, [frames[:1], frames[1:]], catalog)
    found = stored(viabtc_settings)
    most, most_money = Decimal("9" * 22 + "." + "9" * 8), Decimal("9" * 14 + "." + "9" * 16)
    first, second, third = found["balance_history_7"] + found["balance_history_8"]
    assert (first["change"], first["balance"], first["business"]) == (most, most_money, "depot")
    assert (second["change"], second["balance"]) == (most.copy_negate(), most_money.copy_negate())
    assert (second["business"], second["detail"]) == ("?!", '{"?": "ä"}')
    assert (third["change"], third["business"]) == (5, "fits")
    alerts = viabtc_settings.paths.alerts_file.read_text().splitlines()
    assert len(alerts) == 1
    assert "balance_history_7" in alerts[0]


def test_columns_of_ours_hold_the_greatest_numbers_and_the_longest_texts(mysql_settings: Settings) -> None:
    catalog = making.random_play(0, steps=1)[1]
    most, texts = 10**37 - 1, ("😀" * 7, "😀" * 2_000)
    for user_id, prec in enumerate((2, 30), start=1):
        asset = replace(catalog.asset_by_index[0], prec_save=prec, prec_show=prec, hidden_power=1)
        frame = update_frame(
            user_id, asset, user_id=user_id, change=most, business=texts[0].encode(), detail=texts[1].encode()
        )
        written(mysql_settings, [[frame]], replace(catalog, asset_by_index=(asset,)))
        (row,) = stored(mysql_settings)[f"balance_history_{user_id}"]
        with localcontext(prec=100):
            assert row["change"] == row["balance"] == Decimal(most).scaleb(-prec)
        assert (row["business"], row["detail"]) == texts
    assert not mysql_settings.paths.alerts_file.exists()


def test_a_fee_of_more_decimals_than_mysql_has_is_rounded_half_away(mysql_settings: Settings) -> None:
    fees = ((5, 31), (-5, 31), (4, 31), (-4, 31), (15 * 10**17, 48), (-(10**40 + 499), 33))
    with localcontext(prec=100):
        exact = tuple(
            Decimal(units).scaleb(-prec).quantize(Decimal(1).scaleb(-30), ROUND_HALF_UP) for units, prec in fees
        )
    literals = ", ".join(number(units, prec) for units, prec in fees)
    assert ask(mysql_settings, f"SELECT {literals}") == [exact]


def test_a_number_is_the_same_number_there(mysql_settings: Settings) -> None:
    numbers = [
        (units, prec)
        for units in (0, 1, -1, 10, 12_345, -(10**18) + 1, 10**37 - 1, 1 - 10**37)
        for prec in (0, 1, 4, 5, 8, 16, 18, 20, 30)
    ]
    literals = ", ".join(number(units, prec) for units, prec in numbers)
    with localcontext(prec=100):
        assert ask(mysql_settings, f"SELECT {literals}") == [tuple(Decimal(u).scaleb(-p) for u, p in numbers)]


def test_an_order_that_is_there_already_is_named_and_nothing_is_stored(mysql_settings: Settings) -> None:
    frames, catalog = making.random_play(7)
    tables = wanted(history_of(frames, catalog).tables)
    order_id = tables["order_history_1"][0]["id"]
    values = f"({order_id}, 1, 1, 1, 'OLD', '', 1, 1, 1, 1, 0, 0, 1, 1, 0)"
    ask(mysql_settings, f"INSERT INTO order_history_1 VALUES {values}")
    writer = MySqlWriter(mysql_settings)
    writer.open()
    with pytest.raises(StoreWrong, match=f"order_history_1 has order {order_id} already"):
        writer.write(frames, catalog)
    assert writer.open() == 0
    writer.close()
    assert [row["market"] for rows in stored(mysql_settings).values() for row in rows] == ["OLD"]


def test_two_recorders_of_one_instance_never_double(mysql_settings: Settings) -> None:
    frames, catalog = making.random_play(8)
    one, other = MySqlWriter(mysql_settings), MySqlWriter(mysql_settings)
    assert one.open() == other.open() == 0
    one.write(frames[:2], catalog)
    with pytest.raises(StoreDown, match="somebody else"):
        other.write(frames[:1], catalog)
    assert other.open() == frames[2].first - 1
    other.write(frames[2:], catalog)
    one.close()
    other.close()
    assert stored(mysql_settings) == wanted(history_of(frames, catalog).tables)


def test_a_database_that_has_the_history_of_another_instance_is_left_alone(mysql_settings: Settings) -> None:
    catalog = making.random_play(0, steps=1)[1]
    usd = catalog.asset_by_name["USD"]
    other = replace(mysql_settings, instance=mysql_settings.instance.upper())
    assert written(other, [], catalog) == 0, "nothing yet"
    written(mysql_settings, [[update_frame(1, usd, user_id=1, change=1)]], catalog)
    with pytest.raises(StoreWrong, match=f"has the history of instance {mysql_settings.instance}: give"):
        written(other, [], catalog)
    assert written(mysql_settings, [], catalog) == 1
    ask(mysql_settings, f"DELETE FROM {POSITION_TABLE} WHERE instance = '{other.instance}'")
    ask(mysql_settings, f"UPDATE {POSITION_TABLE} SET instance = '{other.instance}'")
    assert written(other, [], catalog) == 1


def test_events_that_do_not_follow_are_refused(mysql_settings: Settings) -> None:
    frames, catalog = making.random_play(9, steps=5)
    writer = MySqlWriter(mysql_settings)
    writer.open()
    with pytest.raises(AssertionError):
        writer.write(frames[1:], catalog)
    writer.close()


def test_a_mistake_in_an_event_leaves_nothing_behind(mysql_settings: Settings) -> None:
    frames, catalog = making.random_play(10)
    unlisted = frames[-1].records.copy()
    unlisted["market"] = unlisted.view(UPDATE_EVENT)["asset"] = 1_000_000
    frames[-1] = making.frame_of(unlisted)
    writer = MySqlWriter(mysql_settings)
    writer.open()
    with pytest.raises(IndexError):
        writer.write(frames, catalog)
    with pytest.raises(StoreDown, match="not connected"):
        writer.write(frames, catalog)
    assert writer.open() == 0
    writer.close()
    assert stored(mysql_settings) == {}
