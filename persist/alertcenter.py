"""The `alertcenter` process: alerts of every process to where an operator sees them (CONTRACT 8).

    conf.alert of each process ──────────────► alerts.jsonl ──► channel ──► Redis list
    UDP, TCP (ViaBTC's protocol), the bus ──► this loop ─┘  ├─► channel ──► mail
                                                            └─► channel ──► webhook

The file is the queue: it has every alert, and each channel its own position in it (persist/alert_channel.py). The loop
takes what comes from outside, writes it to the file, renames the file when it is full, and wakes the channels; it never
waits for any of them. When the disk refuses, alerts go to the channels directly, and to the file once it takes them.
"""

import sys
import time
from collections import deque
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import NamedTuple, Self

import zmq

from bus.endpoints import address
from conf.alert import alert, append, place, say
from conf.alert_record import Alert, packed, time_text
from conf.ready import beat, ready
from conf.settings import Settings
from conf.stopping import Stopping
from persist.alert_channel import PAUSE_MOST_S, Channel, ChannelThread
from persist.alert_files import AlertFiles
from persist.alert_mail import Mail
from persist.alert_redis import RedisList
from persist.alert_sources import Datagrams, Peers, Refused, Source, Streams
from persist.alert_targets import Target
from persist.alert_webhook import Webhook

NAME = "alertcenter"
IDLE_MS = 250  # how long a turn may wait; so often the file is looked at
REDIS_PAUSE_MOST_S = 5.0  # a failover takes some seconds
OPEN_AGAIN_S = 5.0  # from one try to open a socket to the next
WRITE_AGAIN_S = 1.0  # the same to write what the disk has refused
HELD_MAX = 1_000  # alerts that the disk has refused and that wait for it
QUIET_S, TELL_S = 1.0, 10.0  # what was dropped is told when it is over, or goes on for so long
LOG_INTERVAL_S = 60.0  # between two lines about what is ignored
END_TIMEOUT_S = 3.0  # for the last deliveries
END_POLL_S = 0.01


class Way(NamedTuple):
    """A target, the seconds between two deliveries to it, and the longest pause between tries."""

    target: Target
    interval_s: float = 0.0
    pause_most_s: float = PAUSE_MOST_S


def ways(settings: Settings) -> list[Way]:
    """Where alerts go, beside the file."""
    wanted, found = settings.alert, list[Way]()
    if wanted.store != "file":
        found.append(Way(RedisList(wanted.store, wanted.list_max), pause_most_s=REDIS_PAUSE_MOST_S))
    if wanted.smtp:
        found.append(Way(Mail(wanted, settings.instance), wanted.digest_interval_s))
    if wanted.webhook_url:
        found.append(Way(Webhook(wanted.webhook_url, settings.instance), wanted.digest_interval_s))
    return found


