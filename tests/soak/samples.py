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

from tests.soak.disturb.probes import rows
from tests.soak.servers import Servers

INTERVAL_S = 1.0
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


class Growth(NamedTuple):
    """How one process changed while nothing was disturbed: medians of the first and of the last third."""

    name: str
    private_first_kib: float
    private_last_kib: float
    files_first: float
    files_last: float
    minutes: float  # from the middle of the first third to that of the last

    @property
    def kib_a_minute(self) -> float:
        """How fast private memory grows."""
        return (self.private_last_kib - self.private_first_kib) / self.minutes


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
        while not self._is_over.wait(INTERVAL_S):
            now_s = time.monotonic()
            for name, pid in self._find().items():
                if (sample := look(pid, now_s)) is not None:
                    self.samples[name].append(sample)


def growth(name: str, samples: Sequence[Sample], since_s: float) -> Growth | None:
    """What grew of a process that has run since then; None when there are too few samples of one and the same."""
    last = [sample for sample in samples if sample.at_s >= since_s and sample.pid == samples[-1].pid]
    third = len(last) // 3
    if third < 2:
        return None
    first, end = last[:third], last[-third:]
    return Growth(
        name,
        median(sample.private_kib for sample in first),
        median(sample.private_kib for sample in end),
        median(sample.file_count for sample in first),
        median(sample.file_count for sample in end),
        (median(sample.at_s for sample in end) - median(sample.at_s for sample in first)) / 60,
    )
