"""What a check says."""

from collections.abc import Iterable
from typing import NamedTuple

SHOWN_COUNT = 8  # faults that a report shows of a finding


class Finding(NamedTuple):
    """One line of the reconciliation: it agrees when there is no fault."""

    name: str
    text: str  # what was compared, with counts
    faults: tuple[str, ...] = ()

    @property
    def agrees(self) -> bool:
        """Whether all is as it should be."""
        return not self.faults


def finding(name: str, text: str, faults: Iterable[str]) -> Finding:
    """A finding of any number of faults."""
    return Finding(name, text, tuple(faults))
