"""Processes for tests of the supervisor: each is a class whose `main` behaves in one way, registered as a module."""

import json
import os
import resource
import signal
import sys
import time
from types import ModuleType

from conf import ready
from conf.settings import Settings


def steady(settings: Settings) -> int:
    """Ready at once, beats, ends when told."""
    told: list[int] = []
    signal.signal(signal.SIGTERM, lambda *_: told.append(1))
    print("steady begins", flush=True)
    ready.ready()
    while not told:
        ready.beat()
        time.sleep(0.02)
    print("steady ends", flush=True)
    return 0


def telling(settings: Settings) -> int:
    """Says what it has become."""
    told = {
        "user_id": os.getuid(),
        "group_id": os.getgid(),
        "umask": os.umask(0),
        "cpus": sorted(os.sched_getaffinity(0)),
        "nice": os.getpriority(os.PRIO_PROCESS, 0),
        "files": resource.getrlimit(resource.RLIMIT_NOFILE)[0],
        "core": resource.getrlimit(resource.RLIMIT_CORE)[0],
        "greeting": os.environ.get("GREETING"),
        "systemd": os.environ.get("NOTIFY_SOCKET"),
    }
    print(json.dumps(told), flush=True)
    return steady(settings)


def numbered(settings: Settings, index: int) -> int:
    """One among equals: says which, and waits."""
    print(f"number {index}", flush=True)
    ready.ready()
    signal.sigwait([signal.SIGTERM])
    return 0


def stubborn(settings: Settings) -> int:
    """Ready at once, does not hear SIGTERM."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    ready.ready()
    while True:
        ready.beat()
        time.sleep(0.02)


def hanging(settings: Settings) -> int:
    """Ready and one heartbeat, then nothing more."""
    ready.ready()
    ready.beat()
    time.sleep(3600)
    return 0


def failing(settings: Settings) -> int:
    """Says why and ends."""
    print("the disk is made of cheese", file=sys.stderr, flush=True)
    return 7


def crashing_once_up(settings: Settings) -> int:
    """The first run is good until told by a file; every later one fails at once."""
    spoiled = settings.data_dir / "spoiled"
    if spoiled.exists():
        return 9
    ready.ready()
    while not spoiled.exists():
        time.sleep(0.01)
    return 9


def with_worker(settings: Settings) -> int:
    """Has a child of its own, which would outlive it."""
    if not os.fork():
        time.sleep(3600)
    return steady(settings)


STAND_INS = (telling, numbered, steady, stubborn, hanging, failing, crashing_once_up, with_worker)


def register() -> None:
    """Make each one importable as stand_in_NAME, as the supervisor imports real processes."""
    for main in STAND_INS:
        module = ModuleType(f"stand_in_{main.__name__}")
        module.main = main  # type: ignore[attr-defined]  # a module made here
        sys.modules[module.__name__] = module
