"""Snapshots: the whole content of an exchange in one file, from which a restart begins its replay.

    00000000000000001234.snapshot      named after the last command that is in it
    +--------------+-------------+---------+---------+---- - -
    | PREFIX, 24 B | header JSON | array 0 | array 1 |            each starts at a multiple of 64 bytes
    +--------------+-------------+---------+---------+---- - -

The header says what is in the file: counters, the listing, and of each array the dtype, place and CRC. It has a CRC
itself, so that no flipped bit goes unnoticed. A file is complete or has another name: it is written beside, synced,
then renamed. This module knows nothing of what the arrays mean; that is engine/content.py.
"""

import json
import os
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
from numpy.typing import NDArray

from bus.messages import Bytes
from conf import markets
from conf.markets import BadMarkets, Listing
from engine.exchange import Exchange
from engine.journal_files import sync_directory

SUFFIX = ".snapshot"
MAGIC = b"TPITSNAP"
VERSION = 1
ALIGNMENT = 64
_PREFIX = struct.Struct("<8sIIq")  # magic, version, CRC of the header, size of the header
assert _PREFIX.size == 24

Content = dict[str, NDArray[Any]]


class BadSnapshot(Exception):
    """The file is no whole snapshot: the text says why."""


@dataclass(frozen=True, kw_only=True)
class Snapshot:
    """A snapshot that was read and checked. The arrays of `content` can't be written to."""

    path: Path
    sequence: int
    event_number: int
    results_hash: int
    time: float
    listing: Listing
    content: Content


class Found(NamedTuple):
    """The newest good snapshot, and what was wrong with newer ones."""

    snapshot: Snapshot | None
    skipped: list[str]


def save(directory: Path, exchange: Exchange, *, keep_count: int = 3) -> Path:
    """Write a snapshot, durably; then only the newest `keep_count` stay. Raises OSError, nothing changed then."""
    path = directory / f"{exchange.sequence:020d}{SUFFIX}"
    partial = path.with_suffix(".tmp")
    content = exchange.dump()
    try:
        with partial.open("wb") as stream:
            _write(stream, _facts(exchange), content)
            stream.flush()
            os.fsync(stream.fileno())
        partial.rename(path)
        sync_directory(directory)
    finally:
        partial.unlink(missing_ok=True)
    for old in snapshots(directory)[keep_count:]:
        old.unlink()
    return path


def snapshots(directory: Path) -> list[Path]:
    """All snapshots, newest first."""
    return sorted((file for file in directory.glob(f"*{SUFFIX}") if file.stem.isdigit()), reverse=True)


def newest(directory: Path, *, event_number_max: int | None = None) -> Found:
    """The newest snapshot that is good, and not behind event `event_number_max`."""
    skipped = []
    for path in snapshots(directory):
        try:
            facts, _ = _read_header(path)
            if event_number_max is not None and facts["event_number"] > event_number_max:
                skipped.append(f"{path}: the event log ends with {event_number_max}, before {facts['event_number']}")
                continue
            return Found(load(path), skipped)
        except BadSnapshot as error:
            skipped.append(f"{path}: {error}")
    return Found(None, skipped)


def load(path: Path) -> Snapshot:
    """Read a snapshot. Raises BadSnapshot."""
    facts, start = _read_header(path)
    try:
        data = path.read_bytes()
    except OSError as error:
        raise BadSnapshot(str(error)) from error
    try:
        content = {row["name"]: _array(row, memoryview(data)[start:]) for row in facts["arrays"]}
        return Snapshot(
            path=path,
            sequence=facts["sequence"],
            event_number=facts["event_number"],
            results_hash=facts["results_hash"],
            time=facts["time"],
            listing=markets.parse(facts["listing"]),
            content=content,
        )
    except (KeyError, TypeError, ValueError, BadMarkets) as error:
        raise BadSnapshot(f"its header makes no sense: {error}") from error


def _facts(exchange: Exchange) -> dict[str, Any]:
    return {
        "sequence": exchange.sequence,
        "event_number": exchange.event_number,
        "order_id": exchange.order_id,
        "deal_id": exchange.deal_id,
        "results_hash": exchange.results_hash,
        "time": exchange.time,
        "listing": json.loads(exchange.listing.to_json()),
    }


def _write(stream: BinaryIO, facts: dict[str, Any], content: Content) -> None:
    rows, parts, offset = [], [], 0
    for name, array in content.items():
        data = _bytes_of(array)
        rows.append({
            "name": name,
            "dtype": np.lib.format.dtype_to_descr(array.dtype),
            "count": len(array),
            "offset": offset,
            "size": len(data),
            "crc": zlib.crc32(data),
        })
        parts.append((offset, data))
        offset += _aligned(len(data))
    header = json.dumps(facts | {"arrays": rows}).encode()
    start = _aligned(_PREFIX.size + len(header))
    stream.write(_PREFIX.pack(MAGIC, VERSION, zlib.crc32(header), len(header)) + header)
    for offset, data in parts:
        stream.seek(start + offset)
        stream.write(data)


def _read_header(path: Path) -> tuple[dict[str, Any], int]:
    """What the header says, and where the arrays begin. Raises BadSnapshot."""
    try:
        with path.open("rb") as stream:
            prefix = stream.read(_PREFIX.size)
            if len(prefix) < _PREFIX.size:
                raise BadSnapshot(f"{len(prefix)} bytes are too few")
            magic, version, crc, size = _PREFIX.unpack(prefix)
            if magic != MAGIC or version != VERSION:
                raise BadSnapshot(f"this is no snapshot of version {VERSION}")
            if not 0 <= size <= path.stat().st_size - _PREFIX.size:
                raise BadSnapshot(f"a header of {size} bytes does not fit into the file")
            header = stream.read(size)
    except OSError as error:
        raise BadSnapshot(str(error)) from error
    if zlib.crc32(header) != crc:
        raise BadSnapshot("the CRC of its header is wrong")
    return json.loads(header), _aligned(_PREFIX.size + size)


def _array(row: dict[str, Any], data: memoryview) -> NDArray[Any]:
    """One array of the file; `data` begins where the arrays do. Raises BadSnapshot."""
    part = data[row["offset"] : row["offset"] + row["size"]]
    if len(part) != row["size"]:
        raise BadSnapshot(f"the file ends within {row['name']}")
    if zlib.crc32(part) != row["crc"]:
        raise BadSnapshot(f"the CRC of {row['name']} is wrong")
    return np.frombuffer(part, _dtype(row["dtype"]))


def _dtype(descr: Any) -> np.dtype[Any]:
    """The dtype that JSON made lists of."""
    if isinstance(descr, str):
        return np.dtype(descr)
    return np.dtype([(name, _dtype(inner), *map(tuple, shape)) for name, inner, *shape in descr])


def _bytes_of(array: NDArray[Any]) -> Bytes:
    return np.ascontiguousarray(array).view(np.uint8).reshape(-1).data


def _aligned(size: int) -> int:
    return -(-size // ALIGNMENT) * ALIGNMENT
