"""Alerts: what an operator must know, as one JSON line in data_dir/alerts.jsonl and one line on stderr.

The same text of the same process is written once in REPEAT_S, so that a fault that shows up with every request
does not flood. Nothing is sent anywhere from here.
"""

import json
import sys
import time
from contextlib import suppress
from datetime import UTC, datetime

from conf.paths import Paths

REPEAT_S = 60.0
REMEMBERED_MAX = 1_000

_last_times: dict[tuple[str, str], float] = {}


def alert(paths: Paths, process: str, text: str, *, now: float | None = None) -> bool:
    """Write an alert; return whether it was (False: the same one was there less than REPEAT_S ago).

    `now` is in seconds since 1970. A disk that refuses is reported on stderr, if that takes it: an alert never ends
    a process.
    """
    now = time.time() if now is None else now
    if now - _last_times.get((process, text), -REPEAT_S) < REPEAT_S:
        return False
    if len(_last_times) >= REMEMBERED_MAX:
        _last_times.clear()
    _last_times[process, text] = now
    say(f"ALERT {process}: {text}")
    line = {
        "time": datetime.fromtimestamp(now, UTC).isoformat(),
        "instance": paths.instance,
        "process": process,
        "text": text,
    }
    try:
        with paths.alerts_file.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
    except OSError as error:
        say(f"ALERT {process}: this alert could not be written to {paths.alerts_file}: {error}")
    return True


def say(text: str) -> None:
    """Write a line on stderr, which may be a log on a full disk: then it is lost."""
    with suppress(OSError):
        print(text, file=sys.stderr, flush=True)
