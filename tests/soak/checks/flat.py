"""Memory and open files: flat while nothing is disturbed.

What was asked before is remembered, up to limits: numbers as text, texts as numbers, names. Until these caches are full
a process grows, and that takes minutes. So growth has two bounds: one in all since a process began, and one a minute
for those that have run for WARM_S, as far as the soak is long enough to see them.
"""

from collections.abc import Sequence
from typing import NamedTuple

from tests.soak.checks.finding import Finding, finding

WARM_S = 150.0
FILLED_KIB_MAX = 24 * 1024.0  # in all
KIB_A_MINUTE_MAX = 768.0  # then; the last caches fill so slowly
SLACK_KIB = 512.0  # what a look may find by chance
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
    is_warm: bool  # it had run for WARM_S before

    @property
    def kib_a_minute(self) -> float:
        """How fast private memory grows."""
        return (self.last_kib - self.first_kib) / self.minutes


def check_flat(grown: Sequence[Growth], trouble: Sequence[str]) -> Finding:
    """Private memory stays within both bounds, and no more files are open."""
    warm = [one for one in grown if one.is_warm]
    text = f"{len(grown)} processes, of which {len(warm)} have run for {WARM_S:g} s before they were measured"
    if worst := max(warm, key=lambda one: one.kib_a_minute, default=None):
        text += f": the most grows by {worst.kib_a_minute:,.0f} KiB a minute ({worst.name})"
    return finding("memory and files", text, [*trouble, *(fault for one in grown if (fault := _fault(one)))])


def _fault(one: Growth) -> str:
    if one.is_warm and one.last_kib - one.first_kib > SLACK_KIB + KIB_A_MINUTE_MAX * one.minutes:
        return f"{one.name}: private memory grows by {one.kib_a_minute:,.0f} KiB a minute"
    if one.last_kib - one.begin_kib > FILLED_KIB_MAX:
        return f"{one.name}: private memory grew by {one.last_kib - one.begin_kib:,.0f} KiB since it began"
    if one.files_last - one.files_first > FILES_MAX:
        return f"{one.name}: {one.files_first:.0f} open files became {one.files_last:.0f}"
    return ""
