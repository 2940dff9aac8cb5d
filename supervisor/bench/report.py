"""What a benchmark prints: the machine, then rows of a figure beside its goal, as a table or as JSON."""

import json
import os
import platform
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path

import numpy as np
import psutil
from rich.console import Console
from rich.table import Table

PERCENTS = (50, 90, 99, 99.9, 99.99, 100)


@dataclass(frozen=True, kw_only=True)
class Row:
    """One figure."""

    what: str
    value: float
    unit: str
    goal: str = ""  # as it was set, in words
    detail: str = ""


@dataclass(kw_only=True)
class Report:
    """All that a benchmark found out."""

    title: str
    machine: dict[str, str] = field(default_factory=lambda: machine())
    rows: list[Row] = field(default_factory=list)

    def add(self, what: str, value: float, unit: str, goal: str = "", detail: str = "") -> None:
        """Append a figure."""
        self.rows.append(Row(what=what, value=value, unit=unit, goal=goal, detail=detail))

    def show(self, *, as_json: bool) -> None:
        """Print it."""
        self.machine["load after"] = _load()
        if as_json:
            print(json.dumps(asdict(self), indent=2))
            return
        console = Console()
        for name, value in self.machine.items():
            console.print(f"{name:>12}  {value}", highlight=False)
        table = Table("what", "figure", "goal", title=self.title, show_lines=True)
        for row in self.rows:
            what = f"{row.what}\n[dim]{row.detail}[/]" if row.detail else row.what
            table.add_row(what, f"{_number(row.value)} {row.unit}", row.goal)
        console.print(table)


def percentiles(values: Sequence[float] | np.ndarray, percents: Sequence[float] = PERCENTS) -> dict[str, float]:
    """The percentiles by name: p50, p99.9, ..., max."""
    found = np.percentile(np.asarray(values), percents)
    return {"max" if p == 100 else f"p{p}": float(value) for p, value in zip(percents, found, strict=True)}


def percentile_text(values: Sequence[float] | np.ndarray, unit: str, percents: Sequence[float] = PERCENTS) -> str:
    """The percentiles in one line."""
    return ", ".join(f"{name} {_number(value)}" for name, value in percentiles(values, percents).items()) + f" {unit}"


def machine(folder: Path | None = None) -> dict[str, str]:
    """What it ran on."""
    described = {
        "machine": f"{_cpu()}, {len(os.sched_getaffinity(0))} CPUs, {psutil.virtual_memory().total / 2**30:.1f} GiB",
        "system": f"Linux {platform.release()}, Python {platform.python_version()}, "
        + ", ".join(f"{name} {version(name)}" for name in ("numpy", "numba", "pyzmq")),
        "date": time.strftime("%Y-%m-%d %H:%M %Z"),
        "load before": _load(),
    }
    if folder is not None:
        described["disk"] = f"{_file_system(folder)} at {folder}"
    return described


def _load() -> str:
    return " ".join(f"{load:.2f}" for load in os.getloadavg())


def _cpu() -> str:
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _file_system(folder: Path) -> str:
    mounts = [part for part in psutil.disk_partitions(all=True) if folder.resolve().is_relative_to(part.mountpoint)]
    best = max(mounts, key=lambda part: len(part.mountpoint))
    return f"{best.fstype} on {best.device}"


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 or value == int(value) else f"{value:.3g}"
