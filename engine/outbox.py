"""What waits for the disk: replies and events that may leave once their commands are durable."""

from collections import deque
from typing import NamedTuple


class Held(NamedTuple):
    """One batch's messages."""

    sequence: int  # of its last accepted command, or of the one before when all were refused
    event_number: int  # of its last event
    replies: list[tuple[bytes, bytes]]  # identity, frame
    events: list[bytes]  # frames


class Outbox:
    """Batches in order."""

    def __init__(self) -> None:
        self._held: deque[Held] = deque()

    def __len__(self) -> int:
        return len(self._held)

    def hold(self, held: Held) -> None:
        """Keep a batch until the journal is durable up to its sequence."""
        self._held.append(held)

    def release(self, synced: int) -> list[Held]:
        """Take out what may leave, oldest first."""
        released = []
        while self._held and self._held[0].sequence <= synced:
            released.append(self._held.popleft())
        return released
