"""The original's alerts: as they come by UDP and TCP, and as they stand in the Redis list (CONTRACT 8).

    373d26968a5a2b698045NAME: [fatal]file:line(function): text\\n        on the wire
                        NAME: [fatal]file:line(function): text          in the list

Nothing here owns a socket. What strangers send is split into texts or refused, and leaves for the list byte for byte.
"""

import re
from typing import NamedTuple

from conf.alert_record import NAME_MAX, WHERE_MAX, Alert

MAGIC = b"373d26968a5a2b698045"
LINE_MAX_SIZE = 10_240  # with the magic and the line's end; the original cuts longer ones there
ELEMENT_MAX_SIZE = LINE_MAX_SIZE - len(MAGIC) - 1

_FORM = re.compile(
    rf"(?P<process>[^:]{{1,{NAME_MAX}}}): \[fatal\](?P<where>(?=.{{1,{WHERE_MAX}}}\): )[^()]+\([^()]*\)): (?P<text>.*)",
    re.DOTALL,
)


class Split(NamedTuple):
    """What bytes are made of: whole texts, the begin of a further line, and whether all is as it must be."""

    texts: list[bytes]
    rest: bytes
    is_good: bool


def split(data: bytes, *, is_whole: bool) -> Split:
    """Take lines apart, up to the first one that is none; `is_whole`: nothing more will come, and the rest is a line.

    A datagram that the original has cut off has no end of its line (CONTRACT 10.6 X2).
    """
    *lines, rest = data.split(b"\n")
    if is_whole and rest:
        lines, rest = [*lines, rest], b""
    texts: list[bytes] = []
    for line in lines:
        if not line.startswith(MAGIC) or len(line) > LINE_MAX_SIZE:
            return Split(texts, b"", False)
        if text := line[len(MAGIC) :].removesuffix(b"\r"):
            texts.append(text)
    begins_well = rest.startswith(MAGIC) if len(rest) >= len(MAGIC) else MAGIC.startswith(rest)
    return Split(texts, rest, begins_well and len(rest) <= LINE_MAX_SIZE)


def parse(text: bytes, time: str, instance: str, origin: str) -> Alert:
    """What a text tells; one without the original's form is told whole."""
    whole = text.decode(errors="surrogateescape")
    parts = _FORM.fullmatch(whole)
    fields = parts.groupdict() if parts else {"process": "", "text": whole}
    return Alert(time=time, instance=instance, origin=origin, **fields)


def element(alert: Alert) -> bytes:
    """An alert in the original's form, in one line that is no longer than the original's."""
    head = f"{alert.process}: [fatal]" if alert.process else ""
    place = f"{alert.where}: " if alert.where else ""
    text = f"{head}{place}{alert.text}".replace("\n", " ").encode(errors="surrogateescape")
    if len(text) <= ELEMENT_MAX_SIZE:
        return text
    end = ELEMENT_MAX_SIZE
    while end and text[end] & 0xC0 == 0x80:  # not within a character
        end -= 1
    return text[:end]
