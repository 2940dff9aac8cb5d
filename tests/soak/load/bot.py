"""A bot on the bus: frames of many commands, several in flight, now and then some that are nonsense."""

import json
import random
import time
from collections import deque
from collections.abc import Callable
from typing import Any

import numpy as np

from bus.catalog import Catalog
from bus.client import Client, NoAnswer
from bus.codes import Code
from bus.messages import COMMAND, RESULT, CommandKind, OrderType, Records, Side
from bus.orders import order_text
from tests.soak.load import prices
from tests.soak.load.known import Known
from tests.soak.load.prices import ASSETS, FUNDS, MARKETS

FRAME_COUNT = 10  # commands
IN_FLIGHT_MAX = 20  # frames
RECEIVE_MS = 5
LOST_S = 2.0  # without an answer: the matcher was ended, and takes what was in flight along
OPEN_MAX = 400  # orders of all users together that rest
USER_COUNT = 8
FIRST_USER = 1
GARBAGE_SIZE = 300
DETAIL = b'{"by": "bot"}'
ORDER_AT: int = RESULT.fields["order"][1]  # type: ignore[index]  # named: numpy's stub allows None
WRONG_CODES = (Code.INVALID_ARGUMENT, Code.INTERNAL_ERROR)  # no good command gets these
FUNDED_UNITS = {name: int(FUNDS[name]) for name in ASSETS}

Sent = tuple[Records, list[str], float]  # commands, the name of each, when


