"""What a client asked for and what it was answered: all that a reconciliation may hold the exchange to.

Each client keeps its own; `joined` puts them together.
"""

from collections import Counter, defaultdict
from dataclasses import dataclass, field
from typing import Any

from tests.soak.checks.digests import digest
from tests.soak.wanted.commands import Put, UpdateKey

WRONG_MAX = 50  # answers that can't be, of one client, that are kept


@dataclass
class Known:
    """`asked` may have been done, `acknowledged` was, `refused` was not."""

    asked_orders: set[str] = field(default_factory=set)  # by source
    acknowledged_orders: dict[str, Put] = field(default_factory=dict)
    refused_orders: set[str] = field(default_factory=set)
    asked_cancels: set[int] = field(default_factory=set)  # by order id
    acknowledged_cancels: set[int] = field(default_factory=set)
    asked_updates: set[UpdateKey] = field(default_factory=set)
    acknowledged_updates: set[UpdateKey] = field(default_factory=set)
    refused_updates: set[UpdateKey] = field(default_factory=set)
    latencies_s: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))  # of answers, by method
    answered: Counter[str] = field(default_factory=Counter)  # by method
    refused: Counter[str] = field(default_factory=Counter)
    unanswered: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)  # answers that can't be

    def acknowledge_order(self, source: str, order: dict[str, Any]) -> None:
        """The whole order as the reply shows it."""
        if source in self.acknowledged_orders:
            self.say_wrong(f"order {source} was answered twice")
        self.acknowledged_orders[source] = Put(order["id"], digest(order))

    def say_wrong(self, text: str) -> None:
        """An answer that can't be."""
        if len(self.wrong) < WRONG_MAX:
            self.wrong.append(text)


def joined(parts: list[Known]) -> Known:
    """What all of them know; they have asked for different things."""
    whole = Known()
    for part in parts:
        whole.asked_orders |= part.asked_orders
        whole.acknowledged_orders |= part.acknowledged_orders
        whole.refused_orders |= part.refused_orders
        whole.asked_cancels |= part.asked_cancels
        whole.acknowledged_cancels |= part.acknowledged_cancels
        whole.asked_updates |= part.asked_updates
        whole.acknowledged_updates |= part.acknowledged_updates
        whole.refused_updates |= part.refused_updates
        for method, times in part.latencies_s.items():
            whole.latencies_s[method] += times
        whole.answered += part.answered
        whole.refused += part.refused
        whole.unanswered += part.unanswered
        whole.wrong += part.wrong
    return whole
