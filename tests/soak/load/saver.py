"""A user who is the only one to touch his balances, so that he knows at every moment what each answer must be.

It is the proof of "a client sees an error or a pause, never a wrong answer".
"""

import time
from collections.abc import Callable
from decimal import Decimal

from tests.process.nginx import Front
from tests.soak.load import prices
from tests.soak.load.prices import QUIET
from tests.soak.load.trader import Trader

ASSET = "USD"
DECIMALS = 6  # of his deposits


class Saver(Trader):
    """Deposits, withdraws, places orders that nobody takes, and compares each answer."""

    def __init__(self, front: Front, user_id: int, seed: int, interval_s: float) -> None:
        super().__init__(front, user_id, seed, interval_s)
        self._available = self._freeze = Decimal(0)

    def fund(self, is_over: Callable[[], bool]) -> None:
        """Deposit something to begin with."""
        self._change(Decimal(1_000_000), is_over)

    def run(self, is_over: Callable[[], bool]) -> None:
        """Do one thing after the other until it is over, or until an answer leaves open where he stands."""
        while not is_over() and self._turn(is_over):
            time.sleep(self._interval_s)
        self._caller.close()

    def _turn(self, is_over: Callable[[], bool]) -> bool:
        change = Decimal(prices.written(self._draw.uniform(-50, 50), DECIMALS))
        return self._change(change, is_over) and self._compare() and self._rest(is_over) and self._compare()

    def _change(self, change: Decimal, is_over: Callable[[], bool]) -> bool:
        """Whether he knows what came of it."""
        is_done = self.update(ASSET, str(change), is_over)
        if is_done is False and self._available + change >= 0:
            self.known.say_wrong(f"user {self.user_id} was refused {change} of {self._available}")
        self._available += change if is_done else 0
        return is_done is not None

    def _compare(self) -> bool:
        """See whether the balance is the one that it must be."""
        found = self.ask("balance.query", self.user_id, ASSET)
        if found is not None:
            held = Decimal(found[ASSET]["available"]), Decimal(found[ASSET]["freeze"])
            if held != (self._available, self._freeze):
                self.known.say_wrong(f"user {self.user_id} was told {held}, not {(self._available, self._freeze)}")
        return True

    def _rest(self, is_over: Callable[[], bool]) -> bool:
        """Place an order that nobody takes, see it, and take it back."""
        traded = QUIET
        price = prices.near(self._draw, traded, time.time())
        amount = prices.written(traded.amount, traded.amount_prec)
        order = self.put("order.put_limit", traded.name, 2, amount, price, "0.002", "0.001")
        if order is None:
            return self._forget(traded.name, is_over)
        cost = Decimal(price) * Decimal(amount)
        self._available, self._freeze = self._available - cost, self._freeze + cost
        self._compare()
        shown = self.ask("order.pending_detail", traded.name, order["id"])
        if shown is not None and shown != order:
            self.known.say_wrong(f"order {order['id']} is {shown}, it was answered as {order}")
        while not self.cancel(traded.name, order["id"]):
            if is_over():
                return False
            pending = self.ask("order.pending", self.user_id, traded.name, 0, 10)
            if pending is not None and not pending["records"]:
                break  # the cancel whose answer was lost has been done
            time.sleep(self._interval_s)
        self._available, self._freeze = self._available + cost, self._freeze - cost
        return True

    def _forget(self, market: str, is_over: Callable[[], bool]) -> bool:
        """An order has no answer: if it is there, take it back. What is answered next came after it."""
        if not self._change(Decimal(1), is_over):
            return False
        while not is_over():
            pending = self.ask("order.pending", self.user_id, market, 0, 10)
            if pending is not None:
                for order in pending["records"]:
                    self.cancel(market, order["id"])
                if not pending["records"]:
                    return True
            time.sleep(self._interval_s)
        return False
