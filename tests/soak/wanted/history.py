"""The rows of the history's five families, as the twin in plain Python writes them, each as a digest."""

from collections import defaultdict
from typing import Any

from bus.catalog import Catalog
from bus.messages import Frame
from tests.reference.history import History
from tests.soak.checks.digests import Chain, digest

BY_ORDER_ID = ("order_history", "order_detail")  # families whose tables have no order but that of their ids

Row = dict[str, Any]


def row_digest(row: Row) -> bytes:
    """Of a row's columns, whatever their order."""
    return digest({name: str(value) if isinstance(value, int) else value for name, value in row.items()})


class Rows:
    """The tables after all events so far."""

    def __init__(self, catalog: Catalog) -> None:
        self._twin = History(catalog)
        self._chains: dict[str, Chain] = defaultdict(Chain)
        self._by_id: dict[str, dict[int, bytes]] = defaultdict(dict)

    def add(self, frame: Frame) -> None:
        """Take the next events; the twin checks every total that they tell."""
        self._twin.add(frame)
        for table, rows in self._twin.tables.items():
            if table.startswith(BY_ORDER_ID):
                self._by_id[table].update((row["id"], row_digest(row)) for row in rows)
            else:
                for row in rows:
                    self._chains[table] += row_digest(row)
        self._twin.tables.clear()

    @property
    def tables(self) -> dict[str, Chain]:
        """The digests of each table that has rows, in the order of its ids."""
        sorted_ones = {
            table: Chain(b"".join(rows[order_id] for order_id in sorted(rows))) for table, rows in self._by_id.items()
        }
        return dict(self._chains) | sorted_ones
