"""An alert, and the JSON line that it is in alerts.jsonl and on the bus.

    {"time": "2026-01-31T10:00:00.123456+00:00", "instance": "main", "process": "matcher", "text": "the disk is full",
     "where": "engine/matcher.py:197(look)"}

What was not made here may hold anything: `parse` bounds every text. Bytes that are no UTF-8 stand in it as Python's
`surrogateescape` puts them, so that they leave as they came.
"""

import json
from dataclasses import dataclass
from datetime import UTC, datetime

NAME_MAX = 64  # characters of an instance, a process, an origin
WHERE_MAX = 300
TEXT_MAX = 10_240  # characters: what the original's protocol can carry in bytes
LINE_MAX_SIZE = 128 * 1024  # bytes of a line: each character of a text may become \uXXXX twice
COUNT_MAX = 1 << 53


@dataclass(frozen=True, kw_only=True)
class Alert:
    """What an operator must know."""

    time: str  # ISO 8601, UTC
    instance: str
    process: str  # "" when a foreign alert does not tell
    text: str
    where: str = ""  # file:line(function)
    origin: str = ""  # who sent it, if it came from outside: "udp 10.0.0.7"
    dropped_count: int = 0  # alerts of others that this one tells to be lost
    is_told: bool = False  # it has gone out before it could be written


def time_text(now: float) -> str:
    """Seconds since 1970 as an alert's time."""
    return datetime.fromtimestamp(now, UTC).isoformat()


def packed(alert: Alert) -> bytes:
    """The line, with its end."""
    document: dict[str, object] = {
        "time": alert.time,
        "instance": alert.instance,
        "process": alert.process,
        "text": bounded(alert.text, TEXT_MAX),
        "where": alert.where,
    }
    if alert.origin:
        document["from"] = alert.origin
    if alert.dropped_count:
        document["dropped"] = alert.dropped_count
    if alert.is_told:
        document["told"] = True
    return json.dumps(document).encode() + b"\n"


def parse(line: bytes) -> Alert | None:
    """What a line says, its texts bounded; None when it is no alert."""
    if len(line) > LINE_MAX_SIZE:
        return None
    try:
        document = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(document, dict) or not isinstance(document.get("text"), str):
        return None
    count = document.get("dropped")
    return Alert(
        time=_text(document, "time", NAME_MAX),
        instance=_text(document, "instance", NAME_MAX),
        process=_text(document, "process", NAME_MAX),
        text=_text(document, "text", TEXT_MAX),
        where=_text(document, "where", WHERE_MAX),
        origin=_text(document, "from", NAME_MAX),
        dropped_count=count if type(count) is int and 0 < count <= COUNT_MAX else 0,
        is_told=document.get("told") is True,
    )


def bounded(text: str, length_max: int) -> str:
    """The text, or its beginning with a word about what is cut off."""
    if len(text) <= length_max:
        return text
    end = f"... ({len(text):,} characters)"
    return text[: length_max - len(end)] + end


def printable(text: str) -> str:
    """The text in one line, without what would steer a terminal or is no character."""
    words = text.replace("\r\n", " ").replace("\n", " ").replace("\t", " ")
    return "".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in words)


def _text(document: dict[str, object], key: str, length_max: int) -> str:
    value = document.get(key)
    if not isinstance(value, str):
        return ""
    try:
        value.encode(errors="surrogateescape")
    except UnicodeEncodeError:  # half a character, which JSON can write
        value = value.encode(errors="replace").decode()
    return bounded(value, length_max)
