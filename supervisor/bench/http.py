"""`pit bench http`: a private exchange with one HTTP worker under wrk, then under a client that keeps a schedule.

wrk sends as fast as replies come; how many of its orders were accepted is read from the order ids before and after,
so that it need not look into replies. Latency is taken by an open-loop client: each order has its time, and waiting
counts from there, whoever was late.
"""

import http.client
import json
import random
import re
import select
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import click

from bus.messages import Side
from conf.settings import Settings
from supervisor.bench import orders, private
from supervisor.bench.cpu import Meter
from supervisor.bench.report import Report, machine, percentile_text

CONNECTION_COUNT = 64
THREAD_COUNT = 1  # of wrk
DEPTH_LEVEL_COUNT = 50
RATES = (500, 2_000, 4_000)  # orders/s of the open-loop client
GOAL_RATE = 2_000
TIMEOUT_S = 10.0
PERCENTS = (50, 90, 99, 99.9, 100)
_FOLDER = Path(__file__).parent


class Wrk(NamedTuple):
    """What wrk reports."""

    request_count: int
    seconds: float
    failed_count: int  # HTTP statuses other than 2xx and 3xx, socket errors
    latency: str

    def __str__(self) -> str:
        return f"{self.request_count:,} sent, {self.failed_count} failed; {self.latency}"


def run(folder: Path | None, conf_file: Path | None, *, quick: bool) -> Report:
    """Measure everything."""
    if shutil.which("wrk") is None:
        raise click.ClickException("wrk is not installed: `apt-get install wrk` brings it")
    seconds = 2 if quick else 15
    with private.exchange(folder, conf_file) as settings:
        report = Report(title="http, one worker, durable", machine=machine(settings.data_dir))
        host, _, port = settings.http.bind.rpartition(":")
        caller = Caller(host, int(port))
        caller.fund()
        _wrk_orders(report, caller, settings, seconds)
        _wrk_depth(report, caller, settings, seconds)
        for rate in RATES:
            _open_loop(report, host, int(port), rate, seconds)
        caller.close()
    return report


class Caller:
    """One plain connection for what is not measured."""

    def __init__(self, host: str, port: int) -> None:
        self._connection = http.client.HTTPConnection(host, port, timeout=TIMEOUT_S)

    def call(self, method: str, *params: Any) -> Any:
        """The result of a call; the benchmark ends when it is refused."""
        self._connection.request("POST", "/", json.dumps({"method": method, "params": params, "id": 1}))
        answer = json.loads(self._connection.getresponse().read())
        if answer["error"]:
            raise click.ClickException(f"{method}: {answer['error']['message']}")
        return answer["result"]

    def fund(self) -> None:
        """Deposits of both assets for every user."""
        business_id = time.time_ns()
        for user_id in range(1, orders.USER_COUNT + 1):
            for asset in (orders.MARKET.stock, orders.MARKET.money):
                self.call("balance.update", user_id, asset, "bench", business_id, str(orders.FUNDS_WHOLE), {})

    def put(self, side: int, price: int) -> int:
        """A small order; returns its id."""
        order = self.call("order.put_limit", 1, orders.MARKET.name, side, "0.01", str(price), "0.002", "0.001", "bench")
        return int(order["id"])

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()


