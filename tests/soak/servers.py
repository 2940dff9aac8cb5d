"""All that a soak runs against: MariaDB, Redis with Sentinels, a Kafka broker, nginx, who knows the users, an exchange.

Everything is private, on 127.0.0.1, in one folder, and is ended at the end.
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

from supervisor.bench.mariadb import MariaDb, private
from supervisor.bench.tansu import Tansu
from tests.market.sentinels import Group, sentinels
from tests.process.broker import OTHER, Broker
from tests.process.exchange import Running, free_ports, write_conf
from tests.process.nginx import Front, nginx
from tests.process.ws_client import authority
from tests.soak.disturb.proxy import Proxy
from tests.soak.load.prices import LISTING

DATABASE, ALERT_DATABASE = 0, 1  # of Redis
TOPICS = ("deals", "orders", "balances")
MARIADB_OPTIONS = ("--innodb-buffer-pool-size=128M", "--innodb-log-file-size=64M")
HEARTBEAT_TIMEOUT_S = 3.0
EVENT_SEGMENTS_KEPT_COUNT = 512  # of 4 MiB: all events of a soak, so that the audit has them
CAPACITIES = {
    "order_capacity": 1 << 16,
    "level_capacity": 1 << 15,
    "balance_capacity": 1 << 12,
    "user_market_capacity": 1 << 12,
    "update_capacity": 1 << 18,
}


@dataclass(frozen=True)
class Servers:
    """All of them, running."""

    running: Running
    mariadb: MariaDb
    redis: Group
    kafka: "Kafka"
    front: Front

    def outside_pids(self) -> dict[str, int]:
        """The processes that are not the exchange's, by name."""
        found = {"mariadb": self.mariadb.pid, "nginx": self.front.pid}
        for index, server in enumerate(self.redis.data):
            found[f"redis-{index}"] = server.pid
        if self.kafka.broker.private is not None:
            found["kafka"] = self.kafka.broker.private.pid
        workers = psutil.Process(self.front.pid).children()
        found |= {f"nginx worker {index}": worker.pid for index, worker in enumerate(workers)}
        return {name: pid for name, pid in found.items() if pid}


@dataclass(frozen=True)
class Kafka:
    """A broker, and what of it can be disturbed: the proxy before a private one."""

    broker: Broker
    proxy: Proxy | None
    begin: dict[str, int]  # where its topics ended before

    @property
    def address(self) -> str:
        """The setting [kafka] brokers that names it."""
        return self.broker.address if self.proxy is None else self.proxy.address


@contextmanager
def kafka(folder: Path) -> Iterator[Kafka]:
    """A private broker behind a proxy, or the one of TRADEPIT_KAFKA. Raises NoTansu."""
    if OTHER:
        broker = Broker(None)
        yield Kafka(broker, None, broker.ends(*TOPICS))
        return
    with Proxy() as proxy:
        tansu = Tansu(folder, proxy.port)
        tansu.start()
        proxy.target_port = tansu.port
        try:
            yield Kafka(Broker(tansu), proxy, dict.fromkeys(TOPICS, 0))
        finally:
            tansu.kill()


@contextmanager
def servers(folder: Path) -> Iterator[Servers]:
    """Start everything in a folder, the exchange last, and end it in the opposite order."""
    with ExitStack() as stack:
        auth_url = stack.enter_context(authority())
        mariadb = stack.enter_context(private(folder / "mariadb", MARIADB_OPTIONS))
        redis = stack.enter_context(sentinels(_made(folder / "redis")))
        broker = stack.enter_context(kafka(folder / "kafka"))
        (admin_port,) = free_ports(1)
        conf_file = write_conf(
            folder / "exchange",
            listing=LISTING,
            events={"keep_segments_count": EVENT_SEGMENTS_KEPT_COUNT},
            ws={"workers": 2, "auth_url": auth_url, "sign_url": auth_url, "auth_timeout_s": 10},
            http={"depth_cache_ms": 0},
            matcher=CAPACITIES,
            history={"store": mariadb.address()},
            market={"store": redis.address(DATABASE), "flush_interval_s": 0.5},
            kafka={"brokers": broker.address},
            admin={"bind": f"127.0.0.1:{admin_port}"},
            alert={"store": redis.address(ALERT_DATABASE), "bind": ""},
            supervisor={
                "restart_count_max": 1000,
                "restart_window_s": 1.0,
                "heartbeat_timeout_s": HEARTBEAT_TIMEOUT_S,
            },
        )
        running = Running(conf_file)
        running.pit("history", "init")
        running.pit("up", "--detach")
        stack.callback(_down, running)
        front = stack.enter_context(nginx(folder / "nginx", running.settings))
        yield Servers(running, mariadb, redis, broker, front)


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True)
    return folder


def _down(running: Running) -> None:
    running.pit("down", check=False)
