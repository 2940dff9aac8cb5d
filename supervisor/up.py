"""`pit up`: from settings to a running exchange, in the foreground or detached.

    check markets and processes -> make folders -> take the locks -> check addresses -> import what is to run
    -> compile kernels -> supervisor/main.py [ -> supervisor/again.py -> import, compile -> supervisor/main.py ]

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
from dataclasses import replace
from pathlib import Path
from typing import NoReturn, TextIO

from bus import endpoints
from conf import markets
from conf.alert import alert
from conf.operations import Kafka
from conf.paths import Paths
from conf.rules import BadSettings
from conf.settings import Settings, load, load_for
from supervisor import act, lock, logs
from supervisor.again import Handover, start_again, taken_over
from supervisor.become import refuse_impossible, share
from supervisor.health import fetch_health, reachable
from supervisor.main import Reload, StartFailed, Supervisor
from supervisor.table import processes

HEALTH_TIMEOUT_S = 10.0
HEALTH_POLL_S = 0.02
SETTINGS_POLL_S = 0.25
OPEN_FILES_COUNT = 65_536
EXAMPLE = '{"id": 1, "method": "market.list", "params": []}'

Progress = Callable[[str, int, int], None]  # what is compiled, how many are done, of how many; all: it is over


class AddressInUse(Exception):
    """Something else listens on an address of the settings."""


def run_foreground(settings: Settings, conf_file: Path | None, progress: Progress) -> None:
    """Run the exchange until it is told to stop.

    Raises BadMarkets, BadSettings, InUse, AddressInUse, StartFailed, OSError.
    """
    _run(settings, conf_file, progress, sys.stdout, lambda: _greet(settings))


def run_detached(settings: Settings, conf_file: Path | None, progress: Progress) -> None:
    """Run the exchange in the background; return when it answers. Raises StartFailed with the reason."""
    read_fd, write_fd = os.pipe()
    pid = os.fork()
    if not pid:
        os.close(read_fd)
        _run_in_background(settings, conf_file, write_fd)
    os.close(write_fd)
    try:
        with os.fdopen(read_fd) as told:
            _wait_until_up(settings, told, progress)
        if any(wanted.name == "http" for wanted in processes(settings)):
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
    settings: Settings,
    conf_file: Path | None,
    progress: Progress,
    terminal: TextIO | None,
    on_up: Callable[[], None],
) -> None:
    markets.load(settings.markets_file)
    refuse_impossible(settings, processes(settings))
    settings.paths.make()
    held = lock.take(settings.paths, wait_s=settings.supervisor.stop_timeout_s)
    try:
        if settings.supervisor.group:
            share(settings.paths, settings.supervisor.group)  # not before: another may run here
        refuse_used_addresses(settings)
        _allow_open_files()
        prepare(settings, progress)
        say = _speaker(settings, terminal)
        supervisor = Supervisor(settings, _reload(conf_file, settings.data_dir), say, on_up)
        _supervise(supervisor, held, conf_file, is_on_terminal=terminal is not None)
    finally:
        held.release()


def prepare(settings: Settings, progress: Progress) -> None:
    """Import and compile what is to run."""
    act.warm(processes(settings))
    # after `act.warm` has said how numpy is to be loaded
    from engine import kernel_cache
    from engine.warm import compile_all

    compile_all(progress)
    kernel_cache.tidy()
    progress("", 1, 1)


def check_program() -> None:
    """See that the program can be imported and compiled, all of it, whatever the settings ask for."""
    prepare(replace(Settings(), kafka=Kafka(brokers="127.0.0.1:1")), lambda *_: None)


def go_on(handover_fd: int) -> NoReturn:
    """As the program that the supervisor became (supervisor/again.py): go on with the exchange that runs."""
    earlier = taken_over(handover_fd)
    held = lock.Held(earlier.lock_file_fd, socket.socket(fileno=earlier.lock_name_fd))
    reload = _reload(earlier.conf_file, earlier.data_dir)
    while (supervisor := _gone_on(earlier, reload)) is None:
        time.sleep(SETTINGS_POLL_S)
    _supervise(supervisor, held, earlier.conf_file, is_on_terminal=earlier.is_on_terminal)
    held.release()
    sys.exit(0)


def _gone_on(earlier: Handover, reload: Reload) -> Supervisor | None:
    """The supervisor's next run; None while the settings are wrong, which they became after they had been checked.

    To end here would end the exchange. A signal to end it does.
    """
    try:
        settings = reload(None)
        prepare(settings, lambda *_: None)
        say = _speaker(settings, sys.stdout if earlier.is_on_terminal else None)
        return Supervisor(settings, reload, say, lambda: None, earlier=earlier)
    except (BadSettings, OSError) as error:
        if signal.sigpending() & {signal.SIGTERM, signal.SIGINT, signal.SIGHUP}:
            raise
        alert(Paths(earlier.data_dir, ""), "supervisor", f"it watches nothing until the settings are good: {error}")
        return None


def _supervise(supervisor: Supervisor, held: lock.Held, conf_file: Path | None, *, is_on_terminal: bool) -> None:
    """Run until told to stop, here or as the program that this one becomes."""
    act.settle()
    while True:
        supervisor.run()
        if not supervisor.is_again_due:
            return
        handover = Handover(
            conf_file=conf_file,
            data_dir=supervisor.settings.data_dir,
            is_on_terminal=is_on_terminal,
            is_up=supervisor.is_up,
            begun_at=supervisor.begun_at,
            run_number=supervisor.run_number,
            listener_fd=supervisor.listener.fileno(),
            lock_file_fd=held.file_fd,
            lock_name_fd=held.name.fileno(),
            charges=[charge.handed_over() for charge in supervisor.charges.values()],
        )
        try:
            start_again(handover)
        except OSError as error:
            alert(supervisor.settings.paths, "supervisor", f"it could not start anew, and goes on as it is: {error}")
            supervisor.is_again_due = False


def _reload(conf_file: Path | None, data_dir: Path) -> Reload:
    def reload(name: str | None) -> Settings:
        if name is not None:
            return load_for(name, conf_file, data_dir)
        settings = load(conf_file, data_dir)
        try:
            markets.load(settings.markets_file)  # a matcher that is restarted with a bad one would not come back
        except markets.BadMarkets as error:
            raise BadSettings(str(error)) from None
        return settings

    return reload


def _run_in_background(settings: Settings, conf_file: Path | None, write_fd: int) -> None:
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
        _redirect(settings.paths.log_file("supervisor"))
        _run(settings, conf_file, lambda *step: tell(progress=step), None, be_up)
        code = 0
    except BaseException as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr, flush=True)
        if not told.closed:
            tell(failed=str(error) or type(error).__name__)
    finally:
        os._exit(code)


def _redirect(log_file: Path) -> None:
    log_file.parent.mkdir(parents=True, exist_ok=True)
    with Path(os.devnull).open() as null, log_file.open("a") as log:
        os.dup2(null.fileno(), 0)
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)


def _speaker(settings: Settings, terminal: TextIO | None) -> Callable[[str], None]:
    """Lines for the operator: on the terminal when there is one, and always in the supervisor's log."""
    path = settings.paths.log_file("supervisor")

    def say(text: str) -> None:
        line = f"{time.strftime('%Y-%m-%d %H:%M:%S')} {text}"
        # A full disk or a closed terminal must not end the exchange, nor one of them silence the other.
        with contextlib.suppress(OSError):
            logs.append(path, line)
        with contextlib.suppress(OSError):
            if terminal is not None:
                print(line, file=terminal, flush=True)

    return say


