"""A client of the admin port, as `nc` is one: lines out, text back, on one connection."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress

TIMEOUT_S = 60.0
PART_SIZE = 1 << 16
END_ASKED = b"nothing\nmarket\n"
END = b"command not found\nusage market summary\n"  # what these two get, which no other command gets


class AdminClient:
    """One connection. Answers have no end of their own: END_ASKED goes behind each."""

    def __init__(self, connected: socket.socket) -> None:
        self.socket = connected

    def ask(self, command: str) -> str:
        """Send a command; the text of its answer."""
        self.socket.sendall(f"{command}\n".encode() + END_ASKED)
        received = bytearray()
        while not received.endswith(END):
            part = self.socket.recv(PART_SIZE)
            assert part, f"the connection has ended after {received[-300:]!r}"
            received += part
        return received.removesuffix(END).decode()

    def rest(self) -> bytes:
        """All that comes until the server ends the connection."""
        received = b""
        with suppress(ConnectionResetError):  # it had not read all that was sent
            while part := self.socket.recv(PART_SIZE):
                received += part
        return received


@contextmanager
def admin(bind: str) -> Iterator[AdminClient]:
    """A connection to the admin port at an address."""
    host, _, port = bind.rpartition(":")
    with socket.create_connection((host, int(port)), timeout=TIMEOUT_S) as connected:
        yield AdminClient(connected)