class AlertCenter:
    """The loop's parts; `turn` is one time round."""

    def __init__(self, settings: Settings, now: Callable[[], float] = time.monotonic) -> None:
        """`now` is a monotonic clock."""
        self._settings = settings
        self._now = now
        self.files = AlertFiles(settings.paths.alerts_file, settings.alert.file_keep_count)
        self._channels = self._make_channels()
        self._poller = zmq.Poller()
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._sources: list[Source] = []
        self._to_open = self._openers()
        self._open_at = self._write_at = 0.0
        self._held: deque[Alert] = deque(maxlen=HELD_MAX)
        self._seen: tuple[int, int] | None = None  # the file, when it was looked at
        self._dropped = Dropped()
        self._ignored_count = 0
        self._log_at = self._rotate_at = 0.0

    def __enter__(self) -> Self:
        self._open()
        for channel in self._channels:
            channel.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def turn(self, wait_ms: int = IDLE_MS) -> int:
        """Take what has come from outside, and see that all of it goes on its way; return how much has come."""
        self._open()
        self._poller.poll(wait_ms)
        count = self._take()
        self._write_held()
        self._tell_dropped()
        self._look()
        return count

    def close(self) -> None:
        """Take and deliver what waits, if that does not take long, and close everything."""
        self._take()
        self._tell_dropped(is_last=True)
        for source in self._sources:
            source.close()
        for channel in self._channels:
            channel.stop()
        end_at = self._now() + END_TIMEOUT_S
        while any(channel.lives for channel in self._channels) and self._now() < end_at:
            beat()
            time.sleep(END_POLL_S)
        self._context.destroy(linger=0)

    def _make_channels(self) -> list[ChannelThread]:
        positions_dir, tell = self._settings.paths.alert_positions_dir, partial(alert, self._settings.paths, NAME)
        wanted = ways(self._settings)
        _forget_others(positions_dir, {way.target.name for way in wanted})
        channels = (
            Channel(way.target, self.files, positions_dir, way.interval_s, tell, way.pause_most_s) for way in wanted
        )
        return [ChannelThread(channel, time.time) for channel in channels]

    def _openers(self) -> list[Callable[[], Source]]:
        settings, poller, wanted = self._settings, self._poller, self._settings.alert
        bus = address(settings.bus.bind, settings.paths.sockets_dir, "alerts")
        found: list[Callable[[], Source]] = [
            partial(Refused, settings.paths.alert_socket, poller),
            partial(Peers, bus, wanted.foreign_rate_max, poller, self._context),
        ]
        if wanted.bind:
            common = (wanted.bind, settings.instance, wanted.foreign_rate_max, poller)
            found += [partial(Datagrams, *common), partial(Streams, *common)]
        return found

    def _open(self) -> None:
        """Open the sockets that are not open. Somebody may have taken an address: the rest goes on without."""
        if not self._to_open or self._now() < self._open_at:
            return
        left = []
        for opener in self._to_open:
            try:
                self._sources.append(opener())
            except (OSError, zmq.ZMQError) as error:
                left.append(opener)
                if not self._open_at:
                    what = opener.func.__name__ if isinstance(opener, partial) else str(opener)
                    alert(self._settings.paths, NAME, f"alerts from outside are not taken ({what}), for now: {error}")
        self._to_open = left
        self._open_at = self._now() + OPEN_AGAIN_S

    def _take(self) -> int:
        count = 0
        for source in self._sources:
            alerts = source.take()
            count += len(alerts)
            if isinstance(source, Refused):
                self._hold(alerts)
            else:
                self._write(alerts)
            self._dropped.count(source.counts.dropped, self._now())
            self._ignored_count += source.counts.ignored
            source.counts.dropped = source.counts.ignored = 0
        if self._ignored_count and self._now() >= self._log_at:
            say(f"{self._ignored_count:,} messages or connections from outside were ignored: they are no alerts")
            self._ignored_count, self._log_at = 0, self._now() + LOG_INTERVAL_S
        return count

    def _write(self, alerts: list[Alert]) -> None:
        if not alerts:
            return
        try:
            append(self.files.path, b"".join(map(packed, alerts)))
        except OSError as error:
            say(f"{self.files.path} can't be written: {error}")
            self._hold(alerts)

    def _hold(self, alerts: list[Alert]) -> None:
        """Send them on their way without the file, which has them later."""
        for held in alerts:
            self._held.append(replace(held, is_told=True))
            for channel in self._channels:
                channel.offer(held)

    def _write_held(self) -> None:
        if not self._held or self._now() < self._write_at:
            return
        self._write_at = self._now() + WRITE_AGAIN_S
        try:
            append(self.files.path, b"".join(map(packed, self._held)))
        except OSError:
            return
        self._held.clear()

    def _tell_dropped(self, *, is_last: bool = False) -> None:
        if count := self._dropped.due(self._now(), is_last=is_last):
            text = f"{count:,} alerts from outside came too fast and were dropped"
            told = Alert(
                time=time_text(time.time()),
                instance=self._settings.instance,
                process=NAME,
                text=text,
                where=place(sys._getframe()),
                dropped_count=count,
            )
            say(f"ALERT {NAME}: {text}")
            self._write([told])

    def _look(self) -> None:
        """See whether the file has changed, or is full; whether all channels live."""
        seen = _seen(self.files.path)
        if seen != self._seen:
            self._seen = seen
            for channel in self._channels:
                channel.wake()
        for channel in self._channels:
            assert channel.lives, f"the thread of {channel.name} has ended"
        is_full = seen is not None and seen[1] >= self._settings.alert.file_max_size
        if is_full and self._now() >= self._rotate_at:
            self._rotate()

    def _rotate(self) -> None:
        try:
            oldest = self.files.oldest_to_go()
            late = [channel.name for channel in self._channels if oldest and channel.needs(oldest)]
            self.files.rotate()
        except OSError as error:
            say(f"{self.files.path} can't be renamed: {error}")
            self._rotate_at = self._now() + LOG_INTERVAL_S
            return
        for name in late:
            text = f"the oldest alerts that have not arrived ({name}) are lost: too many wait"
            alert(self._settings.paths, NAME, text)


class Dropped:
    """How many alerts were dropped, and when that is to be told: when it is over, or after a while."""

    def __init__(self) -> None:
        self._count = 0
        self._first_at = self._last_at = 0.0

    def count(self, count: int, now: float) -> None:
        """So many more."""
        if count:
            self._first_at = self._first_at if self._count else now
            self._last_at = now
            self._count += count

    def due(self, now: float, *, is_last: bool = False) -> int:
        """How many are to be told now; they are told then."""
        is_due = is_last or now - self._last_at >= QUIET_S or now - self._first_at >= TELL_S
        count = self._count if is_due else 0
        self._count -= count
        return count


def _seen(path: Path) -> tuple[int, int] | None:
    """Which file it is, and its size."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_ino, found.st_size


def _forget_others(positions_dir: Path, names: set[str]) -> None:
    """A way that is set again some day begins with what comes then."""
    try:
        for path in positions_dir.iterdir() if positions_dir.is_dir() else ():
            if path.name not in names:
                path.unlink()
    except OSError as error:
        say(f"{positions_dir} can't be tidied: {error}")


def main(settings: Settings) -> int:
    """Run until told to stop; the exit status."""
    stopping = Stopping()
    with AlertCenter(settings) as center:
        ready()
        while not stopping:
            beat()
            center.turn()
    return 0
