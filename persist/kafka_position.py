"""How far the courier is: a file in the data folder, replaced as a whole and on the disk before it counts.

    {"exchange": 123, "resent": 4, "producer": [7000, 0],
     "topics": {"deals": {"event": 1000, "offset": 250, "sequence": 240}, ...}}

For each topic the last event all of whose messages are acknowledged, and the offset behind the last of those messages.
The two belong together: what lies in the topic from that offset on are messages of later events (persist/courier.py).
The producer is whom the brokers know us as, the sequence the number that they expect of his next message there: kept,
so that they refuse what an earlier run had sent and comes when its messages are there already.
"""

import errno
import json
import os
from pathlib import Path
from typing import Any, NamedTuple

from conf.paths import Paths
from persist.kafka_records import Producer
from persist.store import StoreWrong

NUMBER_MAX = (1 << 63) - 1


class Place(NamedTuple):
    """Where a topic is."""

    event: int  # the last one whose messages it has
    offset: int  # behind the last of them
    sequence: int = 0  # of the producer's next message


class Position(NamedTuple):
    """Where all topics are, of which exchange, and the number of the last request to send again that was done."""

    exchange: int
    resent: int
    places: dict[str, Place]
    producer: Producer | None = None  # who has sent up to there; None: another one has to begin


class Resend(NamedTuple):
    """A request to send all messages after an event again, to some topics."""

    number: int
    after_event: int
    topics: tuple[str, ...]


def load(paths: Paths) -> Position | None:
    """What was saved; None when nothing was. Raises StoreWrong, OSError."""
    document = _read(paths.courier_file)
    if document is None:
        return None
    try:
        places = {
            str(topic): Place(_number(row["event"]), _number(row["offset"]), _number(row["sequence"]))
            for topic, row in document["topics"].items()
        }
        producer = Producer(*map(_number, document["producer"])) if document["producer"] is not None else None
        return Position(_number(document["exchange"]), _number(document["resent"]), places, producer)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise _damaged(paths.courier_file, error) from None


def save(paths: Paths, position: Position) -> None:
    """Keep a position. Raises OSError."""
    _write(
        paths.courier_file,
        {
            "exchange": position.exchange,
            "resent": position.resent,
            "producer": position.producer,
            "topics": {topic: place._asdict() for topic, place in sorted(position.places.items())},
        },
    )


def load_resend(paths: Paths) -> Resend | None:
    """What was asked for and may be done already; None when nothing was. Raises StoreWrong, OSError."""
    document = _read(paths.resend_file)
    if document is None:
        return None
    try:
        topics = tuple(map(str, document["topics"]))
        return Resend(_number(document["number"]), _number(document["after_event"]), topics)
    except (KeyError, TypeError, ValueError) as error:
        raise _damaged(paths.resend_file, error) from None


def save_resend(paths: Paths, resend: Resend) -> None:
    """Ask the courier, who looks once a second when it runs. Raises OSError."""
    _write(paths.resend_file, resend._asdict())


def _number(value: Any) -> int:
    if type(value) is not int or not 0 <= value <= NUMBER_MAX:
        raise ValueError(f"{value!r} is no number")
    return value


def _read(file: Path) -> Any:
    try:
        return json.loads(file.read_bytes())
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise _damaged(file, error) from None


def _write(file: Path, document: dict[str, Any]) -> None:
    """Replace a file as a whole."""
    new = file.with_name(file.name + ".new")
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o644)
    try:
        text = json.dumps(document).encode()
        if (written := os.write(descriptor, text)) < len(text):
            raise OSError(errno.ENOSPC, f"only {written} of {len(text)} bytes were taken", str(new))
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    new.replace(file)
    folder = os.open(file.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _damaged(file: Path, error: Exception) -> StoreWrong:
    return StoreWrong(
        f"{file} is damaged ({error}): bring a copy back, or remove it and say with [kafka] start where to begin"
    )
