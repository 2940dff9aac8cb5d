"""The way to the matcher, or to history or market data: one ZeroMQ DEALER in a gevent loop.

Requests that come within one turn of the loop leave in one frame; nothing waits for more to come. The socket is a
plain one: its file descriptor, which is edge-triggered, is watched by the loop, so the socket is drained at every
wake-up and after every send. (zmq.green costs three times as much for each message.)

A Link belongs to the thread, and so to the gevent hub, that made it.
"""

import struct
from collections.abc import Callable, Sequence
from functools import partial
from time import monotonic
from typing import Any

import gevent
import numpy as np
import zmq
from gevent import getcurrent
from zmq.backend import Socket as BackendSocket

from bus import calls
from bus.calls import Outcome
from bus.codes import Code
from bus.endpoints import COMMANDS_TIMEOUT_MS, ENDPOINTS, HEALTH_TIMEOUT_MS, LINGER_MS
from bus.messages import (
    COMMAND,
    FRAME,
    FRAME_BLOB_MAX,
    FRAME_RECORDS_MAX,
    MAGIC,
    RESULT,
    VERSION,
    BadFrame,
    Frame,
    FrameKind,
    Records,
    pack,
    struct_of,
    unpack,
)
from bus.methods import Method
from gateways.commands import COMMAND_STRUCT, DETAIL_OFFSET_AT, Encoded

IN_FLIGHT_MAX = 8192  # requests that wait for the matcher; more are refused
RECONNECT_MS = 20
READABLE = 1  # libev's number
EXPIRY_INTERVAL_S = 0.02

# pyzmq's flags are members of an enum and its methods check what they are given: both cost more than the calls.
_NOBLOCK, _EVENTS, _POLLIN = int(zmq.NOBLOCK), int(zmq.EVENTS), int(zmq.POLLIN)
_send, _receive = BackendSocket.send, BackendSocket.recv
_option: Callable[[Any, int], Any] = BackendSocket.get

_HEADER = struct_of(FRAME)
_DETAIL_OFFSET = struct.Struct("<i")
_NO_RECORDS = np.zeros(0, "u1")
_NO_PADDING = bytes(FRAME.fields["reserved"][0].itemsize)  # type: ignore[index]  # named: numpy's stub allows None
_COMMANDS, _RESULTS = int(FrameKind.COMMANDS), int(FrameKind.RESULTS)  # an enum's members are slow to look up
_COMMAND_SIZE = COMMAND.itemsize
_RESULT_SIZE = RESULT.itemsize
_RESULTS_AT = range(FRAME.itemsize, FRAME.itemsize + FRAME_RECORDS_MAX * _RESULT_SIZE, _RESULT_SIZE)
_request_id_at = struct.Struct("<q").unpack_from  # of a RESULT: its first field
_CODES = {int(code): code for code in Code}

Found = tuple[bytes, int]  # a frame from the matcher, and where in it the record is


class NotConnected(Exception):
    """There is nobody at the other end."""


class TimedOut(Exception):
    """No answer came in time. What was asked may still happen."""


Delivered = Found | type[NotConnected] | None  # None when a reply did not come, `NotConnected` when it cannot
Waiter = tuple[Callable[[Delivered], None], float]  # who waits for a reply until when


