"""The supervisor's loop: look, plan, act; and answer the control socket.

It does one thing at a time, in one thread, and holds nothing that a forked child could not simply close. Signals only
wake it; what is to be done is decided by supervisor/plan.py, what is asked is answered in supervisor/desk.py.
"""

import contextlib
import os
import selectors
import signal
import socket
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

from conf.alert import alert
from conf.operations import Supervisor as Limits
from conf.ready import BEAT, READY
from conf.settings import Settings
from supervisor import act, control, desk, logs, notify, plan
from supervisor.again import Handover
from supervisor.become import HANDLED_SIGNALS, refuse_impossible
from supervisor.charge import NOWHERE, Charge, marks
from supervisor.plan import Kill, Phase, Start, Terminate
from supervisor.table import Wanted, processes

TICK_S = 0.25
PAUSE_S = 2.0  # a turn that is this late was not the processes' fault
ROTATE_INTERVAL_S = 5.0
CONNECTIONS_MAX = 32
STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)

Say = Callable[[str], None]
Reload = Callable[[str | None], Settings]  # the settings as they are now: everybody's, or those of one process


class StartFailed(Exception):
    """A process ended before the exchange was up: the text says which, how, and what it wrote last."""


class Supervisor:
    """The processes of one exchange."""

    def __init__(
        self,
        settings: Settings,
        reload: Reload,
        say: Say,
        on_up: Callable[[], None],
        table: Callable[[Settings], Sequence[Wanted]] = processes,
        earlier: Handover | None = None,
    ) -> None:
        """With `earlier`, go on with what the supervisor's run before this one has left. Raises BadSettings."""
        self.settings = settings
        self.charges: dict[str, Charge] = {}
        self.run_number = earlier.run_number + 1 if earlier else 1
        self.begun_at = earlier.begun_at if earlier else time.monotonic()
        self.is_up = earlier is not None and earlier.is_up
        self.is_stopping = False
        self.is_again_due = False
        self.listener = earlier.listener if earlier else control.listen(settings.paths)
        self._reload = reload
        self._say = say
        self._on_up = on_up
        self._table = table
        self._watchdog = notify.Watchdog()
        self._told_fds: dict[int, str] = {}
        self._received: dict[socket.socket, bytes] = {}
        self._selector = selectors.DefaultSelector()
        self._wake_in, self._wake_out = socket.socketpair()
        self._rotation = logs.Rotation(time.time())
        self._rotated_at = time.monotonic()
        self._is_hurried = False
        self._is_reaping_due = earlier is not None
        self._failure = ""
        self._selector.register(self.listener, selectors.EVENT_READ, self._accept)
        self._selector.register(self._wake_in, selectors.EVENT_READ, self._take_signals)
        self.accept(settings)
        if earlier:
            self._take_over(earlier)

    def run(self) -> None:
        """Start everything, keep it running, and return after having been told to stop. Raises StartFailed.

        With `is_again_due` it returns while everything runs: the supervisor is to start anew.
        """
        self._catch_signals()
        turned_at = time.monotonic()
        while not self._is_leaving() and not (self.is_stopping and not self._is_any_left):
            self._act(time.monotonic())
            for key, _ in self._selector.select(TICK_S):
                key.data(key.fileobj)
            if self._is_reaping_due:
                self._reap()
            now = time.monotonic()
            if now - turned_at > PAUSE_S:
                self._forgive(now)
            turned_at = now
            self._notice_up()
            self._watchdog.turn(now)
            self._rotate_logs(now)
        if self.is_again_due:
            self._act(time.monotonic())  # who has just died need not wait for the next run
            return
        self._remove_sockets()
        if self._failure:
            raise StartFailed(self._failure)

    def reload(self) -> Settings:
        """The settings as they are in the file now. Raises BadSettings, OSError."""
        return self._reload(None)

    def accept(self, settings: Settings) -> None:
        """From now on go by these settings: what runs goes on as it began, what they don't name any more ends.

        Raises BadSettings and OSError, and then has changed nothing.
        """
        table = self._table(settings)
        own = {wanted.name: self._reload(wanted.name) for wanted in table}
        for wanted in table:
            refuse_impossible(own[wanted.name], (wanted,))
        before, self.charges = self.charges, {}
        for wanted in table:
            charge = before.pop(wanted.name, None) or Charge(wanted=wanted, settings=own[wanted.name])
            charge.wanted, charge.settings = wanted, own[wanted.name]
            charge.seen = plan.want(charge.seen, is_wanted=True)
            self.charges[wanted.name] = charge
        for name, charge in before.items():
            charge.seen = plan.want(charge.seen, is_wanted=False)
            self.charges[name] = charge
        self.settings = settings
        self._drop_unwanted()

    def limits(self) -> Limits:
        """Until all that is needed has been ready once, nothing is tried again; a second Ctrl-C ends the patience."""
        limits = self.settings.supervisor
        if not self.is_up:
            limits = replace(limits, restart_count_max=0)
        return replace(limits, stop_timeout_s=0.1) if self._is_hurried else limits

    def phase(self, charge: Charge) -> Phase:
        """Where a process stands."""
        return plan.phase(charge.seen, self.limits())

    def stop(self, why: str) -> None:
        """Begin to end everything."""
        if not self.is_stopping:
            self._say(f"stopping: {why}")
            notify.tell(STOPPING=1)
        self.is_stopping = True
        self.is_again_due = False  # the next run would not know that it is to stop

    def _is_leaving(self) -> bool:
        """Whether the supervisor is to start anew now; then signals that come from here on wait for its next run."""
        if self.is_again_due:
            signal.pthread_sigmask(signal.SIG_BLOCK, HANDLED_SIGNALS)
            with contextlib.suppress(BlockingIOError):
                self._take_signals(self._wake_in)
            if not self.is_again_due:
                signal.pthread_sigmask(signal.SIG_UNBLOCK, HANDLED_SIGNALS)
        return self.is_again_due

    @property
    def _is_any_left(self) -> bool:
        return any(charge.seen.pid for charge in self.charges.values())

    def _act(self, now: float) -> None:
        table = [charge.wanted for charge in self.charges.values()]
        seen = {name: charge.seen for name, charge in self.charges.items()}
        for action in plan.plan(table, seen, self.limits(), now, stopping=self.is_stopping):
            charge = self.charges[action.name]
            pid = charge.seen.pid
            match action:
                case Start():
                    self._start(charge, now)
                case Terminate(name):
                    self._say(f"{name}: stopping (pid {pid})")
                    act.terminate(pid)
                    charge.seen = plan.terminate(charge.seen, now)
                case Kill(name, why):
                    self._say(f"{name}: killed (pid {pid}): {why}")
                    alert(self.settings.paths, "supervisor", f"{name} was killed: {why}")
                    act.kill(pid)
                    charge.seen = plan.kill(charge.seen)

    def _start(self, charge: Charge, now: float) -> None:
        charge.log_start = logs.size(charge.settings.paths.log_file(charge.name))
        charge.marks = marks(charge.settings, charge.wanted)
        try:
            child = act.start(charge.wanted, charge.settings, self._close)
        except OSError as error:
            charge.seen = plan.end(charge.seen, self.limits(), now)
            self._report_failure(charge, f"it could not be forked, {error}")
            return
        self._listen_to(charge, child.told_fd)
        self._say(f"{charge.name}: started (pid {child.pid})")
        charge.seen = plan.start(charge.seen, child.pid, now)

    def _listen_to(self, charge: Charge, told_fd: int) -> None:
        charge.told_fd = told_fd
        self._told_fds[told_fd] = charge.name
        self._selector.register(told_fd, selectors.EVENT_READ, self._take_words)

    def _take_words(self, fd: int) -> None:
        """Read what a process says in its pipe."""
        charge, now = self.charges[self._told_fds[fd]], time.monotonic()
        words = os.read(fd, 1024)
        if not words:
            self._forget_pipe(charge)
        if READY in words and charge.seen.ready_at is None:
            self._say(f"{charge.name}: ready after {now - charge.seen.started_at:.3f} s")
            charge.seen = plan.become_ready(charge.seen, now)
        if BEAT in words:
            charge.seen = plan.beat(charge.seen, now)

    def _take_signals(self, wake: socket.socket) -> None:
        numbers = wake.recv(1024)
        # Reaping closes pipes; that must wait for the pipes that this turn has found readable.
        self._is_reaping_due |= signal.SIGCHLD in numbers
        if any(number in numbers for number in STOP_SIGNALS):
            # A terminal that closes sends SIGHUP more than once, and systemd SIGTERM after `pit down`: not impatience.
            self._is_hurried |= self.is_stopping and signal.SIGINT in numbers
            self.stop("signal received")

    def _reap(self) -> None:
        self._is_reaping_due = False
        now = time.monotonic()
        by_pid = {charge.seen.pid: charge for charge in self.charges.values() if charge.seen.pid}
        for pid, how, is_orderly in act.reap(by_pid):
            charge = by_pid[pid]
            self._forget_pipe(charge)
            seen = charge.seen
            was_asked = self.is_stopping or seen.is_restart_asked or seen.is_unwanted
            was_ready = seen.ready_at is not None  # before, it had nothing to bring in order
            charge.seen = plan.end(seen, self.limits(), now)
            self._say(f"{charge.name}: ended (pid {pid}): {how}")
            if not was_asked:
                self._report_failure(charge, how)
            elif was_ready and not is_orderly:
                alert(self.settings.paths, "supervisor", f"{charge.name} did not stop in order: {how}")
        self._drop_unwanted()

    def _report_failure(self, charge: Charge, how: str) -> None:
        """An end that nobody asked for: while the exchange starts it is final, later it is an alert."""
        name, path = charge.name, charge.settings.paths.log_file(charge.name)
        if not self.is_up and not charge.wanted.may_be_missing:
            lines = "\n".join(f"  {line}" for line in logs.tail(path, 20, charge.log_start))
            alert(self.settings.paths, "supervisor", f"the exchange could not be started: {name} ended: {how}")
            self._failure = f"{name} ended while the exchange was starting: {how}. The end of {path}:\n{lines}"
            self.stop(f"{name} could not be started")
            return
        gave_up = self.phase(charge) is Phase.FAILED
        after = f"; it stays down: see {path}, then `pit restart {name}`" if gave_up else "; it is started again"
        self._say(f"{name}: {how}{after}")
        alert(self.settings.paths, "supervisor", f"{name} ended: {how}{after}")

    def _drop_unwanted(self) -> None:
        """Forget what is not wanted any more and has ended."""
        for name, charge in list(self.charges.items()):
            if charge.seen.is_unwanted and not charge.seen.pid:
                del self.charges[name]

    def _forgive(self, now: float) -> None:
        for charge in self.charges.values():
            charge.seen = plan.forgive(charge.seen, now)

    def _notice_up(self) -> None:
        phases = {self.phase(charge) for charge in self.charges.values() if not charge.wanted.may_be_missing}
        if not self.is_up and not self.is_stopping and phases <= {Phase.READY}:
            self.is_up = True
            self._say(f"the exchange is up after {time.monotonic() - self.begun_at:.2f} s")
            notify.tell(READY=1, STATUS=f"{len(self.charges)} processes are ready")
            self._on_up()

    def _rotate_logs(self, now: float) -> None:
        if now - self._rotated_at >= ROTATE_INTERVAL_S:
            self._rotated_at = now
            self._rotation.turn(self.settings.paths.log_files(), self.settings.supervisor, time.time())

    def _accept(self, listener: socket.socket) -> None:
        with contextlib.suppress(OSError):  # gone already, or no room for another open file
            connection, _ = listener.accept()
            if len(self._received) >= CONNECTIONS_MAX:
                self._hang_up(next(iter(self._received)))  # who has been silent longest makes room
            connection.setblocking(False)
            self._received[connection] = b""
            self._selector.register(connection, selectors.EVENT_READ, self._serve)

    def _serve(self, connection: socket.socket) -> None:
        if connection not in self._received:
            return  # hung up in this turn
        rest = control.serve(connection, self._received[connection], partial(desk.answer, self))
        if rest is not None:
            self._received[connection] = rest
        else:
            self._hang_up(connection)

    def _hang_up(self, connection: socket.socket) -> None:
        self._selector.unregister(connection)
        del self._received[connection]
        connection.close()

    def _remove_sockets(self) -> None:
        """Nobody listens any more: the control socket is this process's own, the others ZeroMQ leaves behind."""
        for path in self.settings.paths.sockets_dir.glob("*.sock"):
            path.unlink(missing_ok=True)

    def _forget_pipe(self, charge: Charge) -> None:
        if charge.told_fd == NOWHERE:
            return
        self._selector.unregister(charge.told_fd)
        del self._told_fds[charge.told_fd]
        os.close(charge.told_fd)
        charge.told_fd = NOWHERE

    def _catch_signals(self) -> None:
        self._wake_in.setblocking(False)
        self._wake_out.setblocking(False)
        signal.set_wakeup_fd(self._wake_out.fileno())
        for number in HANDLED_SIGNALS:
            signal.signal(number, lambda *_: None)  # the number arrives through the wake-up socket
        signal.pthread_sigmask(signal.SIG_UNBLOCK, HANDLED_SIGNALS)

    def _take_over(self, earlier: Handover) -> None:
        """Go on with the processes of the run before."""
        for kept in earlier.charges:
            name = kept["name"]
            if name not in self.charges:  # the settings have stopped naming it, and it may not have ended yet
                self.charges[name] = Charge(wanted=Wanted(name=name, module=""), settings=self.settings)
                kept["seen"]["is_unwanted"] = True
            charge = self.charges[name]
            charge.take_over(kept)
            if charge.told_fd != NOWHERE:
                self._listen_to(charge, charge.told_fd)
        os.close(earlier.listener_fd)
        self._drop_unwanted()
        self._forgive(time.monotonic())
        self._say(f"the supervisor has started anew, for the {self.run_number - 1}. time")

    def _close(self) -> None:
        """In a forked child: close what belongs to the supervisor. The locks stay open (supervisor/lock.py)."""
        self._selector.close()
        for held in (self.listener, self._wake_in, self._wake_out, *self._received):
            held.close()
        for fd in self._told_fds:
            os.close(fd)
