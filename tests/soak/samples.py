"""Memory and open files of every process, a sample every second, and whether they are flat.

Private memory is what a process has for itself (RssAnon): what it leaks is there. PSS counts what it shares, too, and
changes when those it shares with come and go. Shared memory (RssShmem) is the matcher's state: it grows with the first
use of each slot, up to what is configured.
"""

import threading
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from typing import NamedTuple

import psutil

from tests.soak.checks.flat import BOUNDS, Growth
from tests.soak.disturb.probes import rows
from tests.soak.servers import Servers

INTERVAL_S = 1.0
THIRD_LEAST, SAMPLES_LEAST = 2, 45
KIB_A_MIB = 1024
PROC = Path("/proc")


class Sample(NamedTuple):
    """One look at a process."""

    at_s: float  # of the monotonic clock
    pid: int
    pss_kib: int
    private_kib: int
    shared_kib: int
    file_count: int


def look(pid: int, now_s: float) -> Sample | None:
    """A sample of a process; None when it is gone."""
    folder = PROC / str(pid)
    try:
        status = _fields(folder / "status")
        pss_kib = _fields(folder / "smaps_rollup")["Pss"]
        file_count = sum(1 for _ in (folder / "fd").iterdir())
        return Sample(now_s, pid, pss_kib, status["RssAnon"], status["RssShmem"], file_count)
    except (OSError, KeyError):
        return None


def _fields(file: Path) -> dict[str, int]:
    """The numbers of a file of lines like `RssAnon:  1234 kB`."""
    found = {}
    for line in file.read_text().splitlines():
        name, _, rest = line.partition(":")
        words = rest.split()
        if words and words[0].isdigit():
            found[name] = int(words[0])
    return found


def pids(servers: Servers) -> dict[str, int]:
    """Every process by name: the exchange's, its supervisor, HTTP workers, and the servers."""
    found = {}
    for name, row in rows(servers.running).items():
        if row["pid"]:
            found[name] = int(row["pid"])
    try:
        if "http" in found:
            workers = psutil.Process(found["http"]).children()
            found |= {f"http worker {index}": worker.pid for index, worker in enumerate(workers)}
            found["supervisor"] = psutil.Process(found["http"]).ppid()
        return found | servers.outside_pids()
    except psutil.NoSuchProcess:
        return found


class Sampler:
    """Looks at them in a thread as long as the block runs. `samples` are by name, in time."""

    def __init__(self, find: Callable[[], dict[str, int]]) -> None:
        self.samples: dict[str, list[Sample]] = defaultdict(list)
        self.trouble: list[str] = []  # what ended it early
        self._find = find
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="soak-samples")

    def __enter__(self) -> "Sampler":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over.set()
        self._thread.join()

    def _run(self) -> None:
        try:
            while not self._is_over.wait(INTERVAL_S):
                self._look()
        except Exception as error:
            self.trouble.append(f"no more samples were taken: {type(error).__name__}: {error}")

    def _look(self) -> None:
        now_s = time.monotonic()
        for name, pid in self._find().items():
            if (sample := look(pid, now_s)) is not None:
                self.samples[name].append(sample)


def growth(name: str, samples: Sequence[Sample], since_s: float) -> Growth | None:
    """What grew of a process since then; None when there are too few samples of one and the same.

    It is measured from the age on that the first bound names for which there are samples enough.
    """
    own = [sample for sample in samples if sample.pid == samples[-1].pid]
    measured, found = [sample for sample in own if sample.at_s >= since_s], None
    for bound in BOUNDS:
        older = [sample for sample in measured if sample.at_s >= own[0].at_s + bound.age_s]
        if len(older) >= SAMPLES_LEAST:
            measured, found = older, bound
            break
    third = len(measured) // 3
    if third < THIRD_LEAST:
        return None
    first, last = measured[:third], measured[-third:]
    return Growth(
        name,
        own[0].private_kib,
        median(sample.private_kib for sample in first),
        median(sample.private_kib for sample in last),
        median(sample.file_count for sample in first),
        median(sample.file_count for sample in last),
        (median(sample.at_s for sample in last) - median(sample.at_s for sample in first)) / 60,
        found,
    )
