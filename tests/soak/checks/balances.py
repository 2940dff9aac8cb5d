"""Balances: those that the exchange tells, those of the journal, and what there must be of each asset in all."""

from collections import defaultdict
from collections.abc import Iterator, Mapping
from decimal import Decimal

from bus.catalog import Catalog
from tests.reference.exact import exactly, from_units, truncate
from tests.soak.checks.finding import Finding, finding
from tests.soak.wanted.journal import Balances
from tests.soak.wanted.own import Sums

Shown = Mapping[int, Mapping[str, Mapping[str, str]]]  # by user and asset: available and freeze, as HTTP tells them


def check_balances(wanted: Balances, bus: Balances, shown: Shown, catalog: Catalog) -> Finding:
    """To the last unit on the bus, to the last decimal that is shown over HTTP."""
    users = len({user for user, _ in wanted})
    return finding(
        "balances",
        f"{len(wanted):,} of {users:,} users on the bus, and the same over HTTP",
        [*_differing(wanted, bus), *_wrongly_shown(wanted, shown, catalog)],
    )


def _differing(wanted: Balances, found: Balances) -> Iterator[str]:
    for user, asset in sorted(wanted.keys() | found.keys()):
        mine, there = wanted.get((user, asset), (0, 0)), found.get((user, asset), (0, 0))
        if mine != there:
            yield f"user {user} has {there} units of {asset} on the bus, {mine} by the journal"


@exactly
def _wrongly_shown(wanted: Balances, shown: Shown, catalog: Catalog) -> list[str]:
    faults = []
    for user, assets in shown.items():
        for name, held in assets.items():
            asset = catalog.asset_by_name[name]
            for word, units in zip(("available", "freeze"), wanted.get((user, name), (0, 0)), strict=True):
                if Decimal(held[word]) != truncate(from_units(units, asset.prec_save), asset.prec_show):
                    faults.append(f"user {user} is shown {held[word]} {name} {word}, {units} units by the journal")
    return faults


def check_sums(sums: Sums, bus: Balances, catalog: Catalog) -> Finding:
    """All users together have what came in, less what fees took."""
    held: dict[str, int] = defaultdict(int)
    for (_, asset), amounts in bus.items():
        held[asset] += sum(amounts)
    shown = [
        f"{from_units(held[name], asset.prec_save):,} {name} (fees {from_units(sums.fees[name], asset.prec_save):,})"
        for name, asset in catalog.asset_by_name.items()
    ]
    return finding(
        "sums",
        "deposits less withdrawals and fees: " + ", ".join(shown),
        (
            f"all users together have {held[name]} units of {name}, there must be {units}"
            for name, units in sums.units.items()
            if held[name] != units
        ),
    )