class Bot:
    """Users `FIRST_USER` and up, in one thread. `connect` makes a client of the bus."""

    def __init__(self, connect: Callable[[], Client], catalog: Catalog, seed: int, interval_s: float) -> None:
        self.known = Known()
        self._connect = connect
        self._catalog = catalog
        self._draw = random.Random(seed)
        self._interval_s = interval_s
        self._client = connect()
        self._sent: dict[int, Sent] = {}
        self._open: deque[tuple[int, int, int]] = deque()  # market, id and user, the oldest first
        self._number = self._tag = 0

    def fund(self) -> None:
        """Deposit what its users trade with; all of it is acknowledged when this returns. Raises NoAnswer."""
        commands = np.zeros(USER_COUNT * len(ASSETS), COMMAND)
        for place, command in enumerate(commands):
            asset = self._catalog.asset_by_name[ASSETS[place % len(ASSETS)]]
            units = FUNDED_UNITS[asset.name] * 10**asset.prec_show
            self._update(command, FIRST_USER + place // len(ASSETS), asset.name, units)
        self._send(commands, [self._name(command) for command in commands])
        while self._sent:
            self._take(60_000)

    def run(self, is_over: Callable[[], bool]) -> None:
        """Keep frames in flight until it is over; then wait for what is on its way."""
        makers = (self._near, self._far, self._cancel, self._move, self._annoy)
        while not is_over():
            self._draw.choices(makers, (50, 20, 20, 6, 4))[0]()
            if len(self._open) > OPEN_MAX:
                self._cancel()
            end_s = time.monotonic() + self._interval_s * self._draw.uniform(0.5, 1.5)
            while time.monotonic() < end_s or len(self._sent) >= IN_FLIGHT_MAX:
                self._take(RECEIVE_MS)
        while self._sent:
            self._take(RECEIVE_MS)
        self._client.close()

    def _near(self) -> None:
        now_s = time.time()
        self._put(lambda traded, _: prices.near(self._draw, traded, now_s))

    def _far(self) -> None:
        now_s = time.time()
        self._put(lambda traded, side: prices.far(self._draw, traded, now_s, side))

    def _put(self, price_of: Callable[[prices.Traded, int], str]) -> None:
        commands = np.zeros(FRAME_COUNT, COMMAND)
        for command in commands:
            traded, side = self._draw.choice(MARKETS), self._draw.choice((Side.ASK, Side.BID))
            self._number += 1
            source = f"b-{self._number}"
            is_limit = self._draw.random() < 0.9
            amount = round(float(prices.amount(self._draw, traded)) * 10**traded.amount_prec)
            if not is_limit and side == Side.BID:  # a buyer's amount is money
                amount = round(amount * traded.price)
            command["kind"] = CommandKind.PUT_LIMIT if is_limit else CommandKind.PUT_MARKET
            command["user_id"] = FIRST_USER + self._draw.randrange(USER_COUNT)
            command["market"] = self._catalog.market_by_name[traded.name].index
            command["side"], command["amount_units"] = side, amount
            command["price_units"] = round(float(price_of(traded, side)) * 10**traded.price_prec) if is_limit else 0
            command["taker_rate_units"], command["maker_rate_units"] = 20, 10 * is_limit
            _set_text(command, source)
            self.known.asked_orders.add(source)
        self._send(commands, [self._name(command) for command in commands])

    def _cancel(self) -> None:
        commands = np.zeros(min(FRAME_COUNT, len(self._open)), COMMAND)
        commands["kind"] = CommandKind.CANCEL
        for command in commands:
            command["market"], command["subject_id"], command["user_id"] = self._open.popleft()
            self.known.asked_cancels.add(int(command["subject_id"]))
        self._send(commands, [""] * len(commands))

    def _move(self) -> None:
        commands = np.zeros(2, COMMAND)
        for command in commands:
            asset = self._draw.choice(ASSETS)
            self._update(command, FIRST_USER + self._draw.randrange(USER_COUNT), asset, self._draw.randint(1, 10**9))
        self._send(commands, [self._name(command) for command in commands])

    def _update(self, command: Any, user_id: int, asset: str, units: int) -> None:
        self._number += 1
        command["kind"], command["user_id"] = CommandKind.UPDATE_BALANCE, user_id
        command["asset"], command["subject_id"] = self._catalog.asset_by_name[asset].index, self._number
        command["change_units"], command["detail_size"] = (units, 0), len(DETAIL)
        _set_text(command, "bot")
        self.known.asked_updates.add((user_id, asset, "bot", self._number))

    def _annoy(self) -> None:
        """Bytes that are no frame, and a frame of commands that must all be refused."""
        self._client.socket.send(self._draw.randbytes(GARBAGE_SIZE))
        commands = np.zeros(4, COMMAND)
        commands["user_id"], commands["market"], commands["side"] = FIRST_USER, 0, Side.BID
        commands["amount_units"], commands["price_units"] = 10**8, 10**6
        commands["kind"] = (CommandKind.PUT_LIMIT, CommandKind.PUT_LIMIT, 99, CommandKind.CONFIGURE)
        commands["market"] = (99, 0, 0, 0)
        commands["amount_units"] = (1, -5, 1, 1)
        self._send(commands, ["hostile"] * len(commands))

    def _name(self, command: Any) -> str:
        return bytes(command["text"][: command["text_size"]]).decode()

    def _send(self, commands: Records, names: list[str]) -> None:
        if not len(commands):
            return
        self._tag += 1
        self._sent[self._tag] = (commands, names, time.monotonic())
        try:
            self._client.send(commands, DETAIL, tag=self._tag)
        except NoAnswer:
            self._lose()

    def _take(self, timeout_ms: int) -> None:
        """Take what has come; what waits for too long is lost."""
        try:
            frame = self._client.receive(timeout_ms)
        except NoAnswer:
            oldest_s = min((sent_s for *_, sent_s in self._sent.values()), default=time.monotonic())
            if time.monotonic() - oldest_s > LOST_S:
                self._lose()
            return
        for tag in [tag for tag in self._sent if tag < frame.first]:
            self._forget(tag)  # answers come in order: these don't come any more
        if (sent := self._sent.pop(frame.first, None)) is not None:
            commands, names, sent_s = sent
            self.known.latencies_s["bus frame"].append(time.monotonic() - sent_s)
            for command, name, result in zip(commands, names, frame.records, strict=True):
                self._note(command, name, result)

    def _lose(self) -> None:
        """What is in flight may have been done or not; a new connection brings no late answers."""
        for tag in list(self._sent):
            self._forget(tag)
        self._client.close()
        self._client = self._connect()

    def _forget(self, tag: int) -> None:
        self.known.unanswered["bus command"] += len(self._sent.pop(tag)[0])

    def _note(self, command: Any, name: str, result: Any) -> None:
        code = Code(int(result["code"]))
        self.known.answered["bus command"] += code is Code.OK
        self.known.refused["bus command"] += code is not Code.OK
        is_hostile = name == "hostile"
        if code is Code.OK if is_hostile else code in WRONG_CODES:
            self.known.say_wrong(f"bus: {name or 'a cancel'} got {code.name}: {command}")
        elif command["kind"] == CommandKind.UPDATE_BALANCE:
            asset = self._catalog.asset_by_index[command["asset"]].name
            key = (int(command["user_id"]), asset, name, int(command["subject_id"]))
            (self.known.acknowledged_updates if code is Code.OK else self.known.refused_updates).add(key)
        elif command["kind"] == CommandKind.CANCEL:
            if code is Code.OK:
                self.known.acknowledged_cancels.add(int(command["subject_id"]))
        elif code is Code.OK:
            self._note_order(name, result)
        elif not is_hostile:
            self.known.refused_orders.add(name)

    def _note_order(self, name: str, result: Any) -> None:
        order = json.loads(order_text(result.tobytes(), ORDER_AT, self._catalog.market_by_index))
        self.known.acknowledge_order(name, order)
        row = result["order"]
        if row["type"] == OrderType.LIMIT and row["left_units"] > 0:
            self._open.append((int(row["market"]), int(row["id"]), int(row["user_id"])))


def _set_text(command: Any, text: str) -> None:
    data = text.encode()
    command["text"][: len(data)] = np.frombuffer(data, np.uint8)
    command["text_size"] = len(data)
