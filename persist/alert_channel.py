"""One way by which alerts leave: it follows the files at its own speed, and holds up no other.

    alerts.jsonl -> outbox -> Target.deliver, at most once in `interval_s` -> data/alertcenter/NAME: how far that goes

What fails is tried again after a pause that grows; what has come meanwhile goes out with it. An alert is delivered
once, or again if the process was killed between a delivery and its note.
"""

import threading
import time
import uuid
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

from conf.alert import say
from conf.alert_record import Alert
from persist.alert_files import UNKNOWN_MARK, AlertFiles, Follower, Position, PositionFile, Stored
from persist.alert_targets import Moved, Target, Undelivered

READ_MAX = 500  # alerts at once
DIRECT_MAX = 1_000  # that could not be written and wait
PAUSE_LEAST_S, PAUSE_MOST_S = 0.2, 300.0  # between tries
TOLD_AFTER_COUNT = 2  # failures in a row: a connection that was closed by an idle server is no trouble
READ_PAUSE_S = 5.0
NEVER_S = 3600.0

Tell = Callable[[str], object]


class Channel:
    """The loop's parts; `turn` is one time round. `offer` and `needs` may be called from another thread."""

    def __init__(
        self,
        target: Target,
        files: AlertFiles,
        positions_dir: Path,
        interval_s: float,
        tell: Tell,
        pause_most_s: float = PAUSE_MOST_S,
    ) -> None:
        """`tell` tells the operator, by the other ways."""
        self.name = target.name
        self._target = target
        self._interval_s = interval_s
        self._tell = tell
        self._pause_most_s = pause_most_s
        self._file = PositionFile(positions_dir / target.name)
        stored = self._load(files)
        self._stored = stored._replace(name=stored.name or uuid.uuid4().hex)
        self._follower = Follower(files, stored.position, stored.sent_at)
        self._save()
        self._outbox: Any = target.make_outbox()
        self._in_hand: list[Alert] = []  # those of the outbox that are in no file
        self._direct: deque[Alert] = deque(maxlen=DIRECT_MAX)
        self._failure_count = 0
        self._again_at = 0.0
        self._noted = ""  # what the log says already

    def _load(self, files: AlertFiles) -> Stored:
        """Where it was; a new one begins at the end. A disk that can't be read must not keep an exchange down."""
        try:
            return self._file.load() or Stored(files.end(), 0.0, "")
        except OSError as error:
            say(f"{self.name}: how far it was can't be read, begins with what is written from now on: {error}")
            return Stored(Position(UNKNOWN_MARK), time.time(), "")

    def offer(self, alert: Alert) -> None:
        """Take an alert that could not be written."""
        self._direct.append(alert)

    def needs(self, mark: str) -> bool:
        """Whether a file is not delivered yet."""
        return self._follower.needs(mark)

    def turn(self, now: float, *, is_last: bool = False) -> float:
        """Deliver what is due; return in how many seconds something may be due without anything having come.

        `now` is in seconds since 1970; `is_last`: do not keep to the interval.
        """
        while True:
            idle_s = self._gather()
            if not len(self._outbox):
                return idle_s
            if (wait_s := self._due_at(now, is_last=is_last) - now) > 0:
                return wait_s
            if not self._deliver(now):
                return 0.0 if is_last else max(0.0, self._again_at - now)

    def close(self) -> None:
        """Let go of the files and the target."""
        self._follower.close()
        self._target.close()

    def _due_at(self, now: float, *, is_last: bool) -> float:
        if is_last:
            return self._again_at if self._failure_count else now
        due_at = self._stored.sent_at + self._interval_s
        if due_at > now + self._interval_s:  # the clock was set back
            due_at = now
        return max(due_at, self._again_at)

    def _gather(self) -> float:
        """Take what has come; return in how many seconds more may be there without anybody saying so."""
        while self._direct and not self._outbox.is_full:
            self._in_hand.append(self._direct.popleft())
            self._outbox.add(self._in_hand[-1])
        try:
            while not self._outbox.is_full and (alerts := self._follower.read(READ_MAX)):
                for alert in alerts:
                    self._outbox.add(alert)
        except OSError as error:
            self._note(f"alerts.jsonl can't be read: {error}")
            return READ_PAUSE_S
        if self._follower.unreadable_count:
            self._note(f"{self._follower.unreadable_count:,} lines of alerts.jsonl can't be read")
        return NEVER_S

    def _note(self, text: str) -> None:
        """In the log, once."""
        if text != self._noted:
            self._noted = text
            say(f"{self.name}: {text}")

    def _deliver(self, now: float) -> bool:
        """Whether it went well, or can be tried again at once."""
        try:
            self._target.deliver(self._outbox, self._stored.name, self._stored.position, self._follower.position)
        except Moved as moved:
            self._go_to(moved.position)
            return True
        except Undelivered as error:
            self._fail(error, now)
            return False
        self._stored = Stored(self._follower.position, now, self._stored.name)
        self._save()
        self._empty()
        self._recover()
        return True

    def _go_to(self, position: Position) -> None:
        """The target knows better: go on from there."""
        say(f"{self.name} is at {position}, not at {self._stored.position}: goes on from there")
        self._follower.seek(position, self._stored.sent_at)
        self._stored = self._stored._replace(position=position)
        self._direct.extendleft(reversed(self._in_hand))
        self._empty()

    def _empty(self) -> None:
        self._outbox = self._target.make_outbox()
        self._in_hand = []

    def _fail(self, error: Undelivered, now: float) -> None:
        pause_s = min(PAUSE_LEAST_S * 2.0 ** min(self._failure_count, 30), self._pause_most_s)
        self._failure_count += 1
        self._again_at = now + pause_s
        if self._failure_count == TOLD_AFTER_COUNT:
            self._tell(f"alerts do not arrive ({self.name}), which is tried again: {error}")

    def _recover(self) -> None:
        if self._failure_count >= TOLD_AFTER_COUNT:
            self._tell(f"alerts arrive again ({self.name})")
        self._failure_count = 0
        self._again_at = 0.0

    def _save(self) -> None:
        try:
            self._file.save(self._stored)
        except OSError as error:
            say(f"{self.name}: how far it is could not be written, and what has left may leave again: {error}")


class ChannelThread:
    """A channel that turns by itself, as its target's calls may take long."""

    def __init__(self, channel: Channel, now: Callable[[], float]) -> None:
        self.channel = channel
        self._now = now
        self._wake = threading.Event()
        self._is_stopping = False
        self._thread = threading.Thread(target=self._run, name=channel.name, daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def wake(self) -> None:
        """Something has come."""
        self._wake.set()

    def stop(self) -> None:
        """Deliver what waits, once, and end; does not wait for it."""
        self._is_stopping = True
        self._wake.set()

    @property
    def name(self) -> str:
        """The target's."""
        return self.channel.name

    def offer(self, alert: Alert) -> None:
        """Take an alert that could not be written."""
        self.channel.offer(alert)
        self._wake.set()

    def needs(self, mark: str) -> bool:
        """Whether a file is not delivered yet."""
        return self.channel.needs(mark)

    @property
    def lives(self) -> bool:
        """Whether it has not ended."""
        return self._thread.is_alive()

    def _run(self) -> None:
        wait_s = 0.0
        while not self._is_stopping:
            self._wake.wait(wait_s)
            self._wake.clear()
            wait_s = self.channel.turn(self._now())
        self.channel.turn(self._now(), is_last=True)
        self.channel.close()
