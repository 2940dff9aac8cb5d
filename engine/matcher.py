"""The matcher process: the one writer of the exchange.

    turn:  take a batch -> apply it -> journal -> events to their log -> hold the replies -> sync
    disk:  when the journal is durable up to a batch, its replies leave and its events are published

The sync runs in the journal's thread while the next batch is applied. When nothing else waits it runs right here:
handing it to a thread would cost two wake-ups, half as long as the sync itself.

Signals: TERM or INT stops in order, with a snapshot; USR1 writes a snapshot.
"""

import contextlib
import os
import signal
import sys
import time
from collections.abc import Callable
from typing import Any

import zmq

from bus import eventlog
from bus.codes import Code
from bus.messages import COMMAND, EVENT, FRAME, Bytes, FrameKind, Records, pack, unpack
from conf.alert import alert, say
from conf.cpus import pin
from conf.markets import BadMarkets
from conf.paths import Paths
from conf.ready import beat, ready
from conf.settings import Settings
from engine import inbox, snapshot
from engine.answers import answer, cut, ping, refused
from engine.exchange import Exchange
from engine.inbox import Batch, Question
from engine.journal import Journal
from engine.journal_reader import Damaged
from engine.memory import InUse
from engine.opening import Opened, open_exchange
from engine.outbox import Held, Outbox
from engine.recovery import EVENTS_MAX, Diverged, events_frames
from engine.sockets import Sockets

IDLE_MS = 200  # how long a turn may wait for something to do
SWITCH_INTERVAL_S = 0.0005  # between threads: the journal's must not wait the usual 5 ms for the interpreter
EVENTS_A_COMMAND = 3  # to guess how much room a batch's events take


class Matcher:
    """The loop's parts; `turn` is one time round."""

    def __init__(
        self, opened: Opened, sockets: Sockets, paths: Paths, *, keep_count: int = 3, spin_us: int = 0
    ) -> None:
        self.exchange: Exchange = opened.exchange
        self.journal: Journal = opened.journal
        self.events: eventlog.Writer = opened.events
        self.replay = eventlog.Reader(paths.events_dir)
        self.outbox = Outbox()
        self.sockets = sockets
        self.paths = paths
        self.keep_count = keep_count
        self.trouble = ""
        self._spin_s = spin_us / 1e6
        self._awake_until_s = 0.0
        self._poller = zmq.Poller()
        for source in (sockets.commands, sockets.replay, opened.journal.wake_fd):
            self._poller.register(source, zmq.POLLIN)

    def turn(self, wait_ms: int = IDLE_MS) -> int:
        """Take what has arrived, apply it, and let out what the disk has; return how many commands were done."""
        happened = self._wait(wait_ms)
        self.exchange.header["beat"] = time.monotonic()
        done = 0
        if self.sockets.commands in happened:
            batch = inbox.take(self.sockets.receive_command)
            for question in batch.questions:
                self._answer(question)
            if batch.senders:
                done = len(batch.commands)
                self._apply(batch)
                self._sync()
        if self.journal.wake_fd in happened:
            _drain(self.journal.wake_fd)
        if self.outbox:
            self._release()
        if self.sockets.replay in happened:
            self._replay()
        self._watch_disk()
        if done == 1:
            self._awake_until_s = time.monotonic() + self._spin_s
        return done

    def _wait(self, wait_ms: int) -> dict[Any, int]:
        """What happens next. After a lone command, look for a moment without sleeping: the next one comes soon."""
        while time.monotonic() < self._awake_until_s:
            if happened := self._poller.poll(0):
                return dict(happened)
        return dict(self._poller.poll(wait_ms))

    def _apply(self, batch: Batch) -> None:
        """Apply a batch, journal what was accepted, and hold what it has to tell."""
        now = time.time()
        results: list[bytes] = []
        events: list[bytes] = []
        rest = batch.commands
        while len(rest):
            if not self._has_room(len(rest), len(batch.blob)):
                results.append(refused(rest).tobytes())
                break
            applied = self.exchange.apply(rest, now, blob_size=len(batch.blob))
            accepted = rest[: applied.done]
            if (codes := applied.results["code"]).any():
                accepted = accepted[codes == Code.OK]
            if len(accepted):
                events += self._record(accepted, applied.events, batch.blob)
            results.append(applied.results.tobytes())  # after the journal: until then a killed matcher must replay
            rest = rest[applied.done :]
        replies = cut(b"".join(results), batch.senders)
        self.outbox.hold(Held(self.exchange.sequence, self.exchange.event_number, replies, events))

    def _has_room(self, command_count: int, blob_size: int) -> bool:
        """Whether a batch could be journaled and its events logged: asked before anything is applied."""
        journaled = FRAME.itemsize + command_count * COMMAND.itemsize + blob_size
        logged = FRAME.itemsize + min(EVENTS_A_COMMAND * command_count, EVENTS_MAX) * EVENT.itemsize + blob_size
        return self.journal.has_room(journaled) and self.events.has_room(logged)

    def _record(self, accepted: Records, events: Records, blob: Bytes) -> list[bytes]:
        """Journal accepted commands and log their events; return the frames of the events."""
        exchange = self.exchange
        frame = pack(
            FrameKind.COMMANDS,
            accepted,
            blob,
            first=exchange.sequence - len(accepted) + 1,
            total=self.journal.unsynced_count,
            time=exchange.time,
            results_hash=exchange.results_hash,
            sealed=True,
        )
        self.journal.append(frame)
        frames = events_frames(events, blob, exchange.time)
        for told in frames:
            self.events.append(told)
        return frames

    def _sync(self) -> None:
        """Ask for the disk: here when this batch is all there is to do, else in the journal's thread."""
        if self.journal.synced >= self.exchange.sequence:
            return
        if len(self.outbox) == 1 and not self.sockets.commands.poll(0):
            self.journal.sync_now()
        else:
            self.journal.sync_soon()

    def _release(self) -> None:
        """Send what is durable, replies first; ask for another sync when more waits."""
        released = self.outbox.release(self.journal.synced)
        for held in released:
            for identity, frame in held.replies:
                self._send(identity, frame)
        for held in released:
            if held.events:
                self.events.mark_durable(held.event_number)
            for frame in held.events:
                self.sockets.publish(frame)
        if self.outbox:
            self.journal.sync_soon()

    def _send(self, identity: bytes, frame: bytes) -> None:
        """Send a reply; one whose client has gone or does not read is dropped, as its connection's end tells it."""
        with contextlib.suppress(zmq.ZMQError):
            self.sockets.send_reply(identity, frame)

    def _answer(self, question: Question) -> None:
        frame = question.frame
        if frame.kind == FrameKind.PING:
            exchange = self.exchange
            reply = ping(frame.first, exchange.sequence, exchange.time)
        else:
            reply = answer(self.exchange, frame.records[0], frame.first)
        self._send(question.identity, reply)

    def _replay(self) -> None:
        """Serve one request for events from the log."""
        try:
            identity, data = self.sockets.replay.recv_multipart(zmq.NOBLOCK)
            after_number = unpack(data).first
        except (zmq.Again, ValueError):
            return
        for frame in eventlog.replay(self.replay, after_number):
            self.sockets.replay.send_multipart((identity, frame), zmq.NOBLOCK)

    def _watch_disk(self) -> None:
        """Tell the operator when the disk begins or ceases to refuse."""
        if (trouble := self.journal.trouble or self.events.trouble) != self.trouble:
            text = f"{trouble}; orders are refused with code 3" if trouble else "the disk is written again"
            alert(self.paths, "matcher", text)
            self.trouble = trouble

    def snapshot(self) -> None:
        """Write a snapshot of what is durable."""
        self.journal.sync_now()
        self._release()
        if self.journal.synced < self.exchange.sequence:
            alert(self.paths, "matcher", "no snapshot was written: the journal is not on disk")
            return
        try:
            self.events.sync()
            snapshot.save(self.paths.snapshots_dir, self.exchange, keep_count=self.keep_count)
        except OSError as error:
            alert(self.paths, "matcher", f"no snapshot was written: {error}; the journal has everything")


