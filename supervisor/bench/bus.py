"""`pit bench bus`: one client of a private exchange's bus; every reply leaves after fdatasync."""

import os
import tempfile
import time
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bus.client import Client
from bus.codes import Code
from bus.endpoints import address
from bus.messages import COMMAND, FRAME, Records
from supervisor.bench import orders, private
from supervisor.bench.cpu import Meter
from supervisor.bench.report import Report, machine, percentile_text

FRAME_COUNT = 100  # commands
FRAMES_IN_FLIGHT_COUNT = 50
IN_FLIGHT_COUNT = 1_000
ROUND_COUNT = 20  # the disk and the exchange take turns, so that both see the same disk
REPLY_TIMEOUT_MS = 10_000
PERCENTS = (50, 99, 99.9, 100)


def run(folder: Path | None, conf_file: Path | None, *, quick: bool) -> Report:
    """Measure everything."""
    scale = 10 if quick else 1
    with private.exchange(folder, conf_file) as settings:
        report = Report(title="bus, acknowledged after fdatasync", machine=machine(settings.data_dir))
        client = Client(address(settings.bus.bind, settings.paths.sockets_dir, "commands"))
        try:
            _fund(client)
            what = f"one client, {FRAME_COUNT} orders a frame, {FRAMES_IN_FLIGHT_COUNT} frames in flight"
            flow = orders.trading(2_000_000 // scale)
            _rate(report, client, Meter(settings), flow, FRAME_COUNT, FRAMES_IN_FLIGHT_COUNT, what, "400,000")
            what = f"one client, one order a frame, {IN_FLIGHT_COUNT:,} in flight"
            flow = orders.trading(400_000 // scale, seed=4)
            _rate(report, client, Meter(settings), flow, 1, IN_FLIGHT_COUNT, what, "60,000")
            _one_at_a_time(report, client, settings.data_dir, orders.trading(4_000 // scale, seed=5))
        finally:
            client.close()
    return report


def _fund(client: Client) -> None:
    deposits = orders.funding(time.time_ns())
    for start in range(0, len(deposits), FRAME_COUNT):
        client.send(deposits[start : start + FRAME_COUNT], orders.DETAIL)
        results = client.receive(REPLY_TIMEOUT_MS).records
        assert not results["code"].any(), "the benchmark's deposits must be accepted"


def _rate(
    report: Report,
    client: Client,
    meter: Meter,
    flow: Records,
    frame_count: int,
    window_count: int,
    what: str,
    goal: str,
) -> None:
    frames = [flow[start : start + frame_count] for start in range(0, len(flow), frame_count)]
    sent_s = np.zeros(len(frames))
    done_s = np.zeros(len(frames))
    kept: list[Records] = []  # looked at when time is no longer taken
    begin_s = time.perf_counter()
    for number in range(len(frames) + window_count):
        if number >= window_count:
            frame = client.receive(REPLY_TIMEOUT_MS)
            done_s[frame.first] = time.perf_counter()
            kept.append(frame.records)
        if number < len(frames):
            sent_s[number] = time.perf_counter()
            client.send(frames[number], tag=number)
    seconds = time.perf_counter() - begin_s
    spent = meter.text(len(flow))
    results = np.concatenate(kept)
    accepted_count = int((results["code"] == Code.OK).sum())
    traded_count = int(np.any(results["order"]["deal_stock_units"], axis=1).sum())
    detail = (
        f"{accepted_count / len(flow):.0%} accepted, {traded_count / len(flow):.0%} traded on arrival;"
        f" a frame took {percentile_text((done_s - sent_s) * 1000, 'ms', PERCENTS)}; {spent}"
    )
    report.add(what, accepted_count / seconds, "orders/s", goal, detail)


def _one_at_a_time(report: Report, client: Client, folder: Path, flow: Records) -> None:
    disk_ms, order_ms = [], []
    for part in np.array_split(flow, ROUND_COUNT):
        disk_ms.append(_sync_times_ms(folder, len(part)))
        for place in range(len(part)):
            begin_s = time.perf_counter()
            client.send(part[place : place + 1])
            result = client.receive(REPLY_TIMEOUT_MS).records[0]
            order_ms.append((time.perf_counter() - begin_s) * 1000)
            assert result["code"] == Code.OK, "the benchmark's own orders must be accepted"
    disk, all_orders = np.concatenate(disk_ms), np.array(order_ms)
    median_ms = float(np.median(disk))
    report.add(
        "the disk: write of one journal frame and fdatasync, median",
        median_ms,
        "ms",
        "",
        percentile_text(disk, "ms", PERCENTS),
    )
    beyond_ms = np.median(all_orders) - median_ms
    detail = f"{percentile_text(all_orders, 'ms', PERCENTS)}; the disk's median plus {beyond_ms:.3f} ms"
    report.add("one order at a time, median", float(np.median(all_orders)), "ms", f"{median_ms + 0.4:.3f}", detail)


def _sync_times_ms(folder: Path, count: int) -> NDArray[np.float64]:
    """What the disk alone takes to make as many bytes durable as one order's journal frame has."""
    data = bytes(FRAME.itemsize + COMMAND.itemsize)
    times_ms = np.empty(count)
    with tempfile.NamedTemporaryFile(dir=folder) as file:
        os.posix_fallocate(file.fileno(), 0, count * len(data))
        os.fsync(file.fileno())
        for place in range(count):
            begin_s = time.perf_counter()
            os.pwrite(file.fileno(), data, place * len(data))
            os.fdatasync(file.fileno())
            times_ms[place] = (time.perf_counter() - begin_s) * 1000
    return times_ms
