"""All events from a number on, in order, each exactly once: published ones as they come, missed ones from the log.

PUB drops what a slow subscriber does not take, and says nothing to one that was away. So a published frame is taken
only if it continues what is known; if not, the gap is filled: from the event log on the same machine, or through
the matcher's replay socket on another one. A feed that has been quiet for a while looks there too, because the last
frame before the silence may be the one that was lost.

A feed that is far behind takes no published frames at all until it has caught up: they would wait in memory, here and
in the matcher, and all of them are in the log.
"""

import time
from collections.abc import Iterator
from enum import Enum
from math import ceil
from typing import Any, Protocol, Self

import zmq

from bus.endpoints import ENDPOINTS, LINGER_MS, address
from bus.eventlog import NOTHING, Gone, Reader, rest_of
from bus.messages import Frame, FrameKind, pack, unpack
from conf.paths import Paths

QUIET_MS = 500  # without an event: then see whether one was missed
REPLAY_TIMEOUT_MS = 2_000
FAR_BEHIND_COUNT = 256  # missed frames one after the other
REJOINED_QUIET_MS = 50  # instead of QUIET_MS: a subscription takes effect a moment after it was asked for


class Step(Enum):
    """What to do with a published frame."""

    TAKE = "some of it continues what is known"
    SKIP = "all of it is known"
    FILL = "something before it is missing"


def decide(last_number: int, first: int, count: int) -> Step:
    """What to do with events `first` .. `first + count - 1` when all up to `last_number` are known."""
    if first > last_number + 1:
        return Step.FILL
    return Step.SKIP if first + count - 1 <= last_number else Step.TAKE


class Source(Protocol):
    """Where missed events are: an `eventlog.Reader` or a `Replay`."""

    def frames(self, after_number: int) -> Iterator[Frame]:
        """The events after `after_number` that can be had now. Raises Gone."""
        ...


class Replay:
    """Missed events from the matcher's replay socket. What does not answer has nothing: it is asked again later."""

    def __init__(self, address: str, context: "zmq.Context[Any] | None" = None) -> None:
        self._socket = (context or zmq.Context.instance()).socket(zmq.DEALER)
        self._socket.setsockopt(zmq.LINGER, LINGER_MS)
        self._socket.set_hwm(ENDPOINTS["replay"].high_water_count)
        self._socket.connect(address)

    def frames(self, after_number: int) -> Iterator[Frame]:
        """The events after `after_number` that the matcher has now, as far as it answers. Raises Gone."""
        known = after_number - 1
        while known < after_number:  # as long as that brings something
            known = after_number
            self._socket.send(pack(FrameKind.PING, NOTHING, first=known))
            while (answer := self._receive()) is not None and answer.kind == FrameKind.EVENTS:
                if decide(after_number, answer.first, len(answer.records)) is Step.TAKE:
                    yield rest_of(answer, after_number)
                    after_number = answer.first + len(answer.records) - 1
            if answer is None or answer.total <= after_number:
                return
            if answer.first > after_number + 1:
                text = f"event {after_number + 1} is gone from the matcher's log, which starts with {answer.first}"
                raise Gone(text, answer.first)

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()

    def _receive(self) -> Frame | None:
        return unpack(self._socket.recv()) if self._socket.poll(REPLAY_TIMEOUT_MS) else None


def follow(bind: str, paths: Paths, after_number: int) -> "Feed":
    """The feed of the exchange on this machine; `bind` is the setting of the bus.

    What is published while nobody looks it takes from the log, instead of keeping it here and in the matcher.
    """
    return Feed(address(bind, paths.sockets_dir, "events"), Reader(paths.events_dir), after_number, newest_only=True)


class Feed:
    """The events after `after_number`. Iterate for ever, or take one frame at a time with `receive`.

        feed = Feed(address(bind, sockets_dir, "events"), eventlog.Reader(paths.events_dir), after_number=position)
        for frame in feed:
            store(frame.records, frame.blob)

    Records are views of the frame or the log: copy what is kept for long. A green context makes it cooperative.
    """

    def __init__(
        self,
        subscribe_address: str,
        source: Source,
        after_number: int,
        context: "zmq.Context[Any] | None" = None,
        *,
        newest_only: bool = False,
    ) -> None:
        """With `newest_only` one published frame waits, the latest; those before it are had from the source."""
        self.last_number = after_number
        self._source = source
        self._socket = (context or zmq.Context.instance()).socket(zmq.SUB)
        self._socket.setsockopt(zmq.LINGER, LINGER_MS)
        self._socket.setsockopt(zmq.CONFLATE, newest_only)
        self._socket.set_hwm(ENDPOINTS["events"].high_water_count)
        self._socket.setsockopt(zmq.SUBSCRIBE, b"")
        self._socket.connect(subscribe_address)
        self._is_subscribed = True
        self._missed: Iterator[Frame] = source.frames(after_number)
        self._missed_count = 0  # taken one after the other
        self._looked_s = time.monotonic()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __iter__(self) -> Iterator[Frame]:
        while True:
            frame = self.receive(QUIET_MS)
            if frame is not None:
                yield frame

    @property
    def fd(self) -> int:
        """A file descriptor to be polled beside others. `receive` until it returns None when it is readable, or it
        may not become so again: it is a ZeroMQ socket's.
        """
        return int(self._socket.getsockopt(zmq.FD))

    def receive(self, timeout_ms: int) -> Frame | None:
        """The next events, or None when none came in time. Raises Gone when some can't be had any more."""
        deadline_s = time.monotonic() + timeout_ms / 1000
        while True:
            frame = self._from_source() or self._published(deadline_s)
            if frame is None:
                if (now := time.monotonic()) >= self._look_at:
                    self._look()
                elif now >= deadline_s:
                    return None
                continue
            step = decide(self.last_number, frame.first, len(frame.records))
            if step is Step.TAKE:
                known_number, self.last_number = self.last_number, frame.first + len(frame.records) - 1
                return rest_of(frame, known_number)
            if step is Step.FILL:  # this frame is in the log, too: what is published was marked durable before
                self._look()

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()

    def _from_source(self) -> Frame | None:
        """The next of the events that were missed. Raises Gone."""
        frame = next(self._missed, None)
        if frame is None:
            if not self._is_subscribed:
                self._rejoin()
                frame = next(self._missed, None)
            self._missed_count = 0
            return frame
        self._missed_count += 1
        if self._missed_count == FAR_BEHIND_COUNT:
            self._socket.setsockopt(zmq.UNSUBSCRIBE, b"")
            self._is_subscribed = False
        if not self._is_subscribed:
            self._socket.getsockopt(zmq.EVENTS)  # this look drops what still comes
        return frame

    def _rejoin(self) -> None:
        self._socket.setsockopt(zmq.SUBSCRIBE, b"")
        self._is_subscribed = True
        self._look()
        self._looked_s -= (QUIET_MS - REJOINED_QUIET_MS) / 1000

    def _look(self) -> None:
        """See what was missed."""
        self._missed = self._source.frames(self.last_number)
        self._looked_s = time.monotonic()

    @property
    def _look_at(self) -> float:
        """When something may have been missed."""
        return self._looked_s + QUIET_MS / 1000

    def _published(self, deadline_s: float) -> Frame | None:
        wait_ms = max(0, ceil((min(deadline_s, self._look_at) - time.monotonic()) * 1000))
        return unpack(self._socket.recv()) if self._socket.poll(wait_ms) else None
