"""The supervisor over stand-ins:

run_table.py DATA_DIR INSTANCE SETTINGS_JSON NAME=STAND_IN[:AFTER[:NICE[:INDEX]]]...

The exchange starts without one whose name begins with `spare`."""

import errno
import itertools
import json
import os
import sys
from functools import partial
from pathlib import Path

from conf.rules import parse
from conf.settings import Settings
from supervisor import lock
from supervisor.become import share
from supervisor.main import StartFailed, Supervisor
from supervisor.table import Wanted
from tests.supervisor import stand_ins


def main() -> int:
    data_dir, instance, settings_json, *rows = sys.argv[1:]
    stand_ins.register()
    sections = {"data_dir": data_dir, "instance": instance} | json.loads(settings_json)
    settings = parse(Settings, sections)
    table = []
    for row in rows:
        name, _, rest = row.partition("=")
        stand_in, after, nice, index, *_ = *rest.split(":"), "", "", ""
        table.append(
            Wanted(
                name=name,
                module=f"stand_in_{stand_in}",
                after=tuple(filter(None, [after])),
                nice=int(nice or 0),
                may_be_missing=name.startswith("spare"),
                index=int(index) if index else None,
            )
        )
    fail_forks(int(os.environ.get("FORKS_FAIL", "0")))
    settings.paths.make()
    if settings.supervisor.group:
        share(settings.paths, settings.supervisor.group)
    held = lock.take(settings.paths, wait_s=5)
    try:
        say = partial(print, flush=True)
        Supervisor(settings, lambda _: settings, say, lambda: None, lambda _: table).run()
    except StartFailed as error:
        print(f"FAILED {error}", flush=True)
        return 1
    finally:
        held.release()
    return 0


def fail_forks(count: int) -> None:
    """Have the machine refuse so many forks, after the first one."""
    fork, numbers = os.fork, itertools.count()

    def failing_fork() -> int:
        if 1 <= next(numbers) <= count:
            raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))
        return fork()

    os.fork = failing_fork


if __name__ == "__main__":
    Path(sys.argv[1]).mkdir(parents=True, exist_ok=True)
    sys.exit(main())
