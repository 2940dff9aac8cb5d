"""Connections of the admin port: a line in, its answer out, then the next line.

Nothing that a client does makes the process hold more than a line, a part of an answer and what the kernel buffers for
each of a few connections: the next part is made when the one before has left, the next line is taken after that.
"""

import asyncio
import socket
from collections.abc import Callable, Iterator
from contextlib import suppress

LINE_SIZE_MAX = 4096  # with its end (CONTRACT 9.3); who sends a longer one is not listened to any more
CONNECTION_COUNT_MAX = 32
IDLE_TIMEOUT_S = 3600.0  # without a whole line
SEND_TIMEOUT_S = 60.0  # in which a client must make room for the next part of its answer
SEND_BUFFER_SIZE = 1 << 16
PAUSE_S = 0.001  # when an answer asks for one
BACKLOG = 128  # connections that the kernel holds until they are accepted
FULL = b"too many connections\n"

Answer = Callable[[bytes], Iterator[bytes]]


def listen(bind: str) -> socket.socket:
    """A listener. Raises OSError."""
    host, _, port = bind.rpartition(":")
    family = socket.AF_INET6 if host.startswith("[") else socket.AF_INET
    listener = socket.create_server((host.strip("[]"), int(port)), family=family, backlog=BACKLOG)
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # its connections inherit it
    return listener


class Server:
    """All connections, in one asyncio loop."""

    def __init__(
        self,
        answer: Answer,
        *,
        connection_count_max: int = CONNECTION_COUNT_MAX,
        idle_timeout_s: float = IDLE_TIMEOUT_S,
        send_timeout_s: float = SEND_TIMEOUT_S,
    ) -> None:
        self._answer = answer
        self._connection_count_max = connection_count_max
        self._idle_timeout_s = idle_timeout_s
        self._send_timeout_s = send_timeout_s
        self._tasks: set[asyncio.Task[None]] = set()
        self._listener: asyncio.Server | None = None

    async def start(self, listener: socket.socket) -> None:
        """Accept from now on."""
        self._listener = await asyncio.start_server(self._accept, sock=listener, limit=LINE_SIZE_MAX - 1)

    async def stop(self) -> None:
        """End all connections, in the middle of an answer too."""
        if self._listener is not None:
            self._listener.close()
        tasks = set(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if len(self._tasks) >= self._connection_count_max:
            writer.write(FULL)
            writer.close()
            return
        task = asyncio.get_running_loop().create_task(self._serve(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection, until either side ends it."""
        writer.transport.set_write_buffer_limits(SEND_BUFFER_SIZE)
        try:
            with suppress(TimeoutError, OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
                while True:
                    async with asyncio.timeout(self._idle_timeout_s):
                        line = await reader.readuntil(b"\n")
                    await self._reply(writer, line)
            if writer.transport.get_write_buffer_size():  # it has ended its side, but may read on
                async with asyncio.timeout(self._send_timeout_s):
                    writer.close()
                    await writer.wait_closed()
        except (TimeoutError, OSError):
            pass
        finally:
            writer.transport.abort()

    async def _reply(self, writer: asyncio.StreamWriter, line: bytes) -> None:
        """Send an answer part by part, others' turns between. Raises TimeoutError, OSError."""
        for part in self._answer(line):
            writer.write(part)
            async with asyncio.timeout(self._send_timeout_s):
                await writer.drain()
            await asyncio.sleep(0 if part else PAUSE_S)
