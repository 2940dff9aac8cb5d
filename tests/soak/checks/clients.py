"""What clients were answered against what the journal holds: nothing acknowledged is lost, nothing happened unasked."""

from collections.abc import Iterable, Iterator
from typing import Any

from tests.soak.checks.finding import Finding, finding
from tests.soak.load.known import Known
from tests.soak.wanted.commands import Commands

SHOWN_COUNT = 3


def check_orders(known: Known, held: Commands) -> Finding:
    """Each acknowledged order is there as it was shown, once; each that is there was asked for and not refused."""
    there = held.puts.keys()
    wrong = [source for source, put in known.acknowledged_orders.items() if held.puts.get(source, put) != put]
    unanswered = len(known.asked_orders) - len(known.acknowledged_orders) - len(known.refused_orders)
    done = len(there - known.acknowledged_orders.keys())
    return finding(
        "orders of clients",
        f"{len(known.acknowledged_orders):,} acknowledged, {len(known.refused_orders):,} refused, {unanswered:,} "
        f"without an answer, of which {done:,} were done; {len(there):,} in the journal",
        [
            *_told("acknowledged, and not in the journal", known.acknowledged_orders.keys() - there),
            *_told("not as it was acknowledged", wrong),
            *_told("in the journal more than once", held.doubled),
            *_told("in the journal though it was refused", there & known.refused_orders),
            *_told("in the journal though nobody asked", there - known.asked_orders),
        ],
    )


def check_cancels(known: Known, held: Commands) -> Finding:
    """The same of cancels, by the ids of their orders."""
    return finding(
        "cancels of clients",
        f"{len(known.acknowledged_cancels):,} acknowledged, {len(held.cancelled):,} in the journal",
        [
            *_told("acknowledged, and not in the journal", known.acknowledged_cancels - held.cancelled),
            *_told("cancelled though nobody asked", held.cancelled - known.asked_cancels),
        ],
    )


def check_updates(known: Known, held: Commands) -> Finding:
    """The same of deposits and withdrawals, which are asked for again until they are answered: each counts once."""
    there = held.updates.keys()
    return finding(
        "deposits and withdrawals",
        f"{len(known.acknowledged_updates):,} acknowledged, {len(known.refused_updates):,} refused, "
        f"{held.updates.total():,} in the journal",
        [
            *_told("acknowledged, and not in the journal", known.acknowledged_updates - there),
            *_told("counted more than once", [key for key, times in held.updates.items() if times > 1]),
            *_told("in the journal though it was refused", there & known.refused_updates),
            *_told("in the journal though nobody asked", there - known.asked_updates),
        ],
    )


def check_answers(wrong: list[str], answered_count: int, hostile_count: int) -> Finding:
    """No client was told what can't be, and nothing hostile was accepted."""
    text = f"{answered_count:,} answers, {hostile_count:,} hostile requests"
    return finding("answers", text, wrong)


def _told(what: str, which: Iterable[Any]) -> Iterator[str]:
    found = list(which)
    if found:
        shown = ", ".join(map(str, found[:SHOWN_COUNT]))
        yield f"{len(found):,} {what}: {shown}{', ...' if len(found) > SHOWN_COUNT else ''}"
