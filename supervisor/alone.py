"""`pit run NAME`: one process in the foreground, without a supervisor, for whoever has one of his own.

Several may share a data folder, each process once. `pit up` and they exclude each other: a supervisor holds the lock
of the folder for itself, they hold it together.
"""

import importlib
from contextlib import nullcontext
from pathlib import Path

from conf import markets
from conf.rules import BadSettings
from conf.settings import Settings, load_for
from supervisor import lock
from supervisor.become import prepare as set_limits
from supervisor.become import refuse_impossible, special
from supervisor.table import Wanted, processes
from supervisor.up import Progress, prepare


def run_alone(name: str, settings: Settings, conf_file: Path | None, progress: Progress) -> int:
    """Run a process until it ends; its exit code. Raises BadMarkets, BadSettings, InUse, OSError."""
    table = processes(settings)
    wanted = _named(name, table)
    markets.load(settings.markets_file)
    own = load_for(name, conf_file, settings.data_dir)
    refuse_impossible(own, (wanted,))
    if special(own, wanted).user:
        raise BadSettings(
            f"process.{name}.user: `pit run` runs it as who you are: leave the setting out, or use `pit up`"
        )
    settings.paths.make()
    lock.take_part(settings.paths, name)
    with lock.take_name(settings.instance) if name == "matcher" else nullcontext():
        prepare(settings, progress)
        set_limits(special(own, wanted), wanted.nice)
        arguments = (own,) if wanted.index is None else (own, wanted.index)
        return int(importlib.import_module(wanted.module).main(*arguments))


def _named(name: str, table: tuple[Wanted, ...]) -> Wanted:
    for wanted in table:
        if wanted.name == name:
            return wanted
    raise BadSettings(f"there is no process {name}; there are {', '.join(wanted.name for wanted in table)}")
