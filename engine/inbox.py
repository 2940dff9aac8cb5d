"""What has arrived on the commands socket since the last turn: one array of commands, and everything else.

Frames are taken apart and checked here; a client that sends what is no frame gets no answer, and is counted.
"""

import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import zmq

from bus.messages import (
    COMMAND,
    FRAME,
    FRAME_BLOB_MAX,
    FRAME_RECORDS_MAX,
    BadFrame,
    Bytes,
    Frame,
    FrameKind,
    Look,
    Records,
    look,
    pack,
    unpack,
)

COMMANDS_MAX = 1_000  # of a batch; its last frame may go beyond it. Larger ones would leave the CPU's cache
BLOB_MAX = FRAME_BLOB_MAX  # of a batch, likewise. What goes beyond both still fits conf.settings' least segment
FRAMES_MAX = 1_000  # of a batch, whatever is in them: nobody can keep the matcher at receiving
COMMANDS_START = pack(FrameKind.COMMANDS, np.zeros(0, COMMAND))[:8]  # magic number, version and kind
_SIZES = struct.Struct("<iiq")  # what follows: count, blob size, first
FROM_CLIENTS = (FrameKind.COMMANDS, FrameKind.QUERY, FrameKind.PING)
FRAME_SIZE_MAX = FRAME.itemsize + FRAME_RECORDS_MAX * COMMAND.itemsize + FRAME_BLOB_MAX


Sender = tuple[bytes, int, int, int]  # identity, tag, and whose commands: place in the batch of the first, how many


class Question(NamedTuple):
    """A frame that is answered at once: a query or a ping."""

    identity: bytes
    frame: Frame


@dataclass
class Batch:
    """One turn's work."""

    commands: Records
    blob: Bytes = b""
    senders: list[Sender] = field(default_factory=list)
    questions: list[Question] = field(default_factory=list)
    bad_count: int = 0


def take(receive: Callable[[], tuple[bytes, bytes]]) -> Batch:
    """Receive until nothing waits or the batch is full.

    `receive` gives an identity and a frame; it raises zmq.Again when nothing waits, BadFrame for what can't be one.
    """
    batch = Batch(commands=np.zeros(0, COMMAND))
    frames: list[bytes] = []
    count = blob_size = 0
    for _ in range(FRAMES_MAX):
        if count >= COMMANDS_MAX or blob_size >= BLOB_MAX:
            break
        try:
            identity, data = receive()
            if (plain := glance(data)) is not None:
                tag, size = plain
                batch.senders.append((identity, tag, count, size))
                frames.append(data)
                count += size
                continue
            seen = checked(data)
        except zmq.Again:
            break
        except BadFrame:
            batch.bad_count += 1
            continue
        if seen.kind == FrameKind.COMMANDS:
            batch.senders.append((identity, seen.first, count, seen.record_count))
            frames.append(data)
            count += seen.record_count
            blob_size += seen.size - seen.records_end
        else:
            batch.questions.append(Question(identity, unpack(data)))
    if frames:
        batch.commands, batch.blob = with_blobs(frames) if blob_size else without_blobs(frames)
    return batch


def glance(data: bytes) -> tuple[int, int] | None:
    """Tag and number of commands of a good frame without a blob; None for any other: `checked` looks closely."""
    if len(data) <= FRAME.itemsize or not data.startswith(COMMANDS_START):
        return None
    count, blob_size, tag = _SIZES.unpack_from(data, len(COMMANDS_START))
    if blob_size or count > FRAME_RECORDS_MAX or len(data) != FRAME.itemsize + count * COMMAND.itemsize:
        return None
    return tag, count


def checked(data: bytes) -> Look:
    """What a client may send. Raises BadFrame."""
    seen = look(data)
    if seen.kind not in FROM_CLIENTS:
        raise BadFrame(f"a client does not send {seen.kind.name}")
    if seen.record_count > FRAME_RECORDS_MAX or seen.size - seen.records_end > FRAME_BLOB_MAX:
        raise BadFrame(
            f"{seen.record_count} records and {seen.size - seen.records_end} bytes of blob: too much for a frame"
        )
    if seen.kind == FrameKind.QUERY and seen.record_count != 1:
        raise BadFrame(f"{seen.record_count} queries in a frame instead of one")
    return seen


def without_blobs(frames: list[bytes]) -> tuple[Records, Bytes]:
    """All commands as one array. What points into a blob is refused by the engine: there is none."""
    if len(frames) == 1:
        return np.frombuffer(frames[0], COMMAND, offset=FRAME.itemsize), b""
    return np.frombuffer(b"".join([data[FRAME.itemsize :] for data in frames]), COMMAND), b""


def with_blobs(frames: list[bytes]) -> tuple[Records, Bytes]:
    """All commands as one array, one blob, and details that point into it."""
    unpacked = [unpack(data) for data in frames]
    moved, blob_size = [], 0
    for frame in unpacked:
        moved.append(_details_moved(frame.records, len(frame.blob), blob_size).tobytes())
        blob_size += len(frame.blob)
    return np.frombuffer(b"".join(moved), COMMAND), b"".join(frame.blob for frame in unpacked)


def _details_moved(commands: Records, blob_size: int, by: int) -> Records:
    """The commands with details that point into the joined blob; -1 where they pointed outside their own."""
    moved = commands.copy()
    offsets, sizes = moved["detail_offset"].astype("i8"), moved["detail_size"].astype("i8")
    inside = (offsets >= 0) & (sizes >= 0) & (offsets + sizes <= blob_size)
    moved["detail_offset"] = np.where(inside, offsets + by, -1)
    return moved
