"""What is exported, to the byte: columns, numbers, times, texts that a spreadsheet must not run, Parquet's types."""

import csv
import io
import sys
from collections.abc import Sequence
from decimal import Decimal

import pyarrow
import pyarrow.parquet
import pytest
from hypothesis import given
from hypothesis import strategies as st

from persist import export_parquet
from persist.export import TABLES, Row, harmless, iso_time, plain, write_csv
from persist.export_parquet import NoParquet, write_parquet
from persist.store import Change, Deal, Order

ORDER = Order(
    id=3,
    create_time=1777593600.25,
    finish_time=1777593601.000001,
    user_id=7,
    market="BTCUSD",
    source='web, "new"',
    type=1,
    side=2,
    price=Decimal("8020.00000000"),
    amount=Decimal("3.00000000"),
    taker_fee=Decimal("0.0020"),
    maker_fee=Decimal("0.0010"),
    deal_stock=Decimal("3.00000000"),
    deal_money=Decimal("24015.0000000000000000"),
    deal_fee=Decimal("0.006000000000"),
)
DEAL = Deal(
    time=1777593600.25,
    user_id=7,
    market="BTCUSD",
    deal_id=1,
    order_id=3,
    deal_order_id=1,
    side=1,
    role=2,
    price=Decimal("1e-8"),
    amount=Decimal("1.5"),
    deal=Decimal("1.5e-8"),
    fee=Decimal("0e-20"),
    deal_fee=Decimal("0.003"),
)
CHANGE = Change(
    time=1777593600.0,
    user_id=7,
    asset="BTC",
    business="withdraw",
    change=Decimal("-1.234567890123456789"),
    balance=Decimal("1E+3"),
    detail='{"id": 5, "memo": "a, b"}',
)


def as_csv(what: str, *rows: Row) -> str:
    file = io.StringIO(newline="")
    write_csv(TABLES[what].columns, rows, file)
    return file.getvalue()


def as_parquet(what: str, rows: Sequence[Row]) -> pyarrow.Table:
    file = io.BytesIO()
    write_parquet(TABLES[what].columns, lambda: iter(rows), file)
    return pyarrow.parquet.read_table(io.BytesIO(file.getvalue()))


def test_orders() -> None:
    assert as_csv("orders", ORDER) == (
        "id,create_time,finish_time,user_id,market,source,type,side,price,amount,taker_fee,maker_fee,"
        "deal_stock,deal_money,deal_fee\r\n"
        '3,2026-05-01T00:00:00.250000Z,2026-05-01T00:00:01.000001Z,7,BTCUSD,"web, ""new""",limit,buy,8020,3,0.002,'
        "0.001,3,24015,0.006\r\n"
    )


def test_deals_show_small_numbers_without_an_exponent() -> None:
    assert as_csv("deals", DEAL) == (
        "time,user_id,market,deal_id,order_id,deal_order_id,side,role,price,amount,deal,fee,deal_fee\r\n"
        "2026-05-01T00:00:00.250000Z,7,BTCUSD,1,3,1,sell,taker,0.00000001,1.5,0.000000015,0,0.003\r\n"
    )


def test_changes_show_every_decimal() -> None:
    assert as_csv("changes", CHANGE) == (
        "time,user_id,asset,business,change,balance,detail\r\n"
        "2026-05-01T00:00:00.000000Z,7,BTC,withdraw,-1.234567890123456789,1000,"
        '"{""id"": 5, ""memo"": ""a, b""}"\r\n'
    )


def test_without_rows_there_are_still_the_names() -> None:
    assert as_csv("changes") == "time,user_id,asset,business,change,balance,detail\r\n"


@given(st.decimals(allow_nan=False, allow_infinity=False))
def test_a_plain_number_is_the_same_number(number: Decimal) -> None:
    text = plain(number)
    assert Decimal(text) == number
    assert set(text) <= set("-0123456789.")
    assert "." not in text or text[-1] not in "0."
    assert text != "-0"


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t", "\r", "\n", "'"])
def test_no_text_is_a_formula(start: str) -> None:
    assert harmless(start + 'HYPERLINK("http://x")') == "'" + start + 'HYPERLINK("http://x")'