def run(matcher: Matcher, stopping: Callable[[], bool], snapshot_wanted: Callable[[], bool]) -> None:
    """Turn until told to stop, then write a snapshot."""
    while not stopping():
        matcher.turn()
        beat()
        if snapshot_wanted():
            matcher.snapshot()
    matcher.snapshot()


class Signals:
    """What signals asked for; the loop looks."""

    def __init__(self) -> None:
        self._stop = self._snapshot = False
        signal.signal(signal.SIGTERM, self._on_stop)
        signal.signal(signal.SIGINT, self._on_stop)
        signal.signal(signal.SIGUSR1, self._on_snapshot)

    def stopping(self) -> bool:
        """Whether to stop."""
        return self._stop

    def snapshot_wanted(self) -> bool:
        """Whether a snapshot was asked for since the last call."""
        wanted, self._snapshot = self._snapshot, False
        return wanted

    def _on_stop(self, *_: object) -> None:
        self._stop = True

    def _on_snapshot(self, *_: object) -> None:
        self._snapshot = True


def main(settings: Settings) -> int:
    """Run until told to stop; the exit status."""
    paths = settings.paths
    paths.make()
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    signals = Signals()
    try:
        opened = open_exchange(settings)
    except (InUse, BadMarkets, Damaged, Diverged, ValueError, OSError) as error:
        alert(paths, "matcher", f"the exchange can't be opened: {error}")
        return 1
    say(opened.report)
    sockets = Sockets.bind(settings.bus.bind, paths)
    matcher = Matcher(opened, sockets, paths, keep_count=settings.snapshot.keep_count, spin_us=settings.matcher.spin_us)
    pin(settings.matcher.cpu)  # this thread: those of ZeroMQ and of the disk, made before, run beside it
    matcher.exchange.header["beat"] = time.monotonic()
    ready()
    try:
        run(matcher, signals.stopping, signals.snapshot_wanted)
    finally:
        sockets.close()
        opened.close()
    return 0


def _drain(descriptor: int) -> None:
    with contextlib.suppress(BlockingIOError):
        os.eventfd_read(descriptor)
