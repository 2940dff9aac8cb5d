"""Alerts: only those that what was done to the exchange explains, and each of them once in Redis."""

import json
import re
from collections import Counter
from collections.abc import Iterator, Sequence

from tests.soak.checks.finding import Finding, finding

EXPECTED = (
    ("supervisor", r"\S+ ended: killed by SIGKILL; it is started again"),
    ("supervisor", r"\S+ was killed: no heartbeat for \d+ s"),
    ("recorder", r"nothing is stored in the history, which will catch up: .*"),
    ("recorder", r"the history is stored again after .*"),
    (r"history-\d", r"the history can't be read, questions get code 2: .*"),
    (r"history-\d", r"the history is read again"),
    ("courier", r"nothing is sent to Kafka, which will catch up: .*"),
    ("courier", r"Kafka takes messages again after .*"),
    ("market", r"market data is not (loaded|stored), which is tried again: .*"),
    ("market", r"market data is (loaded|stored) again"),
    ("market", r"market data is loaded anew: .*"),
    ("alertcenter", r"alerts do not arrive \(redis\), which is tried again: .*"),
    ("alertcenter", r"alerts arrive again \(redis\)"),
)


def check_alerts(lines: Sequence[str], elements: Sequence[str]) -> Finding:
    """`lines` are those of alerts.jsonl, `elements` those of the list in Redis."""
    found = [json.loads(line) for line in lines]
    counts = ", ".join(f"{count} of {process}" for process, count in Counter(_process(one) for one in found).items())
    text = f"{len(lines)}: {counts}; {len(elements)} in Redis"
    return finding("alerts", text, [*_unexpected(found), *_not_in_redis(found, elements)])


def _process(alert: dict[str, str]) -> str:
    return alert["process"]


def _unexpected(alerts: Sequence[dict[str, str]]) -> Iterator[str]:
    for alert in alerts:
        if not any(_is(alert, process, text) for process, text in EXPECTED):
            yield f"{alert['process']}: {alert['text']}"


def _is(alert: dict[str, str], process: str, text: str) -> bool:
    is_process = re.fullmatch(process, alert["process"]) is not None
    return is_process and re.fullmatch(text, alert["text"], re.DOTALL) is not None


def _not_in_redis(alerts: Sequence[dict[str, str]], elements: Sequence[str]) -> Iterator[str]:
    """In the original's form, in the same order (CONTRACT 8)."""
    wanted = [f"{alert['process']}: [fatal]{alert['where']}: {alert['text']}".replace("\n", " ") for alert in alerts]
    if list(elements) != wanted:
        missing, extra = Counter(wanted) - Counter(elements), Counter(elements) - Counter(wanted)
        yield f"the list in Redis: {missing.total()} missing {[*missing][:1]}, {extra.total()} too many {[*extra][:1]}"