def refuse_used_addresses(settings: Settings) -> None:
    """See that nobody listens on what the processes will listen on. Raises AddressInUse."""
    kinds = {wanted.kind for wanted in processes(settings)}
    for kind, key, bind, protocol in (
        ("http", "http.bind", settings.http.bind, socket.SOCK_STREAM),
        ("ws", "ws.bind", settings.ws.bind, socket.SOCK_STREAM),
        ("admin", "admin.bind", settings.admin.bind, socket.SOCK_STREAM),
        ("alertcenter", "alert.bind", settings.alert.bind, socket.SOCK_STREAM),
        ("alertcenter", "alert.bind", settings.alert.bind, socket.SOCK_DGRAM),
    ):
        if kind in kinds and bind:
            _refuse_used_address(key, bind, protocol)
    for name, endpoint in endpoints.ENDPOINTS.items():
        if endpoint.bound_by not in kinds:
            continue
        key = f"bus.{name}" if getattr(settings.bus, name, "") else "bus.bind"
        for index in range(settings.history.processes if name == "history" else 1):
            address = endpoints.place(settings, name, index)
            if address.startswith("tcp://"):
                _refuse_used_address(key, address.removeprefix("tcp://"))


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


def _wait_until_up(settings: Settings, told: TextIO, progress: Progress) -> None:
    for line in told:
        match json.loads(line):
            case {"progress": [str(what), int(done), int(total)]}:
                progress(what, done, total)
            case {"failed": str(why)}:
                raise StartFailed(why)
            case {"up": True}:
                return
    raise StartFailed(f"the supervisor ended without a word; see {settings.paths.log_file('supervisor')}")


def _wait_until_healthy(settings: Settings) -> None:
    deadline = time.monotonic() + HEALTH_TIMEOUT_S
    while (status := fetch_health(settings.http.bind).status) != "200":
        if time.monotonic() > deadline:
            lines = "\n".join(f"  {line}" for line in logs.tail(settings.paths.log_file("http"), 20))
            raise StartFailed(f"http://{settings.http.bind}/health answers {status}. The end of the http log:\n{lines}")
        time.sleep(HEALTH_POLL_S)
