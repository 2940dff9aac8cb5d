"""A load of trading on the bus: limit orders of a thousand users in all markets, which trade with each other.

It goes on for so many seconds, at a rate, or as fast as the history keeps up: then an order goes out only while there
are fewer than BEHIND_MAX events that are not stored yet. Meanwhile one of the orders that have just been answered is
looked for in the history, again and again, until it is there.
"""

import time
from collections import deque
from collections.abc import Iterator
from itertools import count
from typing import Any, NamedTuple

import numpy as np
import zmq

from bus.calls import call
from bus.client import Client
from bus.codes import Code
from bus.endpoints import address, place
from bus.messages import Records, unpack
from bus.methods import METHODS
from conf.settings import Settings
from supervisor.bench import orders
from supervisor.bench.stored import Sample, Watch

FRAME_COUNT = 10  # orders
FRAMES_IN_FLIGHT_COUNT = 50
BEHIND_MAX = 50_000  # events
CHUNK_COUNT = 100_000  # orders made at once
LOOK_S = 0.005  # between two looks at how far the history is
PROBED_COUNT = 5  # orders that are looked for at a time
ASK_S = 0.02  # from an answer to the next question for the same order
WAIT_MS = 1
REPLY_TIMEOUT_MS = 10_000
DETAIL = METHODS["order.finished_detail"]


class Run(NamedTuple):
    """What was seen in some seconds of trading."""

    samples: list[Sample]  # every LOOK_S
    order_count: int
    lags_ms: list[float]
    failed_count: int  # questions that the history did not answer

    @property
    def seconds(self) -> float:
        """How long it took."""
        return self.samples[-1].time_s - self.samples[0].time_s


class Probe:
    """Asks a history process for some orders until each is there: the milliseconds that this takes after its reply."""

    def __init__(self, settings: Settings) -> None:
        self.lags_ms: list[float] = []
        self.failed_count = 0
        self._socket: Any = zmq.Context.instance().socket(zmq.DEALER)
        self._socket.setsockopt(zmq.LINGER, 0)
        self._socket.connect(place(settings, "history"))
        self._replied_s: dict[int, float] = {}  # of each order that is waited for
        self._again_s: deque[tuple[float, int]] = deque()  # when to ask for which

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()

    def consider(self, order_id: int) -> None:
        """An order has finished: its reply has come now."""
        if len(self._replied_s) < PROBED_COUNT:
            now_s = time.perf_counter()
            self._replied_s[order_id] = now_s
            self._again_s.append((now_s, order_id))

    def turn(self) -> None:
        """Take the answers that have come, and ask again when it is time."""
        while self._socket.poll(0):
            answer = unpack(self._socket.recv())
            now_s = time.perf_counter()
            self.failed_count += answer.total != Code.OK
            if answer.total == Code.OK and bytes(answer.blob) != b"null":
                self.lags_ms.append((now_s - self._replied_s.pop(answer.first)) * 1000)
            else:
                self._again_s.append((now_s + ASK_S, answer.first))
        while self._again_s and self._again_s[0][0] <= time.perf_counter():
            _, order_id = self._again_s.popleft()
            self._socket.send(call(DETAIL, [order_id], tag=order_id))


class Trading:
    """The load; it can run several times."""

    def __init__(self, settings: Settings) -> None:
        self._client = Client(address(settings.bus.bind, settings.paths.sockets_dir, "commands"))
        self._watch = Watch(settings)
        self._settings = settings
        self._frames = _frames()
        self._in_flight_count = 0

    def close(self) -> None:
        """Disconnect."""
        self._client.close()

    def fund(self) -> None:
        """Make the users rich."""
        deposits = orders.funding(time.time_ns())
        for start in range(0, len(deposits), FRAME_COUNT):
            self._client.send(deposits[start : start + FRAME_COUNT], orders.DETAIL)
            results = self._client.receive(REPLY_TIMEOUT_MS).records
            assert not results["code"].any(), "the benchmark's deposits must be accepted"

    def deposit(self) -> None:
        """One more deposit; returns when it is answered."""
        self._client.send(orders.funding(time.time_ns())[:1], orders.DETAIL)
        assert not self._client.receive(REPLY_TIMEOUT_MS).records["code"].any()

    def drain(self, timeout_s: float) -> Sample:
        """Wait until all is stored, or for so long; how far it is then."""
        deadline_s = time.perf_counter() + timeout_s
        while (sample := self._watch.look()).stored < sample.durable and sample.time_s < deadline_s:
            time.sleep(LOOK_S)
        return sample

    def run(self, seconds: float, rate: float | None = None) -> Run:
        """Send orders for some seconds, `rate` a second, or as fast as the history keeps up."""
        probe = Probe(self._settings)
        samples = [self._watch.look()]
        begin_s, sent_count = samples[0].time_s, 0
        while (now_s := time.perf_counter()) < begin_s + seconds:
            if now_s >= samples[-1].time_s + LOOK_S:
                samples.append(self._watch.look())
            if rate is None:
                may_send = samples[-1].durable - samples[-1].stored < BEHIND_MAX
            else:
                may_send = sent_count < (now_s - begin_s) * rate / FRAME_COUNT
            if may_send and self._in_flight_count < FRAMES_IN_FLIGHT_COUNT:
                self._client.send(next(self._frames))
                sent_count += 1
                self._in_flight_count += 1
            self._receive(probe, 0 if may_send else WAIT_MS)
            probe.turn()
        samples.append(self._watch.look())
        while self._in_flight_count:
            self._receive(probe, REPLY_TIMEOUT_MS)
        probe.close()
        return Run(samples, sent_count * FRAME_COUNT, probe.lags_ms, probe.failed_count)

    def _receive(self, probe: Probe, wait_ms: int) -> None:
        """Take the replies that have come; wait for the first one, or for nothing if there will be none."""
        while self._client.socket.poll(wait_ms):
            finished = finished_ids(self._client.receive(REPLY_TIMEOUT_MS).records)
            self._in_flight_count -= 1
            if finished:
                probe.consider(finished[-1])
            wait_ms = 0


def finished_ids(results: Records) -> list[int]:
    """The ids of the orders that traded on arrival until nothing was left: history has these."""
    found = results["order"]
    ids: list[int] = found["id"][(found["left_units"] == 0) & found["deal_stock_units"].any(axis=1)].tolist()
    return ids


def _frames() -> Iterator[Records]:
    for seed in count(10):
        flow = orders.trading(CHUNK_COUNT, seed, len(orders.LISTING.markets))
        yield from np.split(flow, CHUNK_COUNT // FRAME_COUNT)
