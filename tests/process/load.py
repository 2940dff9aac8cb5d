"""Traffic of one bot on the bus, and an exact account of what it was told: the measure of what a crash may not lose.

Frames of four sorts in turn: orders that rest far from the mid, orders that trade at the mid, cancels of resting
orders, deposits. Several are in flight at any time; what has no answer when the matcher dies may have been done or not.
"""

import time
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from bus.client import Client, NoAnswer
from bus.codes import Code
from bus.messages import COMMAND, CommandKind, Records, Side

FRAME_COUNT = 50  # commands
WINDOW_COUNT = 20  # frames in flight
PAUSE_S = 0.002  # between frames: the traffic is to be steady, not as much as goes
RECEIVE_MS = 10
FUND_TIMEOUT_MS = 60_000
USER_COUNT = 20
DEPOSITOR = 99  # has deposits only
FUNDS_UNITS = 10**16  # of each asset for each user, 10^-8
MID_UNITS = 50_000 * 10**8
AMOUNT_UNITS = 10**6
DETAIL = b"{}"
FIRST_ASSET = 0


class _Sent(NamedTuple):
    commands: Records
    note: Callable[[Records, Records], None]  # takes commands and results


class Load:
    """`resting` are acknowledged open orders as the replies showed them, `gone` the ids of acknowledged cancels."""

    def __init__(self, seed: int) -> None:
        self.resting: dict[int, bytes] = {}
        self.gone: set[int] = set()
        self.order_ids: list[int] = []  # of all acknowledged puts
        self.deposited_count = 0  # acknowledged, one unit each
        self.asked_count = 0
        self._owners: dict[int, int] = {}
        self._draw = np.random.default_rng(seed)
        self._sent: dict[int, _Sent] = {}
        self._tag = 0

    def fund(self, client: Client, assets: tuple[int, ...]) -> None:
        """Make the users rich; all of it is acknowledged when this returns."""
        commands = np.zeros(USER_COUNT * len(assets), COMMAND)
        commands["kind"] = CommandKind.UPDATE_BALANCE
        commands["user_id"] = np.repeat(np.arange(1, USER_COUNT + 1), len(assets))
        commands["asset"] = np.tile(assets, USER_COUNT)
        commands["subject_id"] = np.arange(1, len(commands) + 1)
        commands["change_units"] = (FUNDS_UNITS, 0)
        commands["detail_size"] = len(DETAIL)
        client.send(commands, DETAIL)
        assert not client.receive(FUND_TIMEOUT_MS).records["code"].any()

    def run(self, client: Client, is_over: Callable[[], bool]) -> None:
        """Keep frames in flight until it is over; some are on their way when it returns."""
        makers = (
            self._rest,
            self._rest,
            self._trade,
            self._trade,
            self._trade,
            self._cancel,
            self._cancel,
            self._deposit,
        )
        while not is_over():
            makers[self._draw.integers(len(makers))](client)
            while len(self._sent) >= WINDOW_COUNT and not is_over():
                self._take(client)
            time.sleep(PAUSE_S)

    def finish(self, client: Client) -> None:
        """Take the answers to all that is on its way."""
        deadline_s = time.monotonic() + FUND_TIMEOUT_MS / 1000
        while self._sent:
            assert time.monotonic() < deadline_s, f"{len(self._sent)} frames have no answer"
            self._take(client)

    def lose(self) -> None:
        """The matcher has died: forget what had no answer."""
        self._sent.clear()

    def _rest(self, client: Client) -> None:
        commands = self._puts()
        away = self._draw.integers(1, 1_000, FRAME_COUNT) * 10**8 + MID_UNITS // 2
        commands["price_units"] += np.where(commands["side"] == Side.BID, -away, away)
        self._send(client, commands, self._note_resting)

    def _trade(self, client: Client) -> None:
        self._send(client, self._puts(), self._note_ids)

    def _cancel(self, client: Client) -> None:
        commands = np.zeros(min(FRAME_COUNT, len(self.resting)), COMMAND)
        commands["kind"] = CommandKind.CANCEL
        for command in commands:
            order_id = next(iter(self.resting))
            del self.resting[order_id]  # from now on it may be open or not, until the answer says so
            command["subject_id"], command["user_id"] = order_id, self._owners.pop(order_id)
        self._send(client, commands, self._note_gone)

    def _deposit(self, client: Client) -> None:
        commands = np.zeros(1, COMMAND)
        commands["kind"] = CommandKind.UPDATE_BALANCE
        commands["user_id"], commands["asset"] = DEPOSITOR, FIRST_ASSET
        commands["subject_id"] = self.asked_count
        commands["change_units"], commands["detail_size"] = (1, 0), len(DETAIL)
        self.asked_count += 1
        self._send(client, commands, self._note_deposit)

    def _puts(self) -> Records:
        commands = np.zeros(FRAME_COUNT, COMMAND)
        commands["kind"] = CommandKind.PUT_LIMIT
        commands["user_id"] = self._draw.integers(1, USER_COUNT + 1, FRAME_COUNT)
        commands["side"] = self._draw.integers(Side.ASK, Side.BID + 1, FRAME_COUNT)
        commands["amount_units"], commands["price_units"] = AMOUNT_UNITS, MID_UNITS
        commands["taker_rate_units"], commands["maker_rate_units"] = 20, 10
        return commands

    def _send(self, client: Client, commands: Records, note: Callable[[Records, Records], None]) -> None:
        if len(commands):
            self._tag += 1
            self._sent[self._tag] = _Sent(commands, note)
            client.send(commands, DETAIL, tag=self._tag)

    def _take(self, client: Client) -> None:
        try:
            frame = client.receive(timeout_ms=RECEIVE_MS)
        except NoAnswer:
            return
        sent, results = self._sent.pop(frame.first), frame.records
        assert (results["code"] == Code.OK).all(), results["code"]
        sent.note(sent.commands, results)

    def _note_resting(self, commands: Records, results: Records) -> None:
        self._note_ids(commands, results)
        for order in results["order"]:
            self.resting[int(order["id"])] = order.tobytes()
            self._owners[int(order["id"])] = int(order["user_id"])

    def _note_ids(self, commands: Records, results: Records) -> None:
        self.order_ids += results["order"]["id"].tolist()

    def _note_gone(self, commands: Records, results: Records) -> None:
        self.gone |= set(commands["subject_id"].tolist())

    def _note_deposit(self, commands: Records, results: Records) -> None:
        self.deposited_count += 1
