"""Memory and open files: flat while nothing is disturbed."""

from collections.abc import Sequence

from tests.soak.checks.finding import Finding, finding
from tests.soak.samples import Growth

PRIVATE_KIB_A_MINUTE_MAX = 1024.0
SLACK_KIB = 1024.0  # what a look may find by chance
FILES_MAX = 8  # more at the end than in the beginning: clients that have just come


def check_flat(grown: Sequence[Growth]) -> Finding:
    """Private memory grows slower than the bound, and no more files are open."""
    worst = max(grown, key=lambda one: one.kib_a_minute, default=None)
    text = f"{len(grown)} processes"
    if worst is not None:
        text += f", the most {worst.kib_a_minute:+,.0f} KiB a minute ({worst.name})"
    return finding("memory and files", text, [fault for one in grown if (fault := _fault(one))])


def _fault(one: Growth) -> str:
    more = one.private_last_kib - one.private_first_kib
    if more > SLACK_KIB + PRIVATE_KIB_A_MINUTE_MAX * one.minutes:
        return f"{one.name}: private memory grew by {more:,.0f} KiB in {one.minutes:.1f} minutes"
    if one.files_last - one.files_first > FILES_MAX:
        return f"{one.name}: {one.files_first:.0f} open files became {one.files_last:.0f}"
    return ""
