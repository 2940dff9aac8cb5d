"""A client of the matcher for trading bots, benches and replays: plain blocking calls, many commands in flight.

    commands = np.zeros(2, COMMAND)
    commands["kind"], commands["user_id"], commands["market"] = CommandKind.PUT_LIMIT, 7, 0
    commands["side"] = Side.ASK, Side.BID
    commands["amount_units"], commands["price_units"] = 150_000_000, 800_000_000_000
    with Client(address("ipc", paths.sockets_dir, "commands")) as client:
        client.send(commands, tag=1)
        results = client.receive(timeout_ms=1000)      # first == 1; records: a RESULT for each command, in order
        for result in results.records:
            print(Code(result["code"]).name, result["order"]["id"])

Frames come back in the order in which they went. Receive as you send: the results of more frames than wait at each end
(bus/endpoints.py) are lost for whoever does not read them, though the commands are done. What a result says is on
disk. Units and records: bus/messages.py. Not for several threads at once.
"""

from collections import deque
from typing import Any, Self

import numpy as np
import zmq
from zmq.backend import Socket as BackendSocket

from bus.endpoints import COMMANDS_TIMEOUT_MS, ENDPOINTS, HEALTH_TIMEOUT_MS, LINGER_MS
from bus.messages import QUERY, Bytes, Frame, FrameKind, Records, pack, unpack

NOTHING = np.zeros(0, np.uint8)
NOBLOCK = int(zmq.NOBLOCK)  # pyzmq's enum costs as much as the call itself
_send = BackendSocket.send  # without the checks around it, likewise


class NoAnswer(TimeoutError):
    """The matcher did not answer in time. What was sent may be carried out nevertheless."""


class Client:
    """One DEALER socket."""

    def __init__(self, address: str, context: "zmq.Context[Any] | None" = None) -> None:
        """Never fails for want of a matcher: what is sent waits for it."""
        self._socket = (context or zmq.Context.instance()).socket(zmq.DEALER)
        self._socket.setsockopt(zmq.LINGER, LINGER_MS)
        self._socket.set_hwm(ENDPOINTS["commands"].high_water_count)
        self._socket.connect(address)
        self._waiting: deque[Frame] = deque()  # came while something else was waited for
        self._own_tag = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def socket(self) -> Any:
        """To be polled beside others; after `ask` or `ping`, `receive(0)` first."""
        return self._socket

    def send(self, commands: Records, blob: Bytes = b"", tag: int = 0) -> None:
        """Send a frame of COMMAND records; its RESULTS carry `tag`, which is not negative, as `first`."""
        assert tag >= 0, "tags below zero are the client's own"
        self._send(pack(FrameKind.COMMANDS, commands, blob, first=tag), COMMANDS_TIMEOUT_MS)

    def receive(self, timeout_ms: int = COMMANDS_TIMEOUT_MS) -> Frame:
        """The next frame of RESULTS. Raises NoAnswer."""
        return self._waiting.popleft() if self._waiting else self._receive(timeout_ms)

    def ask(self, query: Records, timeout_ms: int = COMMANDS_TIMEOUT_MS) -> Frame:
        """Send one QUERY record, return the frame of records that answers it. Raises NoAnswer."""
        return self._exchange(FrameKind.QUERY, query.reshape(1), timeout_ms)

    def ping(self, timeout_ms: int = HEALTH_TIMEOUT_MS) -> Frame:
        """The matcher's PING; `total` is the last command's sequence. Raises NoAnswer."""
        return self._exchange(FrameKind.PING, NOTHING, timeout_ms)

    def close(self) -> None:
        """Close the socket; what was not sent yet is dropped."""
        self._socket.close()

    def _exchange(self, kind: FrameKind, records: Records, timeout_ms: int) -> Frame:
        self._own_tag -= 1
        self._send(pack(kind, records, first=self._own_tag), timeout_ms)
        while (frame := self._receive(timeout_ms)).first != self._own_tag:
            if frame.first >= 0:  # else the late answer to an earlier question
                self._waiting.append(frame)
        return frame

    def _send(self, frame: bytes, timeout_ms: int) -> None:
        try:
            _send(self._socket, frame, NOBLOCK)  # a poll first would double the cost of the usual case
        except zmq.Again:
            if not self._socket.poll(timeout_ms, zmq.POLLOUT):
                raise NoAnswer(f"no matcher takes what is sent, for {timeout_ms} ms") from None
            self._socket.send(frame)

    def _receive(self, timeout_ms: int) -> Frame:
        try:
            return unpack(self._socket.recv(NOBLOCK))
        except zmq.Again:
            if not self._socket.poll(timeout_ms):
                raise NoAnswer(f"no answer from the matcher within {timeout_ms} ms") from None
            return unpack(self._socket.recv())


def query(kind: int, **fields: int) -> Records:
    """A QUERY record: `query(QueryKind.DEPTH, market=0, limit_count=50)`."""
    record = np.zeros(1, QUERY)
    record["kind"] = kind
    for name, value in fields.items():
        record[name] = value
    return record
