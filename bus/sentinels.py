"""Redis behind Sentinels: an address like sentinel://host:port,host:port/master/0, and a connection to its master.

The Sentinels are asked for each new connection, because the master changes. Nothing is ever sent twice: whether a
command whose answer was lost was done is for the caller to find out.
"""

import re
from typing import Any, NamedTuple, Self

from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import InvalidResponse, RedisError
from redis.retry import Retry
from redis.sentinel import MasterNotFoundError, Sentinel

from conf.forms import SENTINEL_FORM

SENTINEL_TIMEOUT_S = 0.5  # a Sentinel answers at once or is not there; then the next one is asked
CONNECT_TIMEOUT_S = 1.0
ANSWER_TIMEOUT_S = 5.0  # together less than a process may be silent (conf.settings.Supervisor)

# What redis-py makes of answers that no Sentinel and no Redis gives, and of addresses that are none.
_NONSENSE = (AttributeError, KeyError, IndexError, TypeError, ValueError, OverflowError)

Connection = Any  # a Redis, whose own types leave open whether it gives bytes (ours does) or text


class NotMaster(RedisError):
    """The server that was found is not the master, for now."""


class Address(NamedTuple):
    """Who knows the master, its name, and the database in it."""

    sentinels: tuple[tuple[str, int], ...]
    master: str
    database: int

    @classmethod
    def parse(cls, text: str) -> Self:
        """Take `sentinel://host:port,host:port/master/database` apart. Raises ValueError."""
        if re.fullmatch(SENTINEL_FORM, text, re.ASCII) is None:
            raise ValueError(f"{text!r} is not sentinel://host:port,host:port/master/database")
        _, _, hosts, master, database = text.split("/")
        pairs = (host.split(":") for host in hosts.split(","))
        return cls(tuple((host, int(port)) for host, port in pairs), master, int(database))

    def __str__(self) -> str:
        hosts = ",".join(f"{host}:{port}" for host, port in self.sentinels)
        return f"sentinel://{hosts}/{self.master}/{self.database}"


def connect(address: Address) -> Connection:
    """A client of the master of this moment, with one connection. Raises RedisError."""
    try:
        host, port = _master(address)
    except _NONSENSE as error:
        raise InvalidResponse(f"a Sentinel of {address} answers nonsense ({type(error).__name__})") from None
    client = Redis(host, port, address.database, **_options(CONNECT_TIMEOUT_S, ANSWER_TIMEOUT_S))
    try:
        if (role := client.role()[0]) != b"master":  # the Sentinels are about to change their mind
            raise NotMaster(f"{host}:{port} is a {role.decode()}, not the master")
    except RedisError:
        client.close()
        raise
    except _NONSENSE as error:
        client.close()
        raise InvalidResponse(f"what is at {host!r}:{port} is no Redis ({type(error).__name__})") from None
    return client


def _master(address: Address) -> tuple[str, int]:
    options = _options(SENTINEL_TIMEOUT_S, SENTINEL_TIMEOUT_S)
    sentinels: Any = Sentinel(address.sentinels, sentinel_kwargs=options)  # type: ignore[no-untyped-call]
    try:
        host, port = sentinels.discover_master(address.master)
    except MasterNotFoundError:  # with all about the clients in its text
        names = ", ".join(f"{host}:{port}" for host, port in address.sentinels)
        raise MasterNotFoundError(f"no Sentinel answers at {names} that knows a master {address.master}") from None
    finally:
        sentinels.close()
    return host, port


def _options(connect_timeout_s: float, answer_timeout_s: float) -> dict[str, Any]:
    return {
        "protocol": 2,  # HELLO, which 3 begins with, is unknown to a Redis before 6
        "socket_connect_timeout": connect_timeout_s,
        "socket_timeout": answer_timeout_s,
        "retry": Retry(NoBackoff(), 0),
    }
