"""One client follows everything and reads nothing: whether the others notice. Else it reads what it gets."""

import re
import socket
import statistics
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.request import urlopen

from conf.settings import Settings
from supervisor.bench import ws_frames
from supervisor.bench.report import Report
from supervisor.bench.ws_clients import RESET, TCP_INFO, TIMEOUT_S, Lost
from supervisor.bench.ws_crowd import Crowd, Server
from supervisor.bench.ws_delivery import SEVERAL, Run, drive
from supervisor.bench.ws_trades import DEALS, MARKETS, Trades

BUFFER_SIZE = 4096  # of its socket, so that it is soon full
FILLING_S = 0.25
FILLING_COUNT_MAX = 200
ESTABLISHED = 1  # of the states of TCP
EVERYTHING = (
    DEALS,
    *(ws_frames.request(f"{channel}.subscribe", *MARKETS) for channel in ("price", "state", "today")),
    *(ws_frames.request("book.subscribe", market, 100) for market in MARKETS),
    ws_frames.request("depth.subscribe", MARKETS[0], 100, "0"),
    ws_frames.request("kline.subscribe", MARKETS[0], 60),
)


def measure(
    report: Report,
    settings: Settings,
    gateway: Server,
    trades: Trades,
    count: int,
    seconds: float,
    round_count: int,
) -> None:
    """While it sleeps and while it reads, in turn."""
    asleep: list[Run] = []
    awake: list[Run] = []
    with Crowd(gateway) as crowd:
        crowd.connect(count - 1)
        crowd.say(DEALS)
        for _ in range(round_count):
            with Crowd(gateway) as reader:
                reader.connect(1)
                reader.say(*EVERYTHING)
                awake.append(drive(crowd, trades.make, SEVERAL, seconds))
            with _sleeper(gateway) as client:
                _fill(crowd, trades, settings.ws.metrics_bind)
                asleep.append(drive(crowd, trades.make, SEVERAL, seconds))
                if ws_frames.state_of(client.getsockopt(*TCP_INFO)) != ESTABLISHED:
                    raise Lost("the client that does not read was disconnected")
    share = _median_rate(asleep) / _median_rate(awake)
    detail = f"{_text(asleep)}; in turn with one that reads: {_text(awake)}; it follows everything"
    report.add(f"{count:,} subscribers, one does not read: what the others get", 100 * share, "%", "100", detail)


def _median_rate(runs: list[Run]) -> float:
    return statistics.median(run.rate for run in runs)


def _text(runs: list[Run]) -> str:
    rates = ", ".join(f"{run.rate:,.0f}" for run in runs)
    return f"{rates} notifications/s, CPU of ws-0 {statistics.median(run.cpu_us for run in runs):.2f} us each"


@contextmanager
def _sleeper(gateway: Server) -> Iterator[socket.socket]:
    """It, meanwhile; it does not read more than the handshake."""
    with socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER_SIZE)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        client.settimeout(TIMEOUT_S)
        client.connect((gateway.host, gateway.port))
        client.sendall(ws_frames.HANDSHAKE)
        if not client.recv(BUFFER_SIZE).endswith(ws_frames.HANDSHAKE_END):
            raise Lost("the handshake was answered strangely")
        client.sendall(b"".join(EVERYTHING))
        yield client


def _fill(crowd: Crowd, trades: Trades, metrics_bind: str) -> None:
    """Trade until the gateway leaves something out for a client that does not read."""
    before = _conflated_count(metrics_bind)
    for _ in range(FILLING_COUNT_MAX):
        drive(crowd, trades.make, SEVERAL, FILLING_S)
        if _conflated_count(metrics_bind) > before:
            return
    raise Lost("the client that does not read held nothing up")


def _conflated_count(metrics_bind: str) -> float:
    with urlopen(f"http://{metrics_bind}/metrics") as reply:
        found = re.search(rb"^ws_conflated_total (\S+)$", reply.read(), re.MULTILINE)
    assert found is not None, "the gateway counts them"
    return float(found[1])
