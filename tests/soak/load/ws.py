"""WebSocket clients through nginx: users who follow their own and go on from where they were, and the public.

All of them turn in one asyncio loop in one thread. Whatever cuts them off, they connect again.
"""

import asyncio
import json
import random
import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from itertools import count
from typing import Any

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidMessage

from bus import bookclient
from bus.bookclient import monotonic_ms
from tests.process.nginx import NAME, Front
from tests.process.ws_client import PLAIN, raw_socket
from tests.soak.checks.digests import Chain, digest
from tests.soak.load.prices import ASSETS, MARKETS

RETRY_S = 0.2
REPLY_TIMEOUT_S = 20.0
BOOK_LIMIT = 50
KLINE_INTERVAL_S = 60
NAMES = tuple(traded.name for traded in MARKETS)
CUT_OFF = (OSError, ConnectionClosed, InvalidHandshake, InvalidMessage, TimeoutError)

Message = dict[str, Any]


class NotNow(Exception):
    """The exchange can't do it at the moment."""


class Client:
    """What all of them have: a connection that comes back. `wrong` are answers and notifications that can't be."""

    def __init__(self, front: Front) -> None:
        self.connection_count = self.message_count = 0
        self.wrong: list[str] = []
        self.cut_count = 0
        self.is_to_return = False  # set by others: end this connection, and come again
        self._front = front
        self._ids = count(1)

    async def run(self, is_over: asyncio.Event) -> None:
        """Connect, follow, and connect again, until it is over."""
        while not is_over.is_set():
            with suppress(NotNow, *CUT_OFF):
                async with connect(
                    f"wss://{NAME}/ws", sock=raw_socket(self._front.bind), ssl=self._front.tls, **PLAIN
                ) as socket:
                    self.connection_count += 1
                    self.is_to_return = False
                    await self._follow(socket, is_over)
            self.cut_count += not is_over.is_set()
            await asyncio.sleep(RETRY_S)

    async def _follow(self, socket: ClientConnection, is_over: asyncio.Event) -> None:
        raise NotImplementedError

    async def ask(self, socket: ClientConnection, method: str, *params: Any) -> Message:
        """Send a request and wait for its reply; what is told before it is taken. Raises TimeoutError."""
        request_id = next(self._ids)
        await socket.send(json.dumps({"id": request_id, "method": method, "params": params}))
        async with asyncio.timeout(REPLY_TIMEOUT_S):
            while True:
                message = json.loads(await socket.recv())
                if message.get("id") == request_id and "method" not in message:
                    return dict(message)
                self._count(message)

    async def call(self, socket: ClientConnection, method: str, *params: Any) -> Any:
        """Send a request that must succeed, unless something is away just now. Raises NotNow."""
        reply = await self.ask(socket, method, *params)
        if (error := reply["error"]) is not None:
            if error["code"] not in (2, 3, 5):
                self.wrong.append(f"{method}{params}: {error}")
            raise NotNow
        return reply["result"]

    async def receive(self, socket: ClientConnection, is_over: asyncio.Event) -> None:
        """Take what is told until it is over."""
        while not (is_over.is_set() or self.is_to_return):
            with suppress(TimeoutError):
                async with asyncio.timeout(RETRY_S):
                    self._count(json.loads(await socket.recv()))

    def _count(self, message: Message) -> None:
        self.message_count += 1
        self.take(message)

    def take(self, message: Message) -> None:
        """A notification, or a reply that nobody waits for."""


class Owner(Client):
    """A user who follows his orders and balances. `orders` are number and digest of each, over all connections."""

    def __init__(self, front: Front, user_id: int) -> None:
        super().__init__(front)
        self.user_id = user_id
        self.orders: list[tuple[int, bytes]] = []
        self.balances: dict[str, Any] = {}  # as told last
        self.first_number: int | None = None  # what came after it was told
        self.order_number = self.asset_number = 0  # up to which everything was told

    async def _follow(self, socket: ClientConnection, is_over: asyncio.Event) -> None:
        await self.call(socket, "server.auth", f"user-{self.user_id}", "web")
        after = {} if self.first_number is None else {"after": self.order_number}
        told = await self.call(socket, "order.subscribe", *NAMES, after)
        self.order_number = max(self.order_number, told["sequence"])
        if self.first_number is None:
            self.first_number = self.asset_number = told["sequence"]
        told = await self.call(socket, "asset.subscribe", *ASSETS, {"after": self.asset_number})
        self.asset_number = max(self.asset_number, told["sequence"])
        await self.receive(socket, is_over)

    def take(self, message: Message) -> None:
        """Keep what is told."""
        if (method := message.get("method")) == "order.update":
            kind, order, number = message["params"]
            self.orders.append((number, digest([kind, order])))
            self.order_number = max(self.order_number, number)
        elif method == "asset.update":
            balances, number = message["params"]
            if number < self.asset_number:
                self.wrong.append(f"user {self.user_id}: balances of event {number} after {self.asset_number}")
            self.balances |= balances
            self.asset_number = max(self.asset_number, number)


