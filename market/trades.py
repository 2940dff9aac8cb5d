"""How many trades the exchange made meanwhile: counted in its event log, which only the same machine has."""

from pathlib import Path

from bus.eventlog import Gone, Reader
from bus.messages import EventKind


def last_event_number(events_dir: Path) -> int:
    """The last event that can be read; 0 when there is no log here."""
    return Reader(events_dir).durable_number


def count_deals(events_dir: Path, after_number: int) -> int | None:
    """The deals after an event; None when the log is not here, or no longer reaches back so far."""
    if last_event_number(events_dir) == 0:
        return None
    try:
        return sum(
            int((frame.records["kind"] == EventKind.DEAL).sum()) for frame in Reader(events_dir).frames(after_number)
        )
    except Gone:
        return None
