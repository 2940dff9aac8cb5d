"""Messages as Kafka's brokers store them: a record batch of format 2 (KIP-98), not compressed, without keys or headers.

    offset of the first record 8 | size of the rest 4 | leader epoch 4 | format 1 | CRC-32C of all behind it 4 |
    attributes 2 | offset of the last record from the first 4 | first and last time 8, 8 | producer id 8, epoch 2,
    number of the first record 4 | record count 4 | records

A record's numbers are varints, zigzag as in protocol buffers. kafka-python makes batches one record at a time with a
future for each, which costs twenty times as much, and is what would limit the courier.
"""

import struct
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

from crc32c import crc32c

FORMAT = 2
SEQUENCE_END = 1 << 31  # numbers begin at 0 again
VARINTS_KEPT_COUNT = 65_536

_HEAD = struct.Struct(">qiibI")
_BODY = struct.Struct(">hiqqqhii")
_NO_LEADER_EPOCH = -1
_SIZE_STARTS_AT = 12  # what the size counts lies behind it
_RECORD_OVERHEAD = 4  # attributes, time, no key, no headers
RECORD_SIZE_MAX = _RECORD_OVERHEAD + 15  # of a record, beside its value


class Producer(NamedTuple):
    """Who sends, as the broker knows him."""

    id: int
    epoch: int


NOBODY, NO_SEQUENCE = Producer(-1, -1), -1  # of a batch that the broker takes whenever it comes


def batch(values: Sequence[bytes], time_ms: int, producer: Producer, sequence: int) -> bytes:
    """A batch of messages; `sequence` is the number of the first one among the producer's in this partition."""
    pieces: list[bytes] = []
    add = pieces.append
    for index, value in enumerate(values):
        size = len(value)
        index_text, size_text = varint(index), varint(size)
        add(varint(_RECORD_OVERHEAD + len(index_text) + len(size_text) + size))
        add(b"\0\0" + index_text + b"\1" + size_text)  # attributes, time since the first, index, no key
        add(value)
        add(b"\0")  # no headers
    records = b"".join(pieces)
    last = len(values) - 1
    body = _BODY.pack(0, last, time_ms, time_ms, producer.id, producer.epoch, sequence, len(values))
    size = _HEAD.size + len(body) + len(records) - _SIZE_STARTS_AT
    return _HEAD.pack(0, size, _NO_LEADER_EPOCH, FORMAT, crc32c(records, crc32c(body))) + body + records


@lru_cache(VARINTS_KEPT_COUNT)
def varint(number: int) -> bytes:
    """A number that is not negative."""
    left = number << 1
    text = bytearray()
    while left > 0x7F:
        text.append(left & 0x7F | 0x80)
        left >>= 7
    text.append(left)
    return bytes(text)


def after(sequence: int, count: int) -> int:
    """The number that follows `count` records from `sequence` on."""
    return (sequence + count) % SEQUENCE_END
