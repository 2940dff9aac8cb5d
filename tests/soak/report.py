"""The report of a soak, in Markdown."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from statistics import median
from typing import Any

from supervisor.bench.report import machine, percentiles
from tests.soak.checks.finding import SHOWN_COUNT
from tests.soak.run import Outcome, is_ours
from tests.soak.samples import KIB_A_MIB

Cells = Sequence[Any]
LATENCY_PERCENTS = (50, 90, 99, 100)


def text_of(outcome: Outcome) -> str:
    """The whole report."""
    parts = (_head(outcome), _findings(outcome), _load(outcome), _troubles(outcome), _memory(outcome))
    return "\n\n".join("\n".join(part) for part in parts) + "\n"


def _head(outcome: Outcome) -> Iterator[str]:
    plan = outcome.plan
    failed = [each.name for each in outcome.findings if not each.agrees]
    yield f"# Soak of {plan.seconds / 60:g} minutes: " + (f"FAILED: {', '.join(failed)}" if failed else "all agrees")
    yield ""
    yield f"Seed {plan.seed}. " + "; ".join(f"{name}: {value}" for name, value in machine().items())
    yield ""
    yield (
        f"{outcome.command_count:,} commands in the journal, {outcome.event_count:,} events; load for "
        f"{outcome.load_s:.0f} s, after which the stores needed {outcome.drain_s:.1f} s to catch up; replayed and "
        f"compared in {outcome.replay_s:.0f} s."
    )


def _findings(outcome: Outcome) -> Iterator[str]:
    yield "## Reconciliation"
    yield ""
    for each in outcome.findings:
        yield f"* {'ok' if each.agrees else '**WRONG**'}: {each.name}: {each.text}"
    for each in outcome.findings:
        if not each.agrees:
            yield ""
            yield f"**{each.name}**"
            yield ""
            yield from (f"* {fault}" for fault in each.faults[:SHOWN_COUNT])
            if len(each.faults) > SHOWN_COUNT:
                yield f"* and {len(each.faults) - SHOWN_COUNT:,} more"


def _load(outcome: Outcome) -> Iterator[str]:
    known = outcome.known
    yield "## Load"
    yield ""
    rows = []
    names = sorted({*known.answered, *known.refused, *known.unanswered, *known.latencies_s})
    for name in names:
        times = known.latencies_s.get(name, [])
        shown = percentiles([1000 * seconds for seconds in times], LATENCY_PERCENTS) if times else {}
        counts = (known.answered[name], known.refused[name], known.unanswered[name])
        rows.append((name, *(f"{count:,}" for count in counts), *(f"{value:.1f}" for value in shown.values())))
    head = ("method", "done", "refused", "unanswered", "p50 ms", "p90 ms", "p99 ms", "longest ms")
    yield from table(head, [[*row, *[""] * (len(head) - len(row))] for row in rows])
    yield ""
    yield f"{outcome.told_count:,} WebSocket messages over {outcome.connection_count:,} connections."


def _troubles(outcome: Outcome) -> Iterator[str]:
    yield "## Troubles, and how long until all was right again"
    yield ""
    times: dict[tuple[str, str], list[float]] = defaultdict(list)
    for done in outcome.done:
        times[done.kind, done.target].append(done.back_s * 1000)
    rows = [
        (kind, target, len(found), f"{median(found):,.0f}", f"{max(found):,.0f}")
        for (kind, target), found in sorted(times.items())
    ]
    yield from table(("what", "of", "times", "median ms", "longest ms"), rows)


def _memory(outcome: Outcome) -> Iterator[str]:
    yield "## Memory and open files"
    yield ""
    grown = {each.name: each for each in outcome.grown}
    rows = []
    for name, samples in sorted(outcome.samples.items(), key=lambda item: (not is_ours(item[0]), item[0])):
        one = grown.get(name)
        rate = f"{one.kib_a_minute:+,.0f}" if one else ""
        files = f"{one.files_first:.0f} to {one.files_last:.0f}" if one else ""
        rows.append((
            name,
            len({sample.pid for sample in samples}),
            _range([sample.pss_kib for sample in samples]),
            _range([sample.private_kib for sample in samples]),
            _mib(max(sample.shared_kib for sample in samples)),
            rate,
            max(sample.file_count for sample in samples),
            files,
        ))
    head = ("process", "runs", "PSS MiB", "private MiB", "shared MiB", "KiB/min, calm", "files, most", "files, calm")
    yield from table(head, rows)
    yield ""
    yield "Of MiB: at first, at last, at most. Calm: the end of the load, when nothing was disturbed any more."


def table(head: Cells, rows: Sequence[Cells]) -> Iterator[str]:
    """A table in Markdown that is readable as text, too."""
    texts = [[str(cell).replace("|", "/") for cell in row] for row in (head, *rows)]
    widths = [max(map(len, column)) for column in zip(*texts, strict=True)]
    for place, row in enumerate(texts):
        yield "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |"
        if place == 0:
            yield "|" + "|".join("-" * (width + 2) for width in widths) + "|"


def _range(kib: Sequence[int]) -> str:
    return f"{_mib(kib[0])}, {_mib(kib[-1])}, {_mib(max(kib))}"


def _mib(kib: float) -> str:
    return f"{kib / KIB_A_MIB:.1f}"
