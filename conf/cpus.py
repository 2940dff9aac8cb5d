"""Keeping a process on one CPU, so that its caches stay warm and no other work of its own moves it about."""

import os
from collections.abc import Set

from conf.settings import CPU_LAST


def pin(wanted_cpu: int) -> None:
    """Pin this thread, and those it starts later, as the setting says (`matcher.cpu`)."""
    if (cpu := pick(wanted_cpu, os.sched_getaffinity(0))) is not None:
        os.sched_setaffinity(0, {cpu})


def pick(wanted_cpu: int, allowed: Set[int]) -> int | None:
    """The CPU to pin to; None for not pinning: not wanted, no choice, or not a CPU that this process may use."""
    if wanted_cpu == CPU_LAST and len(allowed) > 1:
        return max(allowed)
    return wanted_cpu if wanted_cpu in allowed else None
