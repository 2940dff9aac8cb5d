"""Memory and open files: flat while nothing is disturbed.

What was asked before is remembered, up to limits: numbers as text, texts as numbers, names; and room that is reserved
for 20,000 deals of a market is taken as they come. Until all that is full a process grows, quickly in its first two
minutes, slowly for some ten more. So growth has bounds: one in all since a process began, and one a minute that
depends on how long it had run before it was measured, which depends on how long the soak is.
"""

from collections.abc import Sequence
from typing import NamedTuple

from tests.soak.checks.finding import Finding, finding

FILLED_KIB_MAX = 24 * 1024.0  # in all


class Bound(NamedTuple):
    """How fast a process may grow that has run so long."""

    age_s: float
    kib_a_minute: float


BOUNDS = (Bound(900.0, 256.0), Bound(150.0, 1024.0))  # the oldest first
SLACK_KIB = 2048.0  # a table that doubles
FILES_MAX = 8  # more at the end than in the beginning: clients that have just come


class Growth(NamedTuple):
    """How one process changed while nothing was disturbed: medians of the first and of the last third."""

    name: str
    begin_kib: float  # of private memory, when it began
    first_kib: float
    last_kib: float
    files_first: float
    files_last: float
    minutes: float  # from the middle of the first third to that of the last
    bound: Bound | None  # None: it has not run for long enough

    @property
    def kib_a_minute(self) -> float:
        """How fast private memory grows."""
        return (self.last_kib - self.first_kib) / self.minutes


def check_flat(grown: Sequence[Growth], trouble: Sequence[str]) -> Finding:
    """Private memory stays within its bounds, and no more files are open."""
    measured = [one for one in grown if one.bound is not None]
    text = f"{len(grown)} processes"
    if measured:
        worst = max(measured, key=lambda one: one.kib_a_minute)
        text += f", {len(measured)} of them for long enough to see how fast they grow: the most by "
        text += f"{worst.kib_a_minute:,.0f} KiB a minute ({worst.name})"
    else:
        text += ", none for long enough to see how fast they grow"
    return finding("memory and files", text, [*trouble, *(fault for one in grown if (fault := _fault(one)))])


def _fault(one: Growth) -> str:
    if one.bound and one.last_kib - one.first_kib > SLACK_KIB + one.bound.kib_a_minute * one.minutes:
        return f"{one.name}: private memory grows by {one.kib_a_minute:,.0f} KiB a minute"
    if one.last_kib - one.begin_kib > FILLED_KIB_MAX:
        return f"{one.name}: private memory grew by {one.last_kib - one.begin_kib:,.0f} KiB since it began"
    if one.files_last - one.files_first > FILES_MAX:
        return f"{one.name}: {one.files_first:.0f} open files became {one.files_last:.0f}"
    return ""
