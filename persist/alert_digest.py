"""Many alerts in one message: the same ones counted, the first kinds shown, the others told by their number.

Pure: nothing here reads a clock or sends anything. What is shown is bounded, however many alerts there are.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from conf.alert_record import Alert, bounded, printable

ROWS_MAX = 50  # kinds of alerts that are shown
FOREIGN_ROWS_MAX = 25  # of them, those that came from outside: strangers must not crowd out the exchange's own
SHOWN_TEXT_MAX = 2_000  # characters of each
SUBJECT_MAX = 150


@dataclass
class Row:
    """Alerts that say the same: the first of them, and how many."""

    first: Alert
    last_time: str
    count: int = 1


class Digest:
    """Alerts as they come, grouped."""

    is_full = False  # it always takes more

    def __init__(self) -> None:
        self._rows: dict[tuple[str, str, str, bool], Row] = {}
        self._foreign_row_count = 0
        self.count = 0
        self.more_count = 0  # that are not in rows
        self.dropped_count = 0  # that alerts tell to have been lost before they came here

    def __len__(self) -> int:
        return self.count

    @property
    def rows(self) -> list[Row]:
        """The kinds of alerts, in the order in which each came first."""
        return list(self._rows.values())

    def add(self, alert: Alert) -> None:
        """Count one more."""
        self.count += 1
        self.dropped_count += alert.dropped_count
        is_foreign = bool(alert.origin)
        key = (alert.instance, alert.process, alert.text, is_foreign)
        if (row := self._rows.get(key)) is not None:
            row.count += 1
            row.last_time = alert.time
        elif len(self._rows) < ROWS_MAX and not (is_foreign and self._foreign_row_count == FOREIGN_ROWS_MAX):
            self._rows[key] = Row(alert, alert.time)
            self._foreign_row_count += is_foreign
        else:
            self.more_count += 1


def of(alerts: list[Alert]) -> Digest:
    """A digest of these."""
    digest = Digest()
    for alert in alerts:
        digest.add(alert)
    return digest


def subject(digest: Digest, instance: str) -> str:
    """One line that says what it is about."""
    first = min(digest.rows, key=lambda row: bool(row.first.origin)).first  # the exchange's own before foreign ones
    others = f" (and {digest.count - 1:,} more)" if digest.count > 1 else ""
    head = f"[{printable(instance)}] {_name(first)}"
    return bounded(f"{head}{printable(first.text)}", SUBJECT_MAX - len(others)) + others


def body(digest: Digest) -> str:
    """The whole as text."""
    return "\n".join((*_paragraphs(digest), ""))


def _paragraphs(digest: Digest) -> Iterator[str]:
    for row in digest.rows:
        times = row.first.time if row.count == 1 else f"{row.first.time} to {row.last_time}, {row.count:,} times"
        yield printable(times)
        yield f"  {_name(row.first)}{printable(bounded(row.first.text, SHOWN_TEXT_MAX))}"
        if place := ", ".join(filter(None, (row.first.instance, row.first.where, row.first.origin))):
            yield f"  ({printable(place)})"
        yield ""
    if digest.more_count:
        yield f"and {digest.more_count:,} more"
    if digest.dropped_count:
        yield f"{digest.dropped_count:,} alerts from outside came too fast and were dropped"


def document(digest: Digest, instance: str) -> dict[str, Any]:
    """The whole for a program; `text` is what chat services show."""
    return {
        "instance": instance,
        "text": f"{subject(digest, instance)}\n\n{body(digest)}",
        "alerts": [_row(row) for row in digest.rows],
        "more": digest.more_count,
        "dropped": digest.dropped_count,
    }


def _row(row: Row) -> dict[str, Any]:
    alert = row.first
    return {
        "time": alert.time,
        "last_time": row.last_time,
        "count": row.count,
        "instance": alert.instance,
        "process": alert.process,
        "text": bounded(alert.text, SHOWN_TEXT_MAX),
        "where": alert.where,
        "from": alert.origin,
    }


def _name(alert: Alert) -> str:
    return f"{printable(alert.process)}: " if alert.process else ""
