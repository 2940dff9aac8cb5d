"""`pit up`: from settings to a running exchange, in the foreground or detached.

    check markets -> make folders -> take the locks -> check addresses -> import what is to run
    -> compile kernels -> supervisor/main.py

Detached, all of it happens in a forked child that tells its parent, one JSON line at a time, how far it is; the
parent returns when the exchange answers a request, or with the reason why it does not.
"""

import contextlib
import json
import os
import resource
import signal
import socket
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TextIO

from bus import endpoints
from conf import markets
from conf.settings import Settings
from supervisor import act, lock, logs
from supervisor.health import fetch_health, reachable
from supervisor.main import StartFailed, Supervisor
from supervisor.table import processes

HEALTH_TIMEOUT_S = 10.0
HEALTH_POLL_S = 0.02
OPEN_FILES_COUNT = 65_536
EXAMPLE = '{"id": 1, "method": "market.list", "params": []}'

Reload = Callable[[], Settings]
Progress = Callable[[str, int, int], None]  # what is compiled, how many are done, of how many; all: it is over


class AddressInUse(Exception):
    """Something else listens on an address of the settings."""


def run_foreground(settings: Settings, reload: Reload, progress: Progress) -> None:
    """Run the exchange until it is told to stop. Raises BadMarkets, InUse, AddressInUse, StartFailed, OSError."""
    _run(settings, reload, progress, _speaker(settings, sys.stdout), lambda: _greet(settings))


def run_detached(settings: Settings, reload: Reload, progress: Progress) -> None:
    """Run the exchange in the background; return when it answers. Raises StartFailed with the reason."""
    read_fd, write_fd = os.pipe()
    pid = os.fork()
    if not pid:
        os.close(read_fd)
        _run_in_background(settings, reload, write_fd)
    os.close(write_fd)
    try:
        with os.fdopen(read_fd) as told:
            _wait_until_up(settings, told, progress)
        _wait_until_healthy(settings)
    except BaseException:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGTERM)
        raise


def greeting(settings: Settings) -> str:
    """Where the exchange is and what to try first."""
    commands = endpoints.address(settings.bus.bind, settings.paths.sockets_dir, "commands")
    rows = {
        "data": settings.data_dir,
        "http": f"http://{settings.http.bind}",
        "ws": f"ws://{settings.ws.bind}",
        "bus": commands,
        "try": f"curl -s http://{reachable(settings.http.bind)} -d '{EXAMPLE}'",
    }
    return "\n".join((f'exchange "{settings.instance}"', *(f"  {name:<6}{text}" for name, text in rows.items())))


def _greet(settings: Settings) -> None:
    print(f"{greeting(settings)}\n  end   Ctrl-C, or `pit down`; state stays in the data folder", flush=True)


def _run(
    settings: Settings, reload: Reload, progress: Progress, say: Callable[[str], None], on_up: Callable[[], None]
) -> None:
    markets.load(settings.markets_file)
    settings.paths.make()
    held = lock.take(settings.paths, wait_s=settings.supervisor.stop_timeout_s)
    try:
        refuse_used_addresses(settings)
        _allow_open_files()
        act.warm(processes(settings))
        _compile(progress)
        act.settle()
        Supervisor(settings, reload, say, on_up).run()
    finally:
        held.release()


def _run_in_background(settings: Settings, reload: Reload, write_fd: int) -> None:
    """The forked child: leave the terminal, run, and report through the pipe. Does not return."""
    told = os.fdopen(write_fd, "w")

    def tell(**what: object) -> None:
        with contextlib.suppress(BrokenPipeError):
            told.write(json.dumps(what) + "\n")
            told.flush()

    def be_up() -> None:
        tell(up=True)
        told.close()

    code = 1
    try:
        os.setsid()
        settings.paths.make()
        _redirect(logs.log_file(settings.paths, "supervisor"))
        _run(settings, reload, lambda *step: tell(progress=step), _speaker(settings, None), be_up)
        code = 0
    except BaseException as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr, flush=True)
        if not told.closed:
            tell(failed=str(error) or type(error).__name__)
    finally:
        os._exit(code)


def _redirect(log_file: Path) -> None:
    with Path(os.devnull).open() as null, log_file.open("a") as log:
        os.dup2(null.fileno(), 0)
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)


def _speaker(settings: Settings, terminal: TextIO | None) -> Callable[[str], None]:
    """Lines for the operator: on the terminal when there is one, and always in the supervisor's log."""
    path = logs.log_file(settings.paths, "supervisor")

    def say(text: str) -> None:
        line = f"{time.strftime('%Y-%m-%d %H:%M:%S')} {text}"
        with contextlib.suppress(OSError):  # a full disk or a closed terminal must not end the exchange
            if terminal is not None:
                print(line, file=terminal, flush=True)
            logs.append(path, line)

    return say


def refuse_used_addresses(settings: Settings) -> None:
    """See that nobody listens on what the processes will listen on. Raises AddressInUse."""
    _refuse_used_address("http.bind", settings.http.bind)
    _refuse_used_address("ws.bind", settings.ws.bind)
    if settings.alert.bind:
        _refuse_used_address("alert.bind", settings.alert.bind)
        _refuse_used_address("alert.bind", settings.alert.bind, socket.SOCK_DGRAM)
    if settings.bus.bind == "ipc":
        return
    for name in endpoints.ENDPOINTS:
        for index in range(settings.history.processes if name == "history" else 1):
            _refuse_used_address("bus.bind", endpoints.place(settings, name, index).removeprefix("tcp://"))


def _refuse_used_address(key: str, bind: str, kind: socket.SocketKind = socket.SOCK_STREAM) -> None:
    host, _, port = bind.rpartition(":")
    family = socket.AF_INET6 if host.startswith("[") else socket.AF_INET
    with socket.socket(family, kind) as probe:
        if kind is socket.SOCK_STREAM:  # of datagrams, two could share the address, and one would get them all
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host.strip("[]"), int(port)))
        except OSError as error:
            why = f"{key}: {bind} can't be listened on ({error.strerror}); end what uses it, or set another {key}"
            raise AddressInUse(why) from None


def _allow_open_files() -> None:
    """Ask for as many open files as processes with thousands of connections need; the usual 1024 are too few."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    allowed = OPEN_FILES_COUNT if hard == resource.RLIM_INFINITY else min(hard, OPEN_FILES_COUNT)
    if soft != resource.RLIM_INFINITY and soft < allowed:
        resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))


def _compile(progress: Progress) -> None:
    # after `act.warm` has said how numpy is to be loaded
    from engine import kernel_cache
    from engine.warm import compile_all

    compile_all(progress)
    kernel_cache.tidy()
    progress("", 1, 1)


def _wait_until_up(settings: Settings, told: TextIO, progress: Progress) -> None:
    for line in told:
        match json.loads(line):
            case {"progress": [str(what), int(done), int(total)]}:
                progress(what, done, total)
            case {"failed": str(why)}:
                raise StartFailed(why)
            case {"up": True}:
                return
    raise StartFailed(f"the supervisor ended without a word; see {logs.log_file(settings.paths, 'supervisor')}")


def _wait_until_healthy(settings: Settings) -> None:
    deadline = time.monotonic() + HEALTH_TIMEOUT_S
    while (status := fetch_health(settings.http.bind).status) != "200":
        if time.monotonic() > deadline:
            lines = "\n".join(f"  {line}" for line in logs.tail(logs.log_file(settings.paths, "http"), 20))
            raise StartFailed(f"http://{settings.http.bind}/health answers {status}. The end of the http log:\n{lines}")
        time.sleep(HEALTH_POLL_S)
