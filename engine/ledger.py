"""Balances: two ledgers a row, available and freeze, and the totals of each asset (CONTRACT 2.4).

Every change here leaves the asset's totals and counts right. Amounts are in units of the asset's prec_save and were
checked before: nothing here refuses. Whoever changes a row has entered it (once: entering twice would look like
leaving).
"""

from engine.kernel import kernel
from engine.schema import Row
from engine.wide import divide, fence, load, store, wide


@kernel
def enter(row: Row) -> None:
    """Begin to change a row with a `lock`: readers that see it odd, or changed since, read again."""
    row["lock"] += 1
    fence()


@kernel
def leave(row: Row) -> None:
    """End a change."""
    fence()
    row["lock"] += 1


@kernel
def set_available(asset: Row, balance: Row, after: int) -> None:
    """Give a balance another available amount."""
    before = load(balance, "available_units")
    if balance["dust"] != 0:
        balance["dust"] = 0
        asset["dust_count"] -= 1
    store(balance, "available_units", after)
    store(asset, "available_units", load(asset, "available_units") + after - before)
    if before == wide(0):
        asset["available_count"] += 1
    if after == wide(0):
        asset["available_count"] -= 1


@kernel
def set_freeze(asset: Row, balance: Row, after: int) -> None:
    """Give a balance another frozen amount."""
    before = load(balance, "freeze_units")
    store(balance, "freeze_units", after)
    store(asset, "freeze_units", load(asset, "freeze_units") + after - before)
    if before == wide(0):
        asset["freeze_count"] += 1
    if after == wide(0):
        asset["freeze_count"] -= 1


@kernel
def change_available(asset: Row, balance: Row, change: int) -> None:
    """Add to the available amount, or take from it."""
    if change == wide(0):
        return
    set_available(asset, balance, load(balance, "available_units") + change)


@kernel
def change_freeze(asset: Row, balance: Row, change: int) -> None:
    """Add to the frozen amount, or take from it."""
    if change == wide(0):
        return
    set_freeze(asset, balance, load(balance, "freeze_units") + change)


@kernel
def move_to_freeze(asset: Row, balance: Row, amount: int) -> None:
    """Freeze an amount of what is available; a negative one unfreezes."""
    set_available(asset, balance, load(balance, "available_units") - amount)
    set_freeze(asset, balance, load(balance, "freeze_units") + amount)


@kernel
def charge(asset: Row, balance: Row, fee: int, divisor: int) -> None:
    """Take `fee` / `divisor` from what is available, the rest truncated toward zero (CONTRACT 2.4, 10.3 E5).

    So the charge is rounded up; an amount that only the rounding made zero stays as an entry.
    """
    if fee == wide(0):
        return
    charged = fee
    inexact = False
    if divisor != 1:
        charged = divide(fee, divisor)
        if charged * wide(divisor) != fee:
            charged = charged + wide(1)
            inexact = True
    after = load(balance, "available_units") - charged
    set_available(asset, balance, after)
    if inexact and after == wide(0):
        balance["dust"] = 1
        asset["dust_count"] += 1


@kernel
def total(balance: Row) -> int:
    """Available and freeze together, as a balance history row shows it."""
    return load(balance, "available_units") + load(balance, "freeze_units")
