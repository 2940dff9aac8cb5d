"""The loop of `pit replay`: rows that are due go out while there is room, replies come back and are counted."""

import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from bus.messages import CommandKind
from market.bitstamp import Row
from market.links import REPLY_TIMEOUT_S, Link, LinkBroken, MarketView
from market.orderflow import Flow, Reply, funding

PROGRESS_S = 0.1  # between two looks at the progress
WAIT_S = 0.05  # at most for a reply or the next row, so that the progress bar moves
PACED_WAIT_S = 0.001  # the same when rows come due by the clock
ENDLESS_MS = float("inf")


@dataclass
class Tally:
    """What has come back."""

    put_count: int = 0
    cancel_count: int = 0
    taker_count: int = 0  # puts that traded on arrival
    refusals: Counter[str] = field(default_factory=Counter)
    latencies_s: list[float] = field(default_factory=list)

    def add(self, reply: Reply) -> None:
        """Count one reply."""
        is_put = reply.request.kind == CommandKind.PUT_LIMIT
        self.put_count += is_put
        self.cancel_count += not is_put
        self.taker_count += reply.has_traded
        self.latencies_s.append(reply.latency_s)
        if reply.text:
            self.refusals[f"{'order' if is_put else 'cancel'}: {reply.text}"] += 1


class Player:
    """Plays a recording over a link."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self._last_reply_s = time.perf_counter()

    def fund(self, market: MarketView, rows: Iterable[Row], user_count: int) -> None:
        """Give every user enough for all rows. Raises LinkBroken, also when a deposit is refused."""
        stock, money = ((asset, market.shown_precs[asset]) for asset in (market.stock, market.money))
        precs = market.stock_prec, market.money_prec
        deposits = list(funding(rows, user_count, stock, money, precs, business_id=time.time_ns()))
        while deposits or self._link.in_flight_count:
            room_count = self._link.room_count()
            if deposits and room_count:
                self._link.send(deposits[:room_count])
                del deposits[:room_count]
            for reply in self._replies(WAIT_S):
                if reply.text:
                    raise LinkBroken(f"a deposit was refused: {reply.text}")

    def play(self, flow: Flow, tally: Tally, speed: float, progress: Callable[[int], None]) -> None:
        """Play all rows, at `speed` times the recorded speed (0: as fast as it goes).

        `progress` is told how many rows are done. Raises LinkBroken.
        """
        start_s, start_ms = time.perf_counter(), flow.next_time_ms or 0
        shown_s = start_s
        while self._link.in_flight_count or flow.is_waiting:
            until_ms = start_ms + (time.perf_counter() - start_s) * 1000 * speed if speed else ENDLESS_MS
            requests = flow.take(until_ms, self._link.room_count())
            if requests:
                self._link.send(requests)
            wait_s = 0.0 if requests else PACED_WAIT_S if speed else WAIT_S
            for reply in self._replies(wait_s):
                flow.finish(reply)
                tally.add(reply)
            if time.perf_counter() > shown_s + PROGRESS_S:
                shown_s = time.perf_counter()
                progress(flow.row_count)
        progress(flow.row_count)

    def _replies(self, wait_s: float) -> list[Reply]:
        replies = self._link.replies(wait_s)
        now_s = time.perf_counter()
        if replies or not self._link.in_flight_count:
            self._last_reply_s = now_s
        elif now_s - self._last_reply_s > REPLY_TIMEOUT_S:
            raise LinkBroken(f"no reply for {REPLY_TIMEOUT_S:.0f} seconds")
        return replies
