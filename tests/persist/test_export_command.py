"""`pit history export` from both stores, against a plain twin of the tables."""

import csv
import io
import os
import signal
from contextlib import nullcontext
from dataclasses import replace
from datetime import datetime
from decimal import ROUND_HALF_UP, Context, Decimal
from pathlib import Path
from typing import Any

import pyarrow.parquet
import pytest
from click.testing import CliRunner, Result

from bus.messages import OrderType, Side
from conf.settings import Settings, load
from persist import export_command
from persist.commands import history
from persist.export_command import moment
from persist.opening import SQLITE, writer_of
from tests.persist.making import random_play
from tests.reference.history import MAKER, TAKER, History

FAMILIES = {"orders": "order_history", "deals": "user_deal_history", "changes": "balance_history"}
WORDS: dict[str, dict[str, int]] = {
    "side": {"sell": Side.ASK, "buy": Side.BID},
    "type": {"limit": OrderType.LIMIT, "market": OrderType.MARKET},
    "role": {"maker": MAKER, "taker": TAKER},
}
TIMES = ("time", "create_time", "finish_time")
TEXTS = ("market", "asset", "source", "business", "detail")
MYSQL_DECIMALS = Decimal(1).scaleb(-30)  # it keeps no more
EXACT = Context(prec=200)

Row = dict[str, Any]


@pytest.fixture(params=["sqlite", "mysql"])
def settings(request: pytest.FixtureRequest, tmp_path: Path) -> Settings:
    """Of an exchange with an empty history."""
    if request.param == "mysql":
        return request.getfixturevalue("mysql_settings")  # type: ignore[no-any-return]
    return replace(load(None, tmp_path / "data"), instance="exported")


@pytest.fixture
def told(settings: Settings) -> History:
    """A history that is stored there."""
    frames, catalog = random_play(11, steps=60)
    settings.paths.make()
    writer = writer_of(settings)
    try:
        assert writer.open() == 0
        writer.write(frames, catalog)
    finally:
        writer.close()
    twin = History(catalog)
    for frame in frames:
        twin.add(frame)
    return twin


def export(settings: Settings, *arguments: str) -> Result:
    """Run it on these settings; wrong ones are exit code 2."""
    conf_file = settings.data_dir / "export.toml"
    settings.data_dir.mkdir(exist_ok=True)
    conf_file.write_text(
        f'instance = "{settings.instance}"\ndata_dir = "."\n[history]\nstore = "{settings.history.store}"\n'
    )
    return CliRunner().invoke(history, ["export", *arguments, "--conf", str(conf_file)])


def rows_of(result: Result) -> list[Row]:
    """What was written, as the twin has it."""
    assert result.exit_code == 0, result.output
    return [
        {name: value_of(name, text) for name, text in row.items()}
        for row in csv.DictReader(io.StringIO(result.stdout_bytes.decode(), newline=""))
    ]


def value_of(name: str, text: str) -> Any:
    if name in WORDS:
        return WORDS[name][text]
    if name in TIMES:
        return datetime.fromisoformat(text).timestamp()
    if name in TEXTS:
        return text.removeprefix("'")
    return int(text) if name == "id" or name.endswith("_id") else Decimal(text)


def expected(told: History, what: str, settings: Settings) -> list[Row]:
    """The twin's rows."""
    rows = []
    for stored in told.of_family(FAMILIES[what]):
        row = {"type" if name == "t" else name: value for name, value in stored.items()}
        for name, value in row.items():
            if isinstance(value, Decimal) and settings.history.store != SQLITE and value.as_tuple().exponent < -30:  # type: ignore[operator]
                row[name] = value.quantize(MYSQL_DECIMALS, ROUND_HALF_UP, EXACT)
            elif name in TIMES:
                row[name] = datetime.fromtimestamp(value).timestamp()
        rows.append(row)
    return rows


def same(found: list[Row], rows: list[Row]) -> bool:
    """The same rows, in whatever order."""

    def key(row: Row) -> list[str]:
        return [
            str(row[name].normalize(EXACT) if isinstance(row[name], Decimal) else row[name]) for name in sorted(row)
        ]

    return sorted(map(key, found)) == sorted(map(key, rows))


@pytest.mark.parametrize("what", list(FAMILIES))
def test_every_row_is_exported_exactly(told: History, settings: Settings, what: str) -> None:
    result = export(settings, what)
    found = rows_of(result)
    assert len(found) > 20
    assert same(found, expected(told, what, settings))
    assert result.stderr == f"{len(found):,} {what}\n"
    times = [row["finish_time" if what == "orders" else "time"] for row in found]
    assert times == sorted(times)


