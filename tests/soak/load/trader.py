"""A user who trades over HTTP: orders near the price and far from it, market orders, cancels, questions.

What is asked, and which answer would be wrong, is drawn from a seed; when it is asked depends on the machine.
"""

import random
import time
from collections import deque
from collections.abc import Callable
from typing import Any

from tests.process.nginx import Front
from tests.soak.load import hostile, prices
from tests.soak.load.caller import Caller, Reply
from tests.soak.load.known import Known
from tests.soak.load.prices import ASSETS, FUNDS, MARKETS, RATES

OPEN_MAX = 40  # orders that rest; then the oldest goes
STRAY_TURNS = 60  # after so many turns: look for orders that were never answered
PAGE = 100
RETRY_S = 0.2
STATUS_PERIOD_S = 86_400


class Trader:
    """One connection, one user, one thread."""

    def __init__(self, front: Front, user_id: int, seed: int, interval_s: float) -> None:
        self.known = Known()
        self.user_id = user_id
        self._caller = Caller(front, self.known.latencies_s, self.known.unanswered)
        self._draw = random.Random(seed)
        self._interval_s = interval_s
        self._open: deque[tuple[str, int]] = deque()  # market and id, the oldest first
        self._number = 0

    def fund(self, is_over: Callable[[], bool]) -> None:
        """Deposit what it trades with."""
        for asset in ASSETS:
            self.update(asset, FUNDS[asset], is_over)

    def run(self, is_over: Callable[[], bool]) -> None:
        """Ask for one thing after the other until it is over."""
        turns = (self._near, self._far, self._market, self._cancel, self._ask, self._move, self._annoy)
        while not is_over():
            began_s = time.monotonic()
            self._draw.choices(turns, (34, 14, 8, 14, 18, 5, 7))[0](is_over)
            if len(self._open) > OPEN_MAX:
                self._cancel(is_over)
            if self._number % STRAY_TURNS == 0:
                self._find_strays()
            time.sleep(max(0.0, self._interval_s * self._draw.uniform(0.5, 1.5) - (time.monotonic() - began_s)))
        self._caller.close()

    def update(self, asset: str, change: str, is_over: Callable[[], bool]) -> bool | None:
        """Change a balance, asking again until there is an answer: whether it was done, None if there was none."""
        business = "withdraw" if change.startswith("-") else "deposit"
        self._number += 1
        key = (self.user_id, asset, business, self._number)
        self.known.asked_updates.add(key)
        detail = {"n": self._number, "who": 'a "quoted" ünïcode 名'}
        while (reply := self._caller.call("balance.update", *key, change, detail)) is None:
            if is_over():
                return None
            time.sleep(RETRY_S)
        error = reply["error"]
        is_done = error is None or error["message"] == "repeat update"
        (self.known.acknowledged_updates if is_done else self.known.refused_updates).add(key)
        self._count("balance.update", reply)
        return is_done

    def put(self, method: str, market: str, side: int, *rest: str) -> dict[str, Any] | None:
        """Place an order; what the reply shows of it, None if there is none or it is refused."""
        self._number += 1
        source = f"h{self.user_id}-{self._number}"
        self.known.asked_orders.add(source)
        reply = self._caller.call(method, self.user_id, market, side, *rest, source)
        if reply is None:
            return None
        self._count(method, reply)
        if reply["error"] is not None:
            self.known.refused_orders.add(source)
            return None
        order: dict[str, Any] = reply["result"]
        self.known.acknowledge_order(source, order)
        return order

    def cancel(self, market: str, order_id: int) -> bool:
        """Take an order back; whether it was there."""
        self.known.asked_cancels.add(order_id)
        reply = self._caller.call("order.cancel", self.user_id, market, order_id)
        if reply is None:
            return False
        self._count("order.cancel", reply)
        if reply["error"] is None:
            self.known.acknowledged_cancels.add(order_id)
        return reply["error"] is None

    def ask(self, method: str, *params: Any) -> Any:
        """The result of a question, None if there is none."""
        reply = self._caller.call(method, *params)
        if reply is None:
            return None
        self._count(method, reply)
        if reply["error"] is not None and reply["error"]["code"] != 3:
            self.known.say_wrong(f"{method}{params}: {reply['error']}")
        return reply["result"]

    def _count(self, method: str, reply: Reply) -> None:
        (self.known.answered if reply["error"] is None else self.known.refused)[method] += 1

    def _near(self, _: Callable[[], bool]) -> None:
        traded, side = self._draw.choice(MARKETS), self._draw.choice((1, 2))
        self._limit(traded, side, prices.near(self._draw, traded, time.time()))

    def _far(self, _: Callable[[], bool]) -> None:
        traded, side = self._draw.choice(MARKETS), self._draw.choice((1, 2))
        self._limit(traded, side, prices.far(self._draw, traded, time.time(), side))

    def _limit(self, traded: prices.Traded, side: int, price: str) -> None:
        order = self.put("order.put_limit", traded.name, side, prices.amount(self._draw, traded), price, *self._rates())
        if order is not None and order["left"] != "0":
            self._open.append((traded.name, order["id"]))

    def _market(self, _: Callable[[], bool]) -> None:
        traded, side = self._draw.choice(MARKETS), self._draw.choice((1, 2))
        amount = prices.amount(self._draw, traded)
        if side == 2:  # a buyer's amount is money
            amount = prices.written(float(amount) * traded.price, traded.amount_prec)
        self.put("order.put_market", traded.name, side, amount, self._rates()[0])

    def _rates(self) -> tuple[str, str]:
        return RATES if self._draw.random() < 0.9 else ("0", "0")

    def _cancel(self, _: Callable[[], bool]) -> None:
        if self._open:
            self.cancel(*self._open.popleft())

    def _move(self, is_over: Callable[[], bool]) -> None:
        asset = self._draw.choice(ASSETS)
        change = prices.written(self._draw.uniform(0.001, 10), 6)
        self.update(asset, change if self._draw.random() < 0.5 else f"-{change}", is_over)

    def _annoy(self, _: Callable[[], bool]) -> None:
        body = hostile.request(self._draw, self.user_id)
        reply = self._caller.post(body)
        if reply is not None and reply["error"] is None:
            self.known.say_wrong(f"{body[:200]!r} was accepted: {str(reply)[:200]}")
        self.known.refused["hostile"] += 1

    def _ask(self, _: Callable[[], bool]) -> None:
        traded, now_s = self._draw.choice(MARKETS), int(time.time())
        name, user = traded.name, self.user_id
        questions: tuple[tuple[Any, ...], ...] = (
            ("balance.query", user, *ASSETS),
            ("balance.history", user, "", "", 0, 0, 0, 20),
            ("order.finished", user, name, 0, 0, 0, 20, 0),
            ("order.depth", name, 20, "0"),
            ("order.pending", user, name, 0, 20),
            ("order.book", name, 1, 0, 20),
            ("market.user_deals", user, name, 0, 20),
            ("market.deals", name, 20, 0),
            ("market.last", name),
            ("market.kline", name, now_s - 300, now_s, 5),
            ("market.status", name, STATUS_PERIOD_S),
            ("market.status_today", name),
            ("market.summary", name),
            ("asset.summary",),
        )
        self.ask(*self._draw.choice(questions))

    def _find_strays(self) -> None:
        """Orders whose replies were lost rest too; they are to be cancelled some day."""
        for traded in MARKETS:
            found = self.ask("order.pending", self.user_id, traded.name, 0, PAGE)
            known = {order_id for _, order_id in self._open}
            for order in found["records"] if found else ():
                if order["id"] not in known:
                    self._open.appendleft((traded.name, order["id"]))
