"""What stores and topics hold against what follows from the journal: MySQL, Redis, Kafka."""

from collections.abc import Iterator, Mapping
from typing import Any

from tests.soak.checks.digests import SIZE, Chain, count, difference
from tests.soak.checks.finding import Finding, finding

FAMILIES = ("balance_history", "order_history", "order_detail", "deal_history", "user_deal_history")
SHOWN_COUNT = 3


def check_history(wanted: Mapping[str, Chain], found: Mapping[str, Chain]) -> Finding:
    """Every row of each table is there once, in order, and no other."""
    rows = {
        family: sum(count(chain) for table, chain in found.items() if table.rpartition("_")[0] == family)
        for family in FAMILIES
    }
    text = ", ".join(f"{rows[family]:,} of {family}" for family in FAMILIES)
    return finding("MySQL", f"{sum(rows.values()):,} rows: {text}", _differing(wanted, found))


def check_topics(wanted: Mapping[str, Chain], found: Mapping[str, Chain]) -> Finding:
    """Every message of each topic is there once, in order, and no other."""
    text = ", ".join(f"{count(chain):,} of {topic}" for topic, chain in found.items())
    total = sum(map(count, found.values()))
    return finding("Kafka", f"{total:,} messages: {text}", _differing(wanted, found))


def _differing(wanted: Mapping[str, Chain], found: Mapping[str, Chain]) -> Iterator[str]:
    for name in sorted(wanted.keys() | found.keys()):
        if text := difference(wanted.get(name, Chain()), found.get(name, Chain())):
            yield f"{name}: {text}"


def check_redis(wanted: Mapping[str, Any], found: Mapping[str, Any], last_number: int, position: Any) -> Finding:
    """Every key of market data holds what the deals make, and the position is that of the last event."""
    candles = sum(len(value) for value in found.values() if isinstance(value, dict))
    deals = sum(len(value) // SIZE for value in found.values() if isinstance(value, Chain))
    return finding(
        "Redis",
        f"{len(found):,} keys: {candles:,} candles, {deals:,} newest deals, last prices, the position {last_number:,}",
        _wrong_keys(wanted, found, last_number, position),
    )


def _wrong_keys(wanted: Mapping[str, Any], found: Mapping[str, Any], last_number: int, position: Any) -> Iterator[str]:
    if position is None or position["number"] != last_number:
        yield f"the position is {position}, not that of event {last_number:,}"
    for key in sorted(wanted.keys() | found.keys()):
        mine, there = wanted.get(key), found.get(key)
        if mine == there:
            continue
        if isinstance(mine, Chain) and isinstance(there, Chain):
            yield f"{key}: {difference(mine, there)}"
        elif isinstance(mine, dict) and isinstance(there, dict):
            starts = sorted(start for start in mine.keys() | there.keys() if mine.get(start) != there.get(start))
            shown = [f"{start} is {there.get(start)}, not {mine.get(start)}" for start in starts[:SHOWN_COUNT]]
            yield f"{key}: {len(starts):,} candles differ: {'; '.join(shown)}"
        else:
            yield f"{key} is {there}, not {mine}"
