"""Sorting with little memory gives what sorting gives."""

from hypothesis import given
from hypothesis import strategies as st

from persist.runs import in_order


@given(
    rows=st.lists(st.tuples(st.integers(0, 5), st.integers())),
    run_count=st.integers(1, 8),
    block_count=st.integers(1, 4),
)
def test_rows_come_in_order_and_equal_ones_as_they_came(
    rows: list[tuple[int, int]], run_count: int, block_count: int
) -> None:
    def key(row: tuple[int, int]) -> int:
        return row[0]

    assert list(in_order(iter(rows), key, run_count, block_count)) == sorted(rows, key=key)