@pytest.mark.parametrize(("what", "name"), [("orders", "market"), ("deals", "market"), ("changes", "asset")])
def test_parts_are_those_of_a_user_a_name_and_a_time(told: History, settings: Settings, what: str, name: str) -> None:
    everything = expected(told, what, settings)
    time = "finish_time" if what == "orders" else "time"
    middle = sorted(everything, key=lambda row: float(row[time]))[len(everything) // 2]
    user_id, wanted, start = middle["user_id"], middle[name], int(middle[time])
    end = start + 30
    for arguments, rows in (
        (["--user", f"{user_id}"], [row for row in everything if row["user_id"] == user_id]),
        ([f"--{name}", wanted], [row for row in everything if row[name] == wanted]),
        (["--from", f"{start}"], [row for row in everything if row[time] >= start]),
        (["--to", f"{start}"], [row for row in everything if row[time] < start]),
        (
            ["--from", f"{start}", "--to", f"{end}", "--user", f"{user_id}", f"--{name}", wanted],
            [r for r in everything if r["user_id"] == user_id and r[name] == wanted and start <= r[time] < end],
        ),
    ):
        assert rows, "the flow has such rows"
        assert same(rows_of(export(settings, what, *arguments)), rows), arguments
    assert rows_of(export(settings, what, f"--{name}", "NONE")) == []


@pytest.mark.parametrize("what", list(FAMILIES))
def test_parquet_holds_what_csv_holds(told: History, settings: Settings, what: str, tmp_path: Path) -> None:
    out = tmp_path / "out.parquet"
    assert export(settings, what, "--out", str(out)).exit_code == 0
    found = [
        {
            name: value.timestamp() if name in TIMES else WORDS[name][value] if name in WORDS else value
            for name, value in row.items()
        }
        for row in pyarrow.parquet.read_table(out).to_pylist()
    ]
    for row in found:
        for name in set(row) - set(TIMES) - set(TEXTS) - set(WORDS):
            row[name] = Decimal(row[name]) if isinstance(row[name], str) else row[name]
    assert same(found, expected(told, what, settings))
    piped = export(settings, what, "--format", "parquet").stdout_bytes
    assert pyarrow.parquet.read_table(io.BytesIO(piped)).equals(pyarrow.parquet.read_table(out))


@pytest.mark.parametrize("settings", ["sqlite"], indirect=True)
class TestFile:
    """Where it goes."""

    def test_the_file_is_there_when_it_is_complete(self, told: History, settings: Settings, tmp_path: Path) -> None:
        out = tmp_path / "out.csv"
        out.write_text("before")
        link = tmp_path / "link.csv"
        link.symlink_to(out)
        result = export(settings, "deals", "--out", str(link))
        assert result.stderr.endswith(f" deals in {link}\n")
        assert result.stdout == ""
        assert link.is_symlink()
        assert out.read_bytes() == export(settings, "deals").stdout_bytes
        assert not list(tmp_path.glob(".*"))

    def test_to_be_ended_on_the_way_leaves_what_was_there(
        self, told: History, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        out = tmp_path / "out.csv"
        out.write_text("before")
        monkeypatch.setattr(export_command, "STEP_ROW_COUNT", 5)
        killing = nullcontext(lambda _: os.kill(os.getpid(), signal.SIGTERM))
        monkeypatch.setattr(export_command, "_progress", lambda _: killing)
        before = signal.getsignal(signal.SIGTERM)
        result = export(settings, "deals", "--out", str(out))
        assert result.exit_code == 1
        assert out.read_text() == "before"
        assert not list(tmp_path.glob(".*"))
        assert signal.getsignal(signal.SIGTERM) is before

    def test_what_is_no_file_is_left_alone(self, told: History, settings: Settings, tmp_path: Path) -> None:
        result = export(settings, "deals", "--out", str(tmp_path))
        assert (result.exit_code, result.output) == (1, f"Error: {tmp_path} is not a file; - is stdout\n")
        missing = tmp_path / "no" / "folder.csv"
        assert "is not a folder" in export(settings, "deals", "--out", str(missing)).output

    def test_where_nothing_was_ever_stored_it_says_so(self, settings: Settings) -> None:
        result = export(settings, "deals")
        assert result.exit_code == 1
        assert result.output.startswith(f"Error: there is no history in {settings.paths.history_file} yet")

    @pytest.mark.parametrize(
        ("arguments", "text"),
        [
            (["orders", "--asset", "BTC"], "orders and deals are of a --market, changes are of an --asset"),
            (["changes", "--market", "BTCUSD"], "orders and deals are of a --market, changes are of an --asset"),
            (["orders", "--from", "2026-05-02", "--to", "2026-05-02"], "--to must be later than --from"),
            (["orders", "--from", "yesterday"], "'yesterday' is no time; give one like 2026-05-01"),
            (["orders", "--from", "20260501"], "20260501 is no time in seconds since 1970; a date has hyphens"),
            (["orders", "--from", "1777593600000"], "1777593600000 is no time in seconds"),
            (["orders", "--to", "2026-05-01T00:00:00.5"], "is between two seconds"),
            (["orders", "--to", "1969-01-01"], "is not after 1970"),
            (["orders", "--user", "0"], "0 is not in the range"),
        ],
    )
    def test_wrong_arguments_are_exit_code_2(self, settings: Settings, arguments: list[str], text: str) -> None:
        result = export(settings, *arguments)
        assert result.exit_code == 2
        assert text in " ".join(result.output.split())


def test_a_store_that_is_down_is_told(tmp_path: Path) -> None:
    settings = load(None, tmp_path)
    down = replace(settings, history=replace(settings.history, store="mysql://nobody@127.0.0.1:1/x"))
    result = export(down, "deals", "--out", str(tmp_path / "out.csv"))
    assert result.exit_code == 1
    assert result.output.startswith("Error: mysql://nobody@127.0.0.1:1/x: ")
    assert not (tmp_path / "out.csv").exists()


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("1777593600", 1777593600),
        ("2026-05-01", 1777593600),
        ("2026-05-01T00:00Z", 1777593600),
        ("2026-05-01 02:00:00+02:00", 1777593600),
    ],
)
def test_times_in_utc_unless_they_name_a_zone(text: str, seconds: int) -> None:
    assert moment(text) == seconds
