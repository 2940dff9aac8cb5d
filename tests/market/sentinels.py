"""A private Redis with a replica and three Sentinels, quick to fail over, on free ports of this machine.

    with sentinels(tmp_path) as group:
        store = RedisStore(group.address())
        group.kill_master()

Everything is in the folder; nothing of the machine's own Redis is read or touched.
"""

import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import RedisError, ResponseError
from redis.retry import Retry

from tests.process.exchange import free_ports

HOST = "127.0.0.1"
NAME = "mymaster"
START_TIMEOUT_S = 60.0
FAILOVER_TIMEOUT_S = 60.0
POLL_S = 0.02
SILENCE_MS = 2_000  # after which a master is down; a loaded machine may hold one up for a second
RETRY_MS = 2_000  # half of the time between two failovers
SENTINEL_COUNT = 3
QUORUM = 2
DATABASE_COUNT = 64


class Server:
    """A redis-server, as a data server or as a Sentinel."""

    def __init__(self, folder: Path, port: int, *arguments: str) -> None:
        self.port = port
        self._folder = folder
        self._arguments = arguments
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """Of the running server, 0 when it does not run."""
        process = self._process
        return 0 if process is None else process.pid

    def start(self, *more: str) -> None:
        """Start it, with more arguments, and wait until it answers."""
        assert self._process is None, "it runs"
        self._folder.mkdir(exist_ok=True)
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [
                    *("redis-server", *self._arguments, "--port", str(self.port)),
                    *("--bind", HOST, "--dir", str(self._folder), *more),
                ],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        until(self.answers, START_TIMEOUT_S, self.log)

    def answers(self) -> bool:
        with self.client() as client:
            try:
                return client.ping() is True
            except RedisError:
                return False

    @contextmanager
    def client(self, database: int = 0) -> Iterator[Redis]:
        client = Redis(HOST, self.port, database, socket_timeout=10, retry=Retry(NoBackoff(), 0))
        try:
            yield client
        finally:
            client.close()

    def kill(self) -> None:
        """As a crash would end it."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def log(self) -> str:
        return (self._folder / "log").read_text(errors="replace")[-3000:]


class Group:
    """The servers together."""

    def __init__(self, folder: Path) -> None:
        ports = free_ports(2 + SENTINEL_COUNT)
        data = ("--save", "", "--databases", str(DATABASE_COUNT), "--repl-diskless-sync-delay", "0")
        self.data = [Server(folder / f"data-{number}", port, *data) for number, port in enumerate(ports[:2])]
        self.sentinels = [
            Server(
                folder / f"sentinel-{number}", port, self._sentinel_conf(folder / f"sentinel-{number}"), "--sentinel"
            )
            for number, port in enumerate(ports[2:])
        ]

    def address(self, database: int = 0) -> str:
        """The setting [market] store that names it."""
        hosts = ",".join(f"{HOST}:{server.port}" for server in self.sentinels)
        return f"sentinel://{hosts}/{NAME}/{database}"

    @property
    def master(self) -> Server:
        """Who the first Sentinel says it is."""
        with self.sentinels[0].client() as client:
            port = int(client.execute_command("SENTINEL", "GET-MASTER-ADDR-BY-NAME", NAME)[1])  # type: ignore[no-untyped-call]
        return next(server for server in self.data if server.port == port)

    @property
    def replica(self) -> Server:
        """The other one."""
        master = self.master
        return next(server for server in self.data if server is not master)

    def start(self) -> None:
        first, second = self.data
        first.start()
        second.start(*_following(first))
        for sentinel in self.sentinels:
            sentinel.start()
        until(self.is_whole, START_TIMEOUT_S, self.logs)

    def stop(self) -> None:
        for server in [*self.data, *self.sentinels]:
            server.kill()

    def is_whole(self) -> bool:
        """Whether all Sentinels know each other, and the replica has what the master has."""
        return all(map(self._agrees, self.sentinels)) and self._is_synced()

    def kill_master(self) -> Server:
        """Kill it and wait until all Sentinels name the other one; start it again with `start`."""
        dead = self.master
        dead.kill()
        until(lambda: self.master is not dead and self._is_writable(), FAILOVER_TIMEOUT_S, self.logs)
        return dead

    def part(self) -> None:
        """Keep the replica from what the master writes from now on."""
        with self.replica.client() as replica, self.master.client() as master:
            replica.config_set("masterauth", "wrong")
            master.client_kill_filter(_type="replica")

    def mend(self, dead: Server) -> None:
        """Start what was killed, and wait until it is the replica."""
        dead.start(*_following(self.master))
        for server in self.data:
            with server.client() as client:
                client.config_set("masterauth", "")
        until(self.is_whole, FAILOVER_TIMEOUT_S, self.logs)

    def logs(self) -> str:
        return "".join(f"\n--- {server.port}\n{server.log()}" for server in [*self.data, *self.sentinels])

    def _sentinel_conf(self, folder: Path) -> str:
        folder.mkdir(parents=True)
        path = folder / "sentinel.conf"
        path.write_text(
            f"sentinel monitor {NAME} {HOST} {self.data[0].port} {QUORUM}\n"
            f"sentinel down-after-milliseconds {NAME} {SILENCE_MS}\n"
            f"sentinel failover-timeout {NAME} {RETRY_MS}\n"
        )
        return str(path)

    def _agrees(self, sentinel: Server) -> bool:
        with sentinel.client() as client:
            try:
                state = client.sentinel_master(NAME)
                client.execute_command("SENTINEL", "CKQUORUM", NAME)  # type: ignore[no-untyped-call]
            except ResponseError:
                return False
            replicas = client.sentinel_slaves(NAME)
        assert isinstance(state, dict)
        is_whole = state["num-other-sentinels"] == SENTINEL_COUNT - 1 and state["port"] == self.master.port
        return is_whole and any(not row["is_sdown"] and row["port"] == self.replica.port for row in replicas)

    def _is_synced(self) -> bool:
        with self.replica.client() as client:
            role = client.role()
        return bool(role[0] == b"slave" and role[3] == b"connected")

    def _is_writable(self) -> bool:
        with self.master.client() as client:
            try:
                return bool(client.role()[0] == b"master")
            except RedisError:
                return False


def _following(master: Server) -> tuple[str, str]:
    return "--replicaof", f"{HOST} {master.port}"


@contextmanager
def sentinels(folder: Path) -> Iterator[Group]:
    """Start all of them in `folder`, kill them at the end."""
    group = Group(folder)
    try:
        group.start()
        yield group
    finally:
        group.stop()


def until(is_so: Callable[[], bool], timeout_s: float, told: Callable[[], str]) -> None:
    """Wait until it is so; `told` says what is known when it does not become so."""
    deadline_s = time.monotonic() + timeout_s
    while not is_so():
        assert time.monotonic() < deadline_s, told()
        time.sleep(POLL_S)


def dumped(client: Any) -> dict[str, Any]:
    """All keys of a database, as in tests/golden/side-31/redis.json."""
    found: dict[str, Any] = {}
    for key in sorted(client.keys()):
        kind, name = client.type(key), key.decode()
        if kind == b"hash":
            found[name] = {field.decode(): value.decode() for field, value in client.hgetall(key).items()}
        elif kind == b"list":
            found[name] = [value.decode() for value in client.lrange(key, 0, -1)]
        else:
            found[name] = client.get(key).decode()
    return found
