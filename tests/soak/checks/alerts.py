"""Alerts: only those that what was done to the exchange explains."""

import json
import re
from collections import Counter

from tests.soak.checks.finding import Finding, finding

EXPECTED = (
    ("supervisor", r"\S+ ended: killed by SIGKILL; it is started again"),
    ("supervisor", r"\S+ was killed: no heartbeat for \d+ s"),
    ("recorder", r"nothing is stored in the history, which will catch up: .*"),
    ("recorder", r"the history is stored again after .*"),
    ("recorder", r"[\d,]+ events are not in the history yet"),
    ("recorder", r"the backlog of the history is drained: .*"),
    (r"history-\d", r"the history can't be read, questions get code 2: .*"),
    (r"history-\d", r"the history is read again"),
    ("market", r"market data is not \w+, which is tried again: .*"),
    ("market", r"market data is \w+ again"),
    ("market", r"market data is loaded anew: .*"),
    ("market", r"the store of market data did not answer when the process was to end"),
)


def check_alerts(lines: list[str]) -> Finding:
    """Each line of alerts.jsonl is of an expected kind."""
    kinds: Counter[str] = Counter()
    faults = []
    for line in lines:
        alert = json.loads(line)
        kinds[alert["process"]] += 1
        if not any(_is(alert, process, text) for process, text in EXPECTED):
            faults.append(f"{alert['process']}: {alert['text']}")
    counts = ", ".join(f"{count} of {process}" for process, count in kinds.most_common())
    return finding("alerts", f"{len(lines)}: {counts}", faults)


def _is(alert: dict[str, str], process: str, text: str) -> bool:
    return (
        re.fullmatch(process, alert["process"]) is not None and re.fullmatch(text, alert["text"], re.DOTALL) is not None
    )
