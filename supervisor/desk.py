"""What the supervisor answers at its control socket (supervisor/control.py): one function for each request."""

from __future__ import annotations

import os
import signal
import sys
import time
from typing import TYPE_CHECKING, Any

from conf.rules import BadSettings
from supervisor import again, control, plan
from supervisor.charge import Charge
from supervisor.plan import Phase

if TYPE_CHECKING:
    from supervisor.main import Supervisor


def answer(supervisor: Supervisor, request: control.Document) -> control.Document:
    """Do what is asked, or begin it; the answer. Raises Refused."""
    match request:
        case {"do": "status"}:
            return status(supervisor)
        case {"do": "stop"}:
            supervisor.stop("asked by `pit down`")
            return {}
        case {"do": "reload"}:
            return _reload(supervisor)
        case {"do": "restart", "name": str(name)}:
            return _restart(supervisor, name)
        case {"do": "program"}:
            return {"executable": sys.executable, "path": sys.path}
        case {"do": "again", "form": int(form)}:
            return _start_again(supervisor, form)
        case {"do": "snapshot"}:
            return _ask_snapshot(supervisor)
    raise control.Refused(f"there is no such request: {request}")


def status(supervisor: Supervisor) -> control.Document:
    """How everything is."""
    now = time.monotonic()
    return {
        "instance": supervisor.settings.instance,
        "data_dir": str(supervisor.settings.data_dir),
        "pid": os.getpid(),
        "run_number": supervisor.run_number,
        "state": "stopping" if supervisor.is_stopping else "up" if supervisor.is_up else "starting",
        "uptime_s": round(now - supervisor.begun_at, 3),
        "event_number": _event_number(supervisor),
        "processes": [_row(supervisor, charge, now) for charge in supervisor.charges.values()],
    }


def _row(supervisor: Supervisor, charge: Charge, now: float) -> dict[str, Any]:
    seen = charge.seen
    return {
        "name": charge.name,
        "state": str(supervisor.phase(charge)),
        "pid": seen.pid,
        "uptime_s": round(now - seen.started_at, 3) if seen.pid else 0.0,
        "restart_count": seen.restart_count,
        "changed_settings": charge.changed_keys,
    }


def _event_number(supervisor: Supervisor) -> int:
    """Of the last event that consumers can have; 0 when there is no event log, or none that can be read."""
    from bus.eventlog import Reader  # numpy comes with it: not before `act.warm` has seen to its threads

    try:
        return Reader(supervisor.settings.paths.events_dir).durable_number
    except OSError:
        return 0


def _reload(supervisor: Supervisor) -> control.Document:
    """Go by the settings as they are in the file now; say what begins, what ends and what has to be restarted."""
    before = {name for name, charge in supervisor.charges.items() if not charge.seen.is_unwanted}
    _accept(supervisor)
    wanted = {name for name, charge in supervisor.charges.items() if not charge.seen.is_unwanted}
    changed = {name: keys for name in sorted(wanted) if (keys := supervisor.charges[name].changed_keys)}
    return {"begins": sorted(wanted - before), "ends": sorted(before - wanted), "changed_settings": changed}


def _restart(supervisor: Supervisor, name: str) -> control.Document:
    """Start a process anew with the settings as they are in the file now."""
    _known(supervisor, name)
    _accept(supervisor)
    charge = _known(supervisor, name)
    if charge.seen.is_unwanted:
        raise control.Refused(f"the settings don't name {name} any more: it ends")
    charge.seen = plan.ask_restart(charge.seen)
    return {"pid": charge.seen.pid}


def _start_again(supervisor: Supervisor, form: int) -> control.Document:
    """Let the supervisor itself start anew; the processes run on."""
    if form != again.FORM:
        raise control.Refused("the program has changed too much to be taken over: `pit down`, `pit up`")
    if not supervisor.is_up or supervisor.is_stopping:
        raise control.Refused("the exchange is starting or stopping: try again when `pit status` says that it is up")
    _accept(supervisor)
    supervisor.is_again_due = True
    return {"run_number": supervisor.run_number}


def _ask_snapshot(supervisor: Supervisor) -> control.Document:
    charge = _known(supervisor, "matcher")
    if supervisor.phase(charge) is not Phase.READY:
        raise control.Refused("the matcher is not ready: `pit status` shows what it does")
    os.kill(charge.seen.pid, signal.SIGUSR1)
    return {}


def _known(supervisor: Supervisor, name: str) -> Charge:
    if (charge := supervisor.charges.get(name)) is None:
        raise control.Refused(f"there is no process {name}; there are {', '.join(supervisor.charges)}")
    return charge


def _accept(supervisor: Supervisor) -> None:
    try:
        settings = supervisor.reload()
        if settings.paths != supervisor.settings.paths:
            raise BadSettings(
                "instance, data_dir and processes_dir can't change while the exchange runs: `pit down`, `pit up`"
            )
        if settings.supervisor.group != supervisor.settings.supervisor.group:
            raise BadSettings("supervisor.group can't change while the exchange runs: `pit down`, `pit up`")
        supervisor.accept(settings)
    except (BadSettings, OSError) as error:
        raise control.Refused(str(error)) from None
