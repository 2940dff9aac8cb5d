"""The sockets of the bus, in one table: what is spoken where, how much may wait, how long to wait."""

from dataclasses import dataclass
from pathlib import Path

from conf.settings import Settings

COMMANDS_TIMEOUT_MS = 1_000  # a gateway answers 504 after it (CONTRACT 1.2)
HEALTH_TIMEOUT_MS = 500
LINGER_MS = 0


@dataclass(frozen=True, kw_only=True)
class Endpoint:
    """One bound socket and the kind that connects to it."""

    name: str
    bound_by: str  # the process, or the kind of it
    bound: str
    connects: str
    high_water_count: int  # frames that may wait at each end
    tcp_offset: int  # with [bus] bind = tcp://host:port: its port is `port + tcp_offset`
    about: str


ENDPOINTS = {
    endpoint.name: endpoint
    for endpoint in (
        Endpoint(
            name="commands",
            bound_by="matcher",
            bound="ROUTER",
            connects="DEALER",
            high_water_count=2_000,  # times the largest frame of results: what a client that never reads can hold
            tcp_offset=0,
            about="frames of COMMAND, QUERY or PING in; RESULTS, the query's records or PING back, `first` echoed",
        ),
        Endpoint(
            name="events",
            bound_by="matcher",
            bound="PUB",
            connects="SUB",
            high_water_count=1_000,  # of up to 400 KB: what a stuck reader can cost the matcher
            tcp_offset=1,
            about="frames of EVENT once their commands are on disk; one that is too slow misses some and fills the gap",
        ),
        Endpoint(
            name="replay",
            bound_by="matcher",
            bound="ROUTER",
            connects="DEALER",
            high_water_count=100,
            tcp_offset=2,
            about="a PING whose `first` is an event number in; frames of EVENT from the event log back, then a PING",
        ),
        Endpoint(
            name="market",
            bound_by="market",
            bound="ROUTER",
            connects="DEALER",
            high_water_count=2_000,
            tcp_offset=3,
            about="a CALL in, an ANSWER back: k-lines, prices, deals",
        ),
        Endpoint(
            name="history",
            bound_by="history",
            bound="ROUTER",
            connects="DEALER",
            high_water_count=2_000,
            tcp_offset=4,  # of the first history process; the others follow
            about="a CALL in, an ANSWER back: finished orders, deals, balance changes",
        ),
        Endpoint(
            name="alerts",
            bound_by="alertcenter",
            bound="PULL",
            connects="PUSH",
            high_water_count=100,  # times the largest line of an alert
            tcp_offset=68,  # behind the last history process that there can be
            about="lines of JSON, each an alert (conf/alert_record.py); no answer",
        ),
    )
}


def address(bind: str, sockets_dir: Path, name: str, index: int = 0) -> str:
    """The ZeroMQ address of an endpoint; `bind` is the setting: "ipc", or "tcp://host:port".

    `index` tells the processes apart that each have one of their own.
    """
    endpoint = ENDPOINTS[name]
    if bind == "ipc":
        return f"ipc://{sockets_dir}/{name}{index or ''}.sock"
    return _port_after(bind, endpoint.tcp_offset + index)


def place(settings: Settings, name: str, index: int = 0) -> str:
    """The same by the settings, which may have market and history on other machines."""
    elsewhere = {"market": settings.bus.market, "history": settings.bus.history}.get(name)
    if elsewhere:
        return _port_after(elsewhere, index)
    return address(settings.bus.bind, settings.paths.sockets_dir, name, index)


def _port_after(bind: str, count: int) -> str:
    host, _, port = bind.rpartition(":")
    return f"{host}:{int(port) + count}"