@dataclass
class Deals:
    """The deals of a market that one connection was told, the oldest first."""

    ids: list[int] = field(default_factory=list)
    digests: Chain = field(default_factory=Chain)


class Watcher(Client):
    """Somebody who watches everything public. `deals` are those of each connection by market."""

    def __init__(self, front: Front) -> None:
        super().__init__(front)
        self.deals: list[dict[str, Deals]] = []
        self.prices: dict[str, str] = {}  # as told last
        self.books = {name: bookclient.Follower(name, BOOK_LIMIT, self._ids) for name in NAMES}
        self._socket: ClientConnection | None = None
        self._asking: list[str] = []

    async def _follow(self, socket: ClientConnection, is_over: asyncio.Event) -> None:
        self.deals.append(defaultdict(Deals))
        for channel in ("deals", "price", "state", "today"):
            await self.call(socket, f"{channel}.subscribe", *NAMES)
        await self.call(socket, "kline.subscribe", NAMES[0], KLINE_INTERVAL_S)
        await self.call(socket, "depth.subscribe", NAMES[0], 20, "0")
        self._asking = list(NAMES)
        while not is_over.is_set():
            for name in self._asking:
                await socket.send(json.dumps(self.books[name].ask(monotonic_ms())))
            self._asking = []
            with suppress(TimeoutError):
                async with asyncio.timeout(RETRY_S):
                    self._count(json.loads(await socket.recv()))

    def take(self, message: Message) -> None:
        """Keep deals, prices and books."""
        method = message.get("method")
        if method == "deals.update":
            name, deals = message["params"]
            kept = self.deals[-1][name]
            for deal in reversed(deals):
                kept.ids.append(deal["id"])
                kept.digests += digest(deal)
        elif method == "price.update":
            name, price = message["params"]
            self.prices[name] = price
        elif method in ("book.update", None):
            for name, follower in self.books.items():
                with suppress(bookclient.Refused):
                    if follower.take(message, monotonic_ms()) is bookclient.Step.ASK:
                        self._asking.append(name)


class Nuisance(Client):
    """Somebody who sends what no client should; none of it may get a result."""

    def __init__(self, front: Front, seed: int) -> None:
        super().__init__(front)
        self._draw = random.Random(seed)
        self.refused_count = 0

    async def _follow(self, socket: ClientConnection, is_over: asyncio.Event) -> None:
        requests: tuple[tuple[Any, ...], ...] = (
            ("no.such_method",),
            ("order.subscribe", "BTCUSD"),
            ("asset.query",),
            ("server.auth", "user-x", "web"),
            ("depth.subscribe", "BTCUSD", 7, "0"),
            ("kline.query", "BTCUSD", "a", 0, 0),
            ("book.subscribe", "BTCUSD", 10_000),
        )
        while not is_over.is_set():
            reply = await self.ask(socket, *self._draw.choice(requests))
            self.refused_count += 1
            if reply["error"] is None:
                self.wrong.append(f"a nuisance got {reply}")
            if self._draw.random() < 0.2:
                await socket.send(self._draw.choice(("{", "[1, 2", "\x00", "null", "x" * 5_000)))
            if self._draw.random() < 0.05:
                await socket.send(self._draw.randbytes(200))  # a binary frame
            await asyncio.sleep(self._draw.uniform(0.2, 1))


@contextmanager
def following(clients: list[Client]) -> Iterator["Loop"]:
    """Let clients follow in a thread as long as the block runs."""
    loop = Loop(clients)
    thread = threading.Thread(target=loop.run, name="soak-ws")
    thread.start()
    try:
        yield loop
    finally:
        loop.stop()
        thread.join()


class Loop:
    """The clients' thread."""

    def __init__(self, clients: list[Client]) -> None:
        self.trouble: list[str] = []  # what ended it early
        self._clients = clients
        self._loop = asyncio.new_event_loop()
        self._is_over = asyncio.Event()

    def run(self) -> None:
        """Until it is stopped."""
        try:
            self._loop.run_until_complete(self._run())
        except Exception as error:
            self.trouble.append(f"{type(error).__name__}: {error}")
        finally:
            self._loop.close()

    def stop(self) -> None:
        """Let all of them end."""
        with suppress(RuntimeError):  # it has ended
            self._loop.call_soon_threadsafe(self._is_over.set)

    async def _run(self) -> None:
        await asyncio.gather(*(client.run(self._is_over) for client in self._clients))


def arrive(owners: list[Owner], number: int, timeout_s: float) -> list[str]:
    """Let all of them come again, and wait until each was told everything up to an event; who was not."""
    for owner in owners:
        owner.is_to_return = True  # who has nothing to be told learns only by coming again how far all is told
    deadline_s = time.monotonic() + timeout_s
    while late := [owner for owner in owners if min(owner.order_number, owner.asset_number) < number]:
        if time.monotonic() > deadline_s:
            return [f"user {owner.user_id} was told up to {owner.order_number}, not {number}" for owner in late]
        time.sleep(RETRY_S)
    return []