class Link:
    """The connection of one gateway process or thread to the matcher, or to processes that take turns in answering."""

    def __init__(self, *addresses: str, in_flight_max: int = IN_FLIGHT_MAX) -> None:
        self._hub = gevent.get_hub()
        self._in_flight_max = in_flight_max
        self._waiting: dict[int, Waiter] = {}  # in the order of their deadlines, for all wait equally long
        self._last_id = 0
        self._records = bytearray(FRAME_RECORDS_MAX * _COMMAND_SIZE)
        self._gathered_ids: list[int] = []
        self._blobs: list[bytes] = []
        self._blob_size = 0
        self._socket: Any = zmq.Context.instance().socket(zmq.DEALER)
        self._socket.set(zmq.LINGER, LINGER_MS)
        self._socket.set(zmq.IMMEDIATE, 1)  # without a matcher a send fails instead of queueing
        self._socket.set(zmq.RECONNECT_IVL, RECONNECT_MS)
        for option in (zmq.SNDHWM, zmq.RCVHWM):
            self._socket.set(option, ENDPOINTS["commands"].high_water_count)
        for address in addresses:
            self._socket.connect(address)
        self._watcher = self._hub.loop.io(self._socket.get(zmq.FD), READABLE)
        self._watcher.start(self._drain)
        self._expiry = self._hub.loop.timer(EXPIRY_INTERVAL_S, EXPIRY_INTERVAL_S)
        self._expiry.start(self._expire)

    def close(self) -> None:
        """Stop watching and drop what was not sent."""
        self._watcher.close()
        self._expiry.close()
        self._socket.close()

    @property
    def is_full(self) -> bool:
        """Whether as many requests wait as may."""
        return len(self._waiting) >= self._in_flight_max

    def ask(self, command: Encoded) -> Found:
        """Send a command and wait for its RESULT. Raises NotConnected, TimedOut."""
        self._gather(command, getcurrent().switch)
        return _checked(self._hub.switch())

    def ask_all(self, commands: Sequence[Encoded]) -> list[Delivered]:
        """Send commands that follow each other and wait for all RESULTs.

        None stands for one that did not come in time, NotConnected for that of a command that did not leave.
        """
        everything = Gathering(len(commands), getcurrent().switch)
        for place, command in enumerate(commands):
            self._gather(command, partial(everything.take, place))
        found: list[Delivered] = self._hub.switch()
        return found

    def query(self, record: Records) -> Frame:
        """Ask the matcher what it would tell a reader of its memory. Raises NotConnected, TimedOut."""
        return self._exchange(lambda tag: pack(FrameKind.QUERY, record, first=tag), COMMANDS_TIMEOUT_MS)

    def call(self, method: Method, params: list[Any]) -> Outcome:
        """Ask history or market data. Raises NotConnected, TimedOut."""
        return self.call_known(method, params)[0]

    def call_known(self, method: Method, params: list[Any]) -> tuple[Outcome, int]:
        """The same, with the number of the last event that the answer takes into account; 0: it does not say."""
        if self.is_full:
            return Code.SERVICE_UNAVAILABLE, 0
        frame = self._exchange(partial(calls.call, method, params), COMMANDS_TIMEOUT_MS)
        if frame.kind is not FrameKind.ANSWER or frame.total:
            return _CODES.get(frame.total) or Code.INTERNAL_ERROR, 0
        event_number = int(frame.records["event_number"][0]) if len(frame.records) else 0
        return str(frame.blob, "utf-8", "replace"), event_number

    def ping(self) -> Frame:
        """See whether the matcher answers at all. Raises NotConnected, TimedOut."""
        return self._exchange(lambda tag: pack(FrameKind.PING, _NO_RECORDS, first=tag), HEALTH_TIMEOUT_MS)

    def _exchange(self, question: Callable[[int], bytes], timeout_ms: int) -> Frame:
        """Send the frame that `question` makes for a tag, return the one that comes back."""
        self._last_id += 1
        tag = self._last_id
        # Timed on its own: _waiting is in the order of deadlines only while all of them wait equally long.
        with gevent.Timeout(timeout_ms / 1000, TimedOut):
            self._waiting[tag] = (getcurrent().switch, monotonic() + COMMANDS_TIMEOUT_MS / 1000)
            self._hub.loop.run_callback(self._drain)  # even if the send fails: it may take the edge that tells of more
            try:
                _send(self._socket, question(tag), _NOBLOCK)
                data, _ = _checked(self._hub.switch())
                return unpack(data)
            except (zmq.Again, BadFrame):  # nobody, or nobody who speaks as we do
                raise NotConnected from None
            finally:
                self._waiting.pop(tag, None)

    def _gather(self, command: Encoded, deliver: Callable[[Any], None]) -> None:
        fields, blob = command
        if len(self._gathered_ids) == FRAME_RECORDS_MAX or self._blob_size + len(blob) > FRAME_BLOB_MAX:
            self._flush()
        if not self._gathered_ids:
            self._hub.loop.run_callback(self._flush_and_drain)
        self._last_id += 1
        at = len(self._gathered_ids) * _COMMAND_SIZE
        COMMAND_STRUCT.pack_into(self._records, at, self._last_id, *fields)
        if blob:
            _DETAIL_OFFSET.pack_into(self._records, at + DETAIL_OFFSET_AT, self._blob_size)
            self._blobs.append(blob)
            self._blob_size += len(blob)
        self._gathered_ids.append(self._last_id)
        self._waiting[self._last_id] = (deliver, monotonic() + COMMANDS_TIMEOUT_MS / 1000)

    def _flush_and_drain(self) -> None:
        self._flush()
        self._drain()

    def _flush(self) -> None:
        """Send what has gathered as one frame; tell those who wait when there is nobody to send it to."""
        ids, self._gathered_ids = self._gathered_ids, []
        if not ids:
            return
        blobs, self._blobs = self._blobs, []
        header = _HEADER.pack(MAGIC, VERSION, _COMMANDS, len(ids), self._blob_size, 0, 0, 0.0, 0, 0, _NO_PADDING)
        self._blob_size = 0
        try:
            _send(self._socket, b"".join((header, self._records[: len(ids) * _COMMAND_SIZE], *blobs)), _NOBLOCK)
        except zmq.Again:
            for request_id in ids:  # by the hub: this may be the greenlet of somebody else's request
                self._hub.loop.run_callback(self._deliver, request_id, NotConnected)

    def _drain(self) -> None:
        """Hand out every frame that has come; what is none of ours is dropped."""
        while _option(self._socket, _EVENTS) & _POLLIN:
            frame = _receive(self._socket, _NOBLOCK)
            if len(frame) < FRAME.itemsize:
                continue
            magic, version, kind, count, _, first, *_ = _HEADER.unpack_from(frame)
            if magic != MAGIC or version != VERSION:
                continue
            if kind != _RESULTS:
                self._deliver(first, (frame, FRAME.itemsize))
            elif 0 <= count * _RESULT_SIZE <= len(frame) - FRAME.itemsize:
                for at in _RESULTS_AT[:count]:
                    self._deliver(_request_id_at(frame, at)[0], (frame, at))

    def _deliver(self, request_id: int, found: Delivered) -> None:
        waiter = self._waiting.pop(request_id, None)
        if waiter is not None:  # else it came too late
            waiter[0](found)

    def _expire(self) -> None:
        now = monotonic()
        while self._waiting:
            request_id, waiter = next(iter(self._waiting.items()))
            if waiter[1] > now:
                break
            self._deliver(request_id, None)


class Gathering:
    """Replies that one greenlet waits for together."""

    def __init__(self, count: int, deliver: Callable[[list[Delivered]], None]) -> None:
        self._found: list[Delivered] = [None] * count
        self._missing_count = count
        self._deliver = deliver

    def take(self, place: int, found: Delivered) -> None:
        """Keep one; hand over all when it was the last."""
        self._found[place] = found
        self._missing_count -= 1
        if self._missing_count == 0:
            self._deliver(self._found)


def _checked(found: Delivered) -> Found:
    if found is None:
        raise TimedOut
    if found is NotConnected:
        raise NotConnected
    return found  # type: ignore[return-value]  # mypy does not narrow by identity of a class
