"""Balances: two dictionaries, available and freeze, by user and asset (CONTRACT 2.4).

An entry that is not in its dictionary is no balance at all; an entry may also hold zero, when truncation made it so.
"""

from collections.abc import Callable
from decimal import Decimal

from tests.reference.exact import ZERO, truncate

Key = tuple[int, int]  # user, asset index
Entries = dict[Key, Decimal]


class Ledger:
    """All balances of an exchange. `decimals(asset)` is how many an asset's balances keep."""

    def __init__(self, decimals: Callable[[int], int]) -> None:
        self.available: Entries = {}
        self.freeze: Entries = {}
        self._decimals = decimals

    def add(self, entries: Entries, key: Key, amount: Decimal) -> None:
        """Put `amount` on top of an entry."""
        assert amount >= 0
        self._store(entries, key, entries.get(key, ZERO) + amount)

    def subtract(self, entries: Entries, key: Key, amount: Decimal) -> None:
        """Take `amount` off an entry, which has to hold as much: whoever calls has checked it."""
        assert 0 <= amount <= entries.get(key, ZERO)
        self._store(entries, key, entries.get(key, ZERO) - amount)

    def move(self, source: Entries, target: Entries, key: Key, amount: Decimal) -> None:
        """From available to freeze, or back."""
        self.subtract(source, key, amount)
        self.add(target, key, amount)

    def total(self, key: Key) -> Decimal:
        """Available and freeze of one user together."""
        return self.available.get(key, ZERO) + self.freeze.get(key, ZERO)

    def total_of_all(self, asset: int) -> Decimal:
        """Available and freeze of all users together."""
        return sum((*self.values(self.available, asset), *self.values(self.freeze, asset)), ZERO)

    @staticmethod
    def values(entries: Entries, asset: int) -> list[Decimal]:
        """What the users' entries in an asset hold, zeros too."""
        return [value for (_, owned), value in entries.items() if owned == asset]

    def _store(self, entries: Entries, key: Key, value: Decimal) -> None:
        """Exactly zero: no entry. Otherwise what is left of it after truncation, be it zero."""
        if value == 0:
            entries.pop(key, None)
        else:
            entries[key] = truncate(value, self._decimals(key[1]))