def _wrk(url: str, script: str, seconds: int) -> Wrk:
    command = [
        "wrk",
        f"-t{THREAD_COUNT}",
        f"-c{CONNECTION_COUNT}",
        f"-d{seconds}s",
        "--latency",
        "-s",
        str(_FOLDER / script),
        f"http://{url}/",
    ]
    return parse(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def parse(text: str) -> Wrk:
    """wrk's report, read. Raises ValueError when it is not one."""
    total = re.search(r"(\d+) requests in ([\d.]+)(s|m)", text)
    if total is None:
        raise ValueError(f"not a report of wrk: {text!r}")
    refused = re.search(r"Non-2xx or 3xx responses: (\d+)", text)
    errors = re.search(r"Socket errors: connect (\d+), read (\d+), write (\d+), timeout (\d+)", text)
    failed_count = (int(refused[1]) if refused else 0) + (sum(map(int, errors.groups())) if errors else 0)
    latency = ", ".join(f"p{percent} {value}" for percent, value in re.findall(r"(50|90|99)%\s+(\S+)", text))
    return Wrk(int(total[1]), float(total[2]) * (60 if total[3] == "m" else 1), failed_count, latency)


def _wrk_orders(report: Report, caller: Caller, settings: Settings, seconds: int) -> None:
    before = caller.put(Side.BID, 1)
    meter = Meter(settings)
    result = _wrk(settings.http.bind, "orders.lua", seconds)
    spent = meter.text(result.request_count)
    accepted_count = caller.put(Side.BID, 1) - before - 1
    detail = f"{max(0, result.request_count - accepted_count):,} not accepted of {result}; {spent}"
    what = f"wrk, {CONNECTION_COUNT} connections, orders that trade: accepted"
    report.add(what, accepted_count / result.seconds, "orders/s", "12,000", detail)


def _wrk_depth(report: Report, caller: Caller, settings: Settings, seconds: int) -> None:
    for step in range(1, DEPTH_LEVEL_COUNT + 1):
        distance = 2 * orders.SPREAD_TICKS + step
        caller.put(Side.ASK, orders.MID_TICKS + distance)
        caller.put(Side.BID, orders.MID_TICKS - distance)
    depth = caller.call("order.depth", orders.MARKET.name, DEPTH_LEVEL_COUNT, "0")
    meter = Meter(settings)
    result = _wrk(settings.http.bind, "depth.lua", seconds)
    spent = meter.text(result.request_count)
    detail = f"{len(depth['asks'])} asks, {len(depth['bids'])} bids; {result}; {spent}"
    what = f"wrk, {CONNECTION_COUNT} connections, order.depth of {DEPTH_LEVEL_COUNT} levels"
    report.add(what, result.request_count / result.seconds, "requests/s", "30,000", detail)


def _open_loop(report: Report, host: str, port: int, rate: int, seconds: int) -> None:
    latencies_ms, accepted_count = schedule(host, port, rate, seconds)
    goal = "p50 < 2, p99 < 10" if rate == GOAL_RATE else ""
    detail = f"{percentile_text(latencies_ms, 'ms', PERCENTS)}; {accepted_count / len(latencies_ms):.1%} accepted"
    report.add(
        f"latency at {rate:,} orders/s, median", sorted(latencies_ms)[len(latencies_ms) // 2], "ms", goal, detail
    )


def schedule(host: str, port: int, rate: int, seconds: int) -> tuple[list[float], int]:
    """Send `rate` orders a second, each at its time; return the milliseconds from there to each reply, and how many
    were accepted.
    """
    free = [socket.create_connection((host, port), timeout=TIMEOUT_S) for _ in range(CONNECTION_COUNT)]
    for connection in free:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    busy: dict[socket.socket, float] = {}  # when its order was due
    requests = _requests()
    latencies_ms: list[float] = []
    count, sent_count, accepted_count = rate * seconds, 0, 0
    start_s = time.perf_counter() + 0.05
    while len(latencies_ms) < count:
        due_s = start_s + sent_count / rate
        now_s = time.perf_counter()
        if sent_count < count and free and due_s <= now_s:
            connection = free.pop()
            connection.sendall(next(requests))
            busy[connection] = due_s
            sent_count += 1
            continue
        wait_s = due_s - now_s if sent_count < count and free else TIMEOUT_S
        for connection in select.select(list(busy), (), (), wait_s)[0]:
            reply = connection.recv(1 << 16)  # a reply is smaller than a segment of the loopback
            latencies_ms.append((time.perf_counter() - busy.pop(connection)) * 1000)
            accepted_count += b'"error": null' in reply
            free.append(connection)
    for connection in free:
        connection.close()
    return latencies_ms, accepted_count


def _requests() -> Iterator[bytes]:
    draw = random.Random(6)
    while True:
        side, beyond = draw.choice((Side.ASK, Side.BID)), draw.randint(0, orders.SPREAD_TICKS)
        price = orders.MID_TICKS + (beyond if side == Side.BID else -beyond)
        amount = f"{draw.randint(1, 10) / 100:.2f}"
        params = [
            draw.randint(1, orders.USER_COUNT),
            orders.MARKET.name,
            side,
            amount,
            str(price),
            "0.002",
            "0.001",
            "bench",
        ]
        body = json.dumps({"method": "order.put_limit", "id": 1, "params": params}).encode()
        yield b"POST / HTTP/1.1\r\nHost: bench\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)
