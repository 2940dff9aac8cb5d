"""The `admin` process: the original's command line for operators, with its texts (CONTRACT 9.3).

    client ──► Server: lines ──► Desk: commands ──► the matcher's shared memory, read-only
                                    └─ makeslice ──► Slices ──► the matcher, which writes a snapshot

It has no authentication, as the original's has none: it listens on this machine unless an operator decides otherwise.
"""

import asyncio
import logging
import signal
import sys
from collections.abc import Callable
from contextlib import suppress

from conf import ready
from conf.settings import Settings
from engine.reader import NotReady, Reader
from gateways.admin.desk import Desk
from gateways.admin.server import Server, listen

SLICE_INTERVAL_S = 5.0  # at least so long lies between two snapshots: trading waits for each
BEAT_INTERVAL_S = 1.0


class Slices:
    """Asks for snapshots, not more often than one in an interval; what comes too soon is asked for later, once."""

    def __init__(self, ask: Callable[[], None], interval_s: float = SLICE_INTERVAL_S) -> None:
        """`ask` raises NotReady."""
        self._ask = ask
        self._interval_s = interval_s
        self._after_s = float("-inf")
        self._is_waiting = False

    def want(self) -> None:
        """Have a snapshot of all that has been acknowledged written, soon. Raises NotReady."""
        loop = asyncio.get_running_loop()
        now = loop.time()
        if now >= self._after_s:
            self._ask()
            self._after_s = now + self._interval_s
        elif not self._is_waiting:
            self._is_waiting = True
            loop.call_at(self._after_s, self._catch_up)

    def _catch_up(self) -> None:
        self._is_waiting = False
        with suppress(NotReady):  # a matcher that has ended has written one
            self.want()


async def serve(settings: Settings) -> None:
    """Serve until told to stop. Raises OSError when the address can't be listened on."""
    stopping = asyncio.Event()
    for told in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(told, stopping.set)
    reader = Reader(settings.paths.state_name)
    server = Server(Desk(settings, reader, Slices(reader.ask_snapshot).want).answer)
    await server.start(listen(settings.admin.bind))
    ready.ready()
    while not stopping.is_set():
        ready.beat()
        with suppress(TimeoutError):
            async with asyncio.timeout(BEAT_INTERVAL_S):
                await stopping.wait()
    await server.stop()


def main(settings: Settings) -> int:
    """Serve until told to stop; the exit status."""
    logging.basicConfig(stream=sys.stderr, level=logging.WARNING)
    asyncio.run(serve(settings))
    return 0