def test_numbers_keep_their_sign() -> None:
    change = CHANGE._replace(business="-1", detail="@x")
    row = as_csv("changes", change).splitlines()[1]
    assert row.startswith("2026-05-01T00:00:00.000000Z,7,BTC,'-1,-1.2345")
    assert row.endswith(",'@x")


@given(st.text())
def test_every_text_comes_back(text: str) -> None:
    written = as_csv("changes", CHANGE._replace(detail=text))
    *_, (*_, read) = csv.reader(io.StringIO(written, newline=""))
    assert read.removeprefix("'") == text
    assert not read.startswith(("=", "+", "-", "@"))


def test_bytes_that_are_no_text_are_told() -> None:
    change = CHANGE._replace(detail=b"{\xff\0}".decode("utf-8", "surrogateescape"))
    assert as_csv("changes", change).encode().endswith(b",{\\udcff\0}\r\n")
    assert as_parquet("changes", [change])["detail"].to_pylist() == ["{\\udcff\0}"]


def test_a_code_without_a_word_is_shown() -> None:
    assert ",9,buy," in as_csv("orders", ORDER._replace(type=9))


@given(st.integers(10**14, 4 * 10**15))
def test_times_are_exact_to_the_microsecond(count: int) -> None:
    text = iso_time(count / 1_000_000)
    assert text[-8:-1] == f".{count % 1_000_000:06d}"


def test_parquet_has_types_and_the_same_values() -> None:
    table = as_parquet("orders", [ORDER, ORDER._replace(id=4, side=1)])
    assert [str(kind) for kind in table.schema.types] == [
        *("int64", "timestamp[us, tz=UTC]", "timestamp[us, tz=UTC]", "int64", "string", "string", "string", "string"),
        *["decimal128(38, 18)"] * 7,
    ]
    first, second = table.to_pylist()
    assert (first["side"], second["side"], first["type"], first["source"]) == ("buy", "sell", "limit", 'web, "new"')
    assert first["finish_time"].isoformat() == "2026-05-01T00:00:01.000001+00:00"
    assert [first[name] for name in ORDER._fields[8:]] == list(ORDER[8:])


@pytest.mark.parametrize(
    ("number", "kind"),
    [
        ("1.5", "decimal128(38, 18)"),
        ("0.00000000000000000001", "decimal128(38, 20)"),
        ("0.0000000000000000000001", "decimal128(38, 24)"),
        ("1e-30", "decimal128(38, 30)"),
        ("100000000000000000000.5", "decimal256(76, 48)"),
        ("1e-48", "decimal256(76, 48)"),
        ("1e-49", "string"),
        ("1e30", "string"),
    ],
)
def test_parquet_takes_the_type_that_holds_every_number(
    number: str, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(export_parquet, "GROUP_ROW_COUNT", 2)
    rows = [CHANGE._replace(change=Decimal(each)) for each in ("0.5", "-1.25", "3", number)]
    table = as_parquet("changes", rows)
    assert str(table.schema.field("change").type) == kind
    assert [Decimal(each) for each in table["change"].to_pylist()] == [row.change for row in rows]


def test_parquet_is_written_group_by_group(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(export_parquet, "GROUP_ROW_COUNT", 10)
    file = io.BytesIO()
    write_parquet(TABLES["deals"].columns, lambda: (DEAL._replace(deal_id=number) for number in range(35)), file)
    written = pyarrow.parquet.ParquetFile(file)
    assert [written.metadata.row_group(place).num_rows for place in range(4)] == [10, 10, 10, 5]
    assert written.read()["deal_id"].to_pylist() == list(range(35))


def test_parquet_without_rows_has_the_columns() -> None:
    assert as_parquet("deals", []).column_names == list(Deal._fields)


def test_without_pyarrow_it_is_told_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(NoParquet, match=r"`scripts/install parquet` .* --format csv needs nothing"):
        write_parquet(TABLES["deals"].columns, lambda: iter([DEAL]), io.BytesIO())
