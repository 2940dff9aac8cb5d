"""The supervisor's loop: look, plan, act; and answer the control socket.

It does one thing at a time, in one thread, and holds nothing that a forked child could not simply close. Signals only
wake it; what is to be done is decided by supervisor/plan.py.
"""

import contextlib
import os
import selectors
import signal
import socket
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from conf.alert import alert
from conf.operations import Supervisor as Limits
from conf.ready import BEAT, READY
from conf.rules import BadSettings
from conf.settings import Settings
from supervisor import act, control, logs, plan
from supervisor.plan import Kill, Phase, Seen, Start, Terminate
from supervisor.table import Wanted, processes

TICK_S = 0.25
PAUSE_S = 2.0  # a turn that is this late was not the processes' fault
ROTATE_INTERVAL_S = 5.0
CONNECTIONS_MAX = 32
STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)

Say = Callable[[str], None]


class StartFailed(Exception):
    """A process ended before the exchange was up: the text says which, how, and what it wrote last."""


class Supervisor:
    """The processes of one exchange. `run` returns when all have ended."""

    def __init__(
        self,
        settings: Settings,
        reload: Callable[[], Settings],
        say: Say,
        on_up: Callable[[], None],
        table: Sequence[Wanted] | None = None,
    ) -> None:
        self.settings = settings
        self._reload = reload
        self._say = say
        self._on_up = on_up
        self._table = processes(settings) if table is None else table
        self._seen = {wanted.name: Seen() for wanted in self._table}
        self._log_starts: dict[str, int] = {}  # where the output of the present run begins
        self._told_fds: dict[int, str] = {}
        self._received: dict[socket.socket, bytes] = {}
        self._selector = selectors.DefaultSelector()
        self._listener = control.listen(settings.paths)
        self._wake_in, self._wake_out = socket.socketpair()
        self._begun_at = time.monotonic()
        self._rotated_at = self._begun_at
        self._is_up = False
        self._is_stopping = False
        self._is_hurried = False
        self._is_reaping_due = False
        self._failure = ""

    def run(self) -> None:
        """Start everything, keep it running, and return after having been told to stop. Raises StartFailed."""
        self._catch_signals()
        self._selector.register(self._listener, selectors.EVENT_READ, self._accept)
        self._selector.register(self._wake_in, selectors.EVENT_READ, self._take_signals)
        turned_at = time.monotonic()
        while not (self._is_stopping and all(not seen.pid for seen in self._seen.values())):
            self._act(time.monotonic())
            for key, _ in self._selector.select(TICK_S):
                key.data(key.fileobj)
            if self._is_reaping_due:
                self._reap()
            now = time.monotonic()
            if now - turned_at > PAUSE_S:
                self._seen = {name: plan.forgive(seen, now) for name, seen in self._seen.items()}
            turned_at = now
            self._notice_up()
            self._rotate_logs(now)
        self._remove_sockets()
        if self._failure:
            raise StartFailed(self._failure)

    def _act(self, now: float) -> None:
        for action in plan.plan(self._table, self._seen, self._limits(), now, stopping=self._is_stopping):
            seen = self._seen[action.name]
            match action:
                case Start(name):
                    self._seen[name] = self._start(name, seen, now)
                case Terminate(name):
                    self._say(f"{name}: stopping (pid {seen.pid})")
                    act.terminate(seen.pid)
                    self._seen[name] = plan.terminate(seen, now)
                case Kill(name, why):
                    self._say(f"{name}: killed (pid {seen.pid}): {why}")
                    alert(self.settings.paths, "supervisor", f"{name} was killed: {why}")
                    act.kill(seen.pid)
                    self._seen[name] = plan.kill(seen)

    def _limits(self) -> Limits:
        """Until everything has been ready once, nothing is tried again; a second Ctrl-C ends the patience."""
        limits = self.settings.supervisor
        if not self._is_up:
            limits = replace(limits, restart_count_max=0)
        return replace(limits, stop_timeout_s=0.1) if self._is_hurried else limits

    def _start(self, name: str, seen: Seen, now: float) -> Seen:
        wanted = next(row for row in self._table if row.name == name)
        self._log_starts[name] = logs.size(logs.log_file(self.settings.paths, name))
        child = act.start(wanted, self.settings, self._close)
        self._told_fds[child.told_fd] = name
        self._selector.register(child.told_fd, selectors.EVENT_READ, self._take_words)
        self._say(f"{name}: started (pid {child.pid})")
        return plan.start(seen, child.pid, now)

    def _take_words(self, fd: int) -> None:
        """Read what a process says in its pipe."""
        name, now = self._told_fds[fd], time.monotonic()
        words = os.read(fd, 1024)
        if not words:
            self._forget_pipe(fd)
        seen = self._seen[name]
        if READY in words and seen.ready_at is None:
            self._seen[name] = plan.become_ready(seen, now)
            self._say(f"{name}: ready after {now - seen.started_at:.3f} s")
        if BEAT in words:
            self._seen[name] = plan.beat(self._seen[name], now)

    def _take_signals(self, wake: socket.socket) -> None:
        numbers = wake.recv(1024)
        # Reaping closes pipes; that must wait for the pipes that this turn has found readable.
        self._is_reaping_due |= signal.SIGCHLD in numbers
        if any(number in numbers for number in STOP_SIGNALS):
            self._is_hurried = self._is_stopping
            self._stop("signal received")

    def _reap(self) -> None:
        self._is_reaping_due = False
        now = time.monotonic()
        names = {seen.pid: name for name, seen in self._seen.items() if seen.pid}
        for pid, how, is_orderly in act.reap():
            name = names[pid]
            for fd in [fd for fd, owner in self._told_fds.items() if owner == name]:
                self._forget_pipe(fd)
            was_asked = self._is_stopping or self._seen[name].is_restart_asked
            was_ready = self._seen[name].ready_at is not None  # before, it had nothing to bring in order
            self._seen[name] = plan.end(self._seen[name], self._limits(), now)
            self._say(f"{name}: ended (pid {pid}): {how}")
            if not was_asked:
                self._report_failure(name, how)
            elif was_ready and not is_orderly:
                alert(self.settings.paths, "supervisor", f"{name} did not stop in order: {how}")

    def _report_failure(self, name: str, how: str) -> None:
        """An end that nobody asked for: while the exchange starts it is final, later it is an alert."""
        path = logs.log_file(self.settings.paths, name)
        if not self._is_up:
            lines = "\n".join(f"  {line}" for line in logs.tail(path, 20, self._log_starts[name]))
            self._failure = f"{name} ended while the exchange was starting: {how}. The end of {path}:\n{lines}"
            self._stop(f"{name} could not be started")
            return
        gave_up = plan.phase(self._seen[name], self._limits()) is Phase.FAILED
        after = f"; it stays down: see {path}, then `pit restart {name}`" if gave_up else "; it is started again"
        self._say(f"{name}: {how}{after}")
        alert(self.settings.paths, "supervisor", f"{name} ended: {how}{after}")

    def _notice_up(self) -> None:
        phases = {plan.phase(seen, self._limits()) for seen in self._seen.values()}
        if not self._is_up and not self._is_stopping and phases == {Phase.READY}:
            self._is_up = True
            self._say(f"the exchange is up after {time.monotonic() - self._begun_at:.2f} s")
            self._on_up()

    def _stop(self, why: str) -> None:
        if not self._is_stopping:
            self._say(f"stopping: {why}")
        self._is_stopping = True

    def _rotate_logs(self, now: float) -> None:
        if now - self._rotated_at < ROTATE_INTERVAL_S:
            return
        self._rotated_at = now
        limits = self.settings.supervisor
        for name in logs.names(self.settings.paths):
            logs.rotate(logs.log_file(self.settings.paths, name), limits.log_max_size, limits.log_keep_count)

    def _accept(self, listener: socket.socket) -> None:
        with contextlib.suppress(BlockingIOError):
            connection, _ = listener.accept()
            if len(self._received) >= CONNECTIONS_MAX:
                connection.close()
                return
            connection.setblocking(False)
            self._received[connection] = b""
            self._selector.register(connection, selectors.EVENT_READ, self._serve)

    def _serve(self, connection: socket.socket) -> None:
        rest = control.serve(connection, self._received[connection], self._answer)
        if rest is not None:
            self._received[connection] = rest
            return
        self._selector.unregister(connection)
        del self._received[connection]
        connection.close()

    def _answer(self, request: control.Document) -> control.Document:
        match request:
            case {"do": "status"}:
                return self._status()
            case {"do": "stop"}:
                self._stop("asked by `pit down`")
                return {}
            case {"do": "restart", "name": str(name)}:
                self._restart(name)
                return {"restart_count": self._seen[name].restart_count}
            case {"do": "snapshot"}:
                return self._ask_snapshot()
        raise control.Refused(f"there is no such request: {request}")

    def _status(self) -> control.Document:
        now = time.monotonic()
        return {
            "instance": self.settings.instance,
            "data_dir": str(self.settings.data_dir),
            "pid": os.getpid(),
            "state": "stopping" if self._is_stopping else "up" if self._is_up else "starting",
            "uptime_s": round(now - self._begun_at, 3),
            "event_number": self._event_number(),
            "processes": [self._row(name, seen, now) for name, seen in self._seen.items()],
        }

    def _event_number(self) -> int:
        """Of the last event that consumers can have; 0 when there is no event log, or none that can be read."""
        from bus.eventlog import Reader  # numpy comes with it: not before `act.warm` has seen to its threads

        try:
            return Reader(self.settings.paths.events_dir).durable_number
        except OSError:
            return 0

    def _row(self, name: str, seen: Seen, now: float) -> dict[str, Any]:
        return {
            "name": name,
            "state": str(plan.phase(seen, self._limits())),
            "pid": seen.pid,
            "uptime_s": round(now - seen.started_at, 3) if seen.pid else 0.0,
            "restart_count": seen.restart_count,
        }

    def _restart(self, name: str) -> None:
        """Start a process anew with the settings as they are in the file now."""
        if name not in self._seen:
            raise control.Refused(f"there is no process {name}; there are {', '.join(self._seen)}")
        try:
            settings = self._reload()
        except (BadSettings, OSError) as error:
            raise control.Refused(str(error)) from None
        if settings.paths != self.settings.paths:
            raise control.Refused("instance and data_dir can't change while the exchange runs: `pit down`, `pit up`")
        self.settings = settings
        self._seen[name] = plan.ask_restart(self._seen[name])

    def _ask_snapshot(self) -> control.Document:
        seen = self._seen["matcher"]
        if plan.phase(seen, self._limits()) is not Phase.READY:
            raise control.Refused("the matcher is not ready: `pit status` shows what it does")
        os.kill(seen.pid, signal.SIGUSR1)
        return {}

    def _remove_sockets(self) -> None:
        """Nobody listens any more: the control socket is this process's own, the others ZeroMQ leaves behind."""
        for path in self.settings.paths.sockets_dir.glob("*.sock"):
            path.unlink(missing_ok=True)

    def _forget_pipe(self, fd: int) -> None:
        self._selector.unregister(fd)
        del self._told_fds[fd]
        os.close(fd)

    def _catch_signals(self) -> None:
        self._wake_in.setblocking(False)
        self._wake_out.setblocking(False)
        signal.set_wakeup_fd(self._wake_out.fileno())
        for number in (*STOP_SIGNALS, signal.SIGCHLD):
            signal.signal(number, lambda *_: None)  # the number arrives through the wake-up socket

    def _close(self) -> None:
        """In a forked child: close what belongs to the supervisor. The locks stay open (supervisor/lock.py)."""
        self._selector.close()
        for held in (self._listener, self._wake_in, self._wake_out, *self._received):
            held.close()
        for fd in self._told_fds:
            os.close(fd)
