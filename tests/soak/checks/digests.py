"""Digests of rows and messages: millions fit into memory, in their order, and what differs between two is found."""

from collections import Counter
from decimal import Decimal
from hashlib import blake2b
from typing import Any

import orjson

from tests.reference.exact import EXACT

SIZE = 16

Chain = bytearray  # digests one after the other


def digest(value: Any) -> bytes:
    """Of a JSON value, in which numbers may be decimals: equal ones are the same, whatever zeros they end with."""
    text = orjson.dumps(value, option=orjson.OPT_SORT_KEYS, default=_plain)
    return blake2b(text, digest_size=SIZE).digest()


def count(chain: bytes | Chain) -> int:
    """How many digests it has."""
    return len(chain) // SIZE


def items(chain: bytes | Chain) -> list[bytes]:
    """The digests."""
    return [bytes(chain[place : place + SIZE]) for place in range(0, len(chain), SIZE)]


def difference(expected: bytes | Chain, found: bytes | Chain) -> str:
    """How two chains differ, in words; empty when they don't."""
    if expected == found:
        return ""
    wanted, there = items(expected), items(found)
    missing, extra = Counter(wanted) - Counter(there), Counter(there) - Counter(wanted)
    known = set(wanted)
    doubled = sum(times for item, times in extra.items() if item in known)
    pairs = zip(wanted, there, strict=False)
    place = next((place for place, pair in enumerate(pairs) if pair[0] != pair[1]), min(len(wanted), len(there)))
    words = [f"{len(there):,} instead of {len(wanted):,}, the first difference at place {place:,}"]
    words += [f"{missing.total():,} missing"] * bool(missing)
    words += [f"{doubled:,} doubled"] * bool(doubled)
    words += [f"{extra.total() - doubled:,} unexpected"] * (extra.total() > doubled)
    if not missing and not extra:
        words.append("the same ones in another order")
    return ", ".join(words)


def _plain(value: Any) -> str:
    if isinstance(value, Decimal):
        return str(value.normalize(EXACT))
    raise TypeError(f"{value!r} has no digest")
