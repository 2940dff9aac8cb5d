"""The matcher's ends of the bus, as bus.endpoints lists them."""

from dataclasses import dataclass
from typing import Any, Self

import zmq
from zmq.backend import Socket as BackendSocket

from bus.endpoints import ENDPOINTS, LINGER_MS, address
from bus.messages import BadFrame
from conf.paths import Paths
from engine.inbox import FRAME_SIZE_MAX

NAMES = ("commands", "events", "replay")  # of the endpoints that are the matcher's
# As plain ints: a flag of pyzmq's enum costs as much as the call itself.
NOBLOCK = int(zmq.NOBLOCK)
NOBLOCK_MORE = int(zmq.NOBLOCK | zmq.SNDMORE)
RCVMORE = int(zmq.RCVMORE)
_send = BackendSocket.send  # without the checks around it that cost as much again


@dataclass(frozen=True)
class Sockets:
    """The matcher's ends of the bus."""

    context: Any
    commands: Any
    events: Any
    replay: Any

    @classmethod
    def bind(cls, bind: str, paths: Paths) -> Self:
        """Bind what is the matcher's of bus.endpoints."""
        context = zmq.Context()
        made = {}
        for name in NAMES:
            endpoint = ENDPOINTS[name]
            socket = context.socket(getattr(zmq, endpoint.bound))
            socket.set_hwm(endpoint.high_water_count)
            socket.setsockopt(zmq.LINGER, LINGER_MS)
            socket.setsockopt(zmq.MAXMSGSIZE, FRAME_SIZE_MAX)
            socket.bind(address(bind, paths.sockets_dir, name))
            made[name] = socket
        return cls(context, **made)

    def receive_command(self) -> tuple[bytes, bytes]:
        """Who sent a frame, and the frame. Raises zmq.Again when nothing waits, BadFrame."""
        identity: bytes = self.commands.recv(NOBLOCK)
        data: bytes = self.commands.recv(NOBLOCK)
        more = 0
        while self.commands.getsockopt(RCVMORE):
            self.commands.recv(NOBLOCK)
            more += 1
        if more:
            raise BadFrame(f"{1 + more} parts instead of one")
        return identity, data

    def send_reply(self, identity: bytes, frame: bytes) -> None:
        """Send a frame to one client. Raises zmq.ZMQError."""
        _send(self.commands, identity, NOBLOCK_MORE)
        _send(self.commands, frame, NOBLOCK)

    def publish(self, frame: bytes) -> None:
        """Send a frame of events to whoever listens."""
        _send(self.events, frame, NOBLOCK)

    def close(self) -> None:
        """Close all."""
        self.context.destroy(linger=LINGER_MS)
