"""Decimal text: the tables of CONTRACT 0.4, and `decimal` as the judge of everything else."""

import time
from decimal import ROUND_DOWN, Context, Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bus.text import SIZE_MAX, TEXT_UNITS_MAX, base, halves, parse, parse_all, stripped, wide

CONTRACT = Context(prec=34, Emax=6144, Emin=-6143, rounding=ROUND_DOWN, capitals=0, clamp=1, traps=[])
EXACT = Context(prec=400, Emax=9999, Emin=-9999, rounding=ROUND_DOWN, traps=[])

PARSED = [
    ("1", 8, 10**8),
    ("1.", 8, 10**8),
    (".5", 8, 5 * 10**7),
    ("+7", 2, 700),
    ("-0", 8, 0),
    ("-0.05", 2, -5),
    ("-1.005", 2, -100),
    ("0.123456789123", 8, 12345678),
    ("0.000000009", 8, 0),
    ("0.99999", 4, 9999),
    ("1e2", 8, 10**10),
    ("1E-8", 8, 1),
    ("1e-05", 8, 1000),
    ("1e+3", 0, 1000),
    ("1.9", 0, 1),
    (".9", 0, 0),
    ("12345e-7", 4, 12),
    ("1e-999999999", 8, 0),
    ("0e999999999", 8, 0),
    ("0" * SIZE_MAX, 8, 0),
    (str(TEXT_UNITS_MAX), 0, TEXT_UNITS_MAX),
    ("-1e28", 8, -(10**36)),
]

REFUSED = [
    *("", " ", ".", "+", "-", "e5", ".e5", "1e", "1e+", "1e1.5", "--1", "1 ", " 1", "1_000", "0x10", "1,5"),
    *("nan", "NaN", "sNaN", "inf", "-Infinity", "INF", "\uff11", "\u0661", "1\n", "1\x00"),
    *("1e29", "1e999999999", "9" * SIZE_MAX, "0" * (SIZE_MAX + 1), str(10**30)),
]

STRIPPED = [
    (10_000_000_000, 8, "100"),
    (10_000_000, 8, "0.1"),
    (120, 8, "0.0000012"),
    (100, 8, "0.000001"),
    (90, 8, "9.0e-7"),
    (12, 8, "1.2e-7"),
    (1, 8, "1e-8"),
    (0, 8, "0e-8"),
    (0, 7, "0e-7"),
    (0, 6, "0"),
    (0, 1, "0"),
    (0, 0, "0"),
    (0, 20, "0e-20"),
    (100_000, 0, "100000"),
    (7_000_000, 16, "7.000000e-10"),
    (100_000, 16, "1.00000e-11"),
    (9_999_999_999_930_000_000, 16, "999.999999993"),
    (-120, 8, "-0.0000012"),
    (-5, 2, "-0.05"),
]


@pytest.mark.parametrize(("text", "prec", "units"), PARSED)
def test_text_becomes_units_toward_zero(text: str, prec: int, units: int) -> None:
    assert parse(text, prec) == units


@pytest.mark.parametrize("text", REFUSED)
def test_what_is_no_number_or_too_large_is_refused(text: str) -> None:
    assert parse(text, 8) is None


@pytest.mark.parametrize(("units", "prec", "text"), STRIPPED)
def test_units_become_the_historic_text(units: int, prec: int, text: str) -> None:
    assert stripped(units, prec) == text


NUMBERS = st.from_regex(r"[+-]?([0-9]{1,40}(\.[0-9]{0,40})?|\.[0-9]{1,40})([eE][+-]?[0-9]{1,4})?", fullmatch=True)


@given(NUMBERS, st.integers(0, 30))
def test_parse_agrees_with_decimal(text: str, prec: int) -> None:
    exact = EXACT.create_decimal(text).scaleb(prec, EXACT).to_integral_value(ROUND_DOWN, EXACT)
    expected = int(exact) if abs(exact) <= TEXT_UNITS_MAX else None
    assert parse(text, prec) == expected


@given(st.text(max_size=40), st.integers(0, 18))
def test_any_text_is_a_number_or_refused(text: str, prec: int) -> None:
    try:
        is_number = Decimal(text).is_finite() and text.isascii() and "_" not in text and text == text.strip()
    except ArithmeticError:
        is_number = False
    assert is_number or parse(text, prec) is None


def historic(units: int, prec: int) -> str:
    """The stripped form as CONTRACT 0.4 words it."""
    text = CONTRACT.to_sci_string(Decimal(units).scaleb(-prec, EXACT))
    return text if "e" in text or "." not in text else text.rstrip("0").rstrip(".")


@given(st.integers(0, 10**34 - 1) | st.integers(0, 10**6), st.integers(0, 30))
def test_stripped_agrees_with_decimal(units: int, prec: int) -> None:
    assert stripped(units, prec) == historic(units, prec)


@given(st.integers(-TEXT_UNITS_MAX, TEXT_UNITS_MAX), st.integers(0, 18))
def test_what_is_written_reads_back(units: int, prec: int) -> None:
    assert parse(stripped(units, prec), prec) == units


@given(st.integers(-(2**127), 2**127 - 1))
def test_halves_are_two_signed_fields_of_the_whole(number: int) -> None:
    low, high = halves(number)
    assert -(2**63) <= low < 2**63
    assert -(2**63) <= high < 2**63
    assert wide(low, high) == number


def test_hostile_sizes_cost_nothing() -> None:
    megabyte = "1" * (1 << 20)
    begun = time.process_time()
    for text in ("1e999999999", "-9.9e" + "9" * 100, "1e-" + "9" * 100, "1" * SIZE_MAX + "x", megabyte):
        for _ in range(100):
            parse(text, 8)
    assert time.process_time() - begun < 0.5


@given(numbers=st.lists(st.integers(-TEXT_UNITS_MAX, TEXT_UNITS_MAX)), prec=st.integers(0, 20))
def test_many_texts_are_parsed_as_one_by_one(numbers: list[int], prec: int) -> None:
    for written in (stripped, base):
        assert parse_all([written(number, prec) for number in numbers], prec) == numbers


@pytest.mark.parametrize(("text", "prec", "units"), PARSED)
def test_one_of_many_is_parsed_as_alone(text: str, prec: int, units: int) -> None:
    assert parse_all(["1", text], prec) == [10**prec, units]


@pytest.mark.parametrize("text", ["", ".", "x", "1e", "NaN", "1.2.3", "--1"])
def test_what_is_no_number_ends_the_parsing_of_many(text: str) -> None:
    with pytest.raises(ValueError, match="is no number"):
        parse_all(["1", text], 8)
