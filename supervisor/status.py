"""What `pit status` shows: the supervisor's rows, with memory and CPU time of each process and its workers, and how
many events those who store what they make of them have not stored yet.
"""

import io
import json
from typing import Any

import psutil
from rich.console import Console
from rich.table import Table

from bus import positions
from conf.settings import Settings
from supervisor.health import fetch_health

STATE_COLOURS = {"ready": "green", "failed": "red"}
MIB = 1 << 20

Document = dict[str, Any]


def gather(settings: Settings, answer: Document, before: Document | None = None) -> Document:
    """The supervisor's answer, completed for reading; `before` is what an earlier look gave, if there was one."""
    stored = positions.told(settings.paths.positions_dir)
    earlier = {row["pid"]: row for row in before["processes"]} if before else {}
    processes = []
    for row in answer["processes"]:
        row = row | usage(row["pid"])
        row["cpu_percent"] = cpu_percent(row, earlier.get(row["pid"]))
        row["behind_count"] = behind(answer["event_number"], stored.get(row["name"]))
        processes.append(row)
    facts = {name: value for name, value in answer.items() if name not in ("ok", "processes")}
    return facts | {"http": settings.http.bind, "sequence": sequence(settings), "processes": processes}


def sequence(settings: Settings) -> int | None:
    """The number of the matcher's last command, as the HTTP gateway tells it; None when it can't be asked."""
    _, body = fetch_health(settings.http.bind)
    try:
        return int(json.loads(body)["sequence"])
    except (ValueError, TypeError, KeyError):
        return None


def behind(event_number: int, stored_number: int | None) -> int | None:
    """How many events a process has not stored yet; None when it stores none, or has not told."""
    return None if stored_number is None else max(0, event_number - stored_number)


def cpu_percent(row: Document, before: Document | None) -> float:
    """How much of one CPU a process takes: since an earlier look, or on average since it began."""
    cpu_s = row["cpu_s"] - (before["cpu_s"] if before else 0.0)
    time_s = row["uptime_s"] - (before["uptime_s"] if before else 0.0)
    return round(max(0.0, 100.0 * cpu_s / time_s), 1) if time_s > 0 else 0.0


def usage(pid: int) -> Document:
    """Memory and CPU time of a process and all that it has started; zeros when it is gone.

    `memory_size` is in bytes, pages that several share counted in parts (PSS), so that the sum is what is in use.
    """
    memory_size, cpu_s = 0, 0.0
    try:
        family = [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)] if pid else []
    except psutil.NoSuchProcess:
        family = []
    for process in family:
        try:
            memory_size += process.memory_full_info().pss
            times = process.cpu_times()
            cpu_s += times.user + times.system
        except psutil.Error:
            continue
    return {"memory_size": memory_size, "cpu_s": round(cpu_s, 2), "process_count": len(family)}


def table(facts: Document) -> str:
    """The facts for people."""
    rows = Table(box=None, pad_edge=False)
    for column in ("name", "state"):
        rows.add_column(column)
    for column in ("pid", "up", "restarts", "memory", "cpu", "behind"):
        rows.add_column(column, justify="right")
    for row in facts["processes"]:
        colour = STATE_COLOURS.get(row["state"], "yellow")
        rows.add_row(
            row["name"],
            f"[{colour}]{row['state']}[/]",
            str(row["pid"] or "-"),
            duration(row["uptime_s"]),
            str(row["restart_count"]),
            f"{row['memory_size'] / MIB:.0f} MiB",
            f"{row['cpu_percent']:.0f} %",
            "-" if row["behind_count"] is None else f"{row['behind_count']:,}",
        )
    head = f'exchange "{facts["instance"]}" is {facts["state"]}, {duration(facts["uptime_s"])}, http://{facts["http"]}'
    if facts["sequence"] is not None:
        head += f", {facts['sequence']:,} commands"
    text = io.StringIO()
    console = Console(file=text, force_terminal=Console().is_terminal, width=100)
    console.print(head, markup=False, highlight=False)
    console.print(rows)
    if changed := [row["name"] for row in facts["processes"] if row.get("changed_settings")]:
        console.print(f"settings have changed since these began: {', '.join(changed)}; `pit reload` says which")
    return text.getvalue().rstrip()


def duration(seconds: float) -> str:
    """Seconds as 5 s, 3 min 20 s, 2 h 5 min, 4 d 3 h."""
    whole = int(seconds)
    for unit, size, smaller, smaller_size in (("d", 86400, "h", 3600), ("h", 3600, "min", 60), ("min", 60, "s", 1)):
        if whole >= size:
            return f"{whole // size} {unit} {whole % size // smaller_size} {smaller}"
    return f"{whole} s"
