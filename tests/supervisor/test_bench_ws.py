"""What the benchmark of WebSocket clients counts, and that all of it can be run."""

import contextlib
import json
import socket
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from websockets.frames import Frame, Opcode

from gateways.ws.frames import Terms, Wire
from supervisor.bench import ws, ws_baseline, ws_delivery, ws_frames, ws_latency
from supervisor.bench.ws_clients import DEAL, TCP_INFO, Lost
from supervisor.bench.ws_crowd import Crowd, Seen, Server
from supervisor.bench.ws_trades import DEALS

SIZES = (0, 1, 125, 126, 200, 65_535, 65_536)  # each form of a header, on both sides of where it begins


def frame_of(payload: bytes) -> bytes:
    """As a server sends it."""
    return Frame(Opcode.TEXT, payload).serialize(mask=False)


def test_a_server_understands_what_is_sent() -> None:
    wire = Wire(Terms(message_max_size=1 << 16))
    assert wire.receive(ws_frames.HANDSHAKE) == []
    ((answer, _),) = wire.accept()
    assert answer.startswith(ws_frames.ACCEPTED)
    assert answer.endswith(ws_frames.HANDSHAKE_END)
    for markets in (["BTCUSD"], ["BTCUSD"] * 30):
        ((message, _),) = wire.receive(ws_frames.request("deals.subscribe", *markets))
        assert json.loads(message) == {"id": 1, "method": "deals.subscribe", "params": markets}


@pytest.mark.parametrize("size", SIZES)
def test_the_end_of_a_frame_is_found_as_soon_as_its_header_is_whole(size: int) -> None:
    frame = frame_of(bytes(size))
    head_size = len(frame) - size
    for start in (0, 3):
        data = bytes(start) + frame + frame_of(b"next")
        for end in range(start, start + head_size):
            assert ws_frames.end_of_frame(data, start, end) > end
        for end in (start + head_size, start + len(frame), len(data)):
            assert ws_frames.end_of_frame(data, start, end) == start + len(frame)


def test_frames_are_counted_however_they_come() -> None:
    frames = [frame_of(bytes(size)) for size in (0, 7, 125, 126, 300, 0)]
    data = b"".join(frames)
    ends = np.cumsum([len(frame) for frame in frames]).tolist()
    for end in range(len(data) + 1):
        count = sum(each <= end for each in ends)
        assert ws_frames.walk(data, end) == (count, ends[count - 1] if count else 0)


def test_segments_are_counted_as_they_were_sent() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener, socket.create_connection(listener.getsockname()) as client:
        server, _ = listener.accept()
        with server:
            server.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for _ in range(3):
                server.send(bytes(200))
            assert len(client.recv(600, socket.MSG_WAITALL)) == 600
        info = client.getsockopt(*TCP_INFO)
    assert ws_frames.segment_count(info) == 3


def test_latency_counts_from_the_reply_to_each_deal() -> None:
    times_ns = np.array([[5_000_000, 6_000_000], [9_000_000, 9_500_000], [0, 0]])  # the second frame has two deals
    seen = Seen(4, 0, 0, np.array([1, 2]), times_ns)
    late_ms = ws_latency.latencies_ms(seen, np.array([4_000_000, 5_000_000, 10_000_000]))
    assert late_ms.tolist() == [1, 2, 4, 4.5, -1, -0.5]


def test_a_crowd_counts_what_the_baseline_sends() -> None:
    text = DEAL.decode().ljust(150)
    with ws_baseline.running() as (server, broadcast), Crowd(server) as crowd:
        assert crowd.connect(3) > 0
        crowd.connect(4)
        for timed_count in (0, 5):
            crowd.begin(timed_count)
            broadcast(text, 2)
            broadcast(DEAL.decode() * 20_000, 1)  # comes in pieces
            broadcast(text, 2)
            if not timed_count:
                assert crowd.wait(20_004) == 20_004
            crowd.settle()
            seen = crowd.end()
            assert (seen.frame_count, seen.size) == (7 * 5, 7 * (4 * (4 + 150) + 10 + 20_000 * len(DEAL)))
            assert seen.deals.tolist() == [1, 1, 20_000, 1, 1]
            assert seen.times_ns.shape == (timed_count, 7)
            assert (np.diff(seen.times_ns, axis=0) >= 0).all()
        run = ws_delivery.drive(crowd, lambda count: broadcast(text, count), ws_delivery.SINGLE, 0.1)
        assert run.seen.frame_count % 7 == 0
        assert run.seen.frames_a_send == 1
        assert run.seen.frame_size == 154
        assert run.rate > 100


@pytest.mark.parametrize(
    ("status", "frame", "why"),
    [
        (b"HTTP/1.1 429 Too Many Requests", b"", "429"),
        (b"HTTP/1.1 101 Switching Protocols", b"", "closed"),
        (b"HTTP/1.1 101 Switching Protocols", frame_of(ws_frames.REFUSED + b'"code": 4}}'), "refused"),
    ],
)
def test_a_crowd_says_why_it_can_not_go_on(status: bytes, frame: bytes, why: str) -> None:
    def serve() -> None:
        client, _ = listener.accept()
        with client, contextlib.suppress(ConnectionResetError):
            client.recv(1024)
            client.sendall(status + ws_frames.HANDSHAKE_END)
            client.recv(1024)
            if frame:
                client.sendall(frame)
                client.recv(1024)

    def connect_and_ask() -> None:
        crowd.connect(1)
        crowd.say(DEALS)

    with socket.create_server(("127.0.0.1", 0)) as listener, ThreadPoolExecutor() as threads:
        serving = threads.submit(serve)
        with Crowd(Server("127.0.0.1", listener.getsockname()[1], 0)) as crowd, pytest.raises(Lost, match=why):
            connect_and_ask()
        serving.result()


def test_everything_is_measured() -> None:
    report = ws.run(None, ws.Work(20, (5,), 0.2, 1, 3))
    assert [row.unit for row in report.rows] == ["connections", "KiB", *["notifications/s"] * 4, "%", *["ms"] * 4]
    assert all(row.value > 0 for row in report.rows if row.unit not in ("KiB", "ms"))
