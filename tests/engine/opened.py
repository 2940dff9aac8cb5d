"""An exchange opened in a folder of its own, without a process: what tests of the matcher's parts start from."""

import itertools
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np

from bus.codes import Code
from bus.messages import COMMAND, CommandKind, Records, Side
from conf.settings import SEGMENT_SIZE_LEAST, Events, Journal, Matcher, Settings, load
from engine.memory import Memory
from engine.opening import Opened, open_exchange

_numbers = itertools.count(1)


def private_settings(folder: Path) -> Settings:
    """Settings of an exchange that meets no other."""
    settings = replace(
        load(None, folder),
        instance=f"opened-{os.getpid()}-{next(_numbers)}",
        journal=Journal(segment_size=SEGMENT_SIZE_LEAST),
        events=Events(segment_size=SEGMENT_SIZE_LEAST),
        matcher=Matcher(order_capacity=4096, level_capacity=1024, balance_capacity=1024, user_market_capacity=1024),
    )
    settings.paths.make()
    return settings


@contextmanager
def opened(settings: Settings) -> Iterator[Opened]:
    """Open and close in order."""
    parts = open_exchange(settings)
    try:
        yield parts
    finally:
        parts.close()


def die(parts: Opened) -> None:
    """Leave everything as a killed process would: the memory stays, nothing is written."""
    parts.journal.close()
    parts.events.close()
    parts.memory.let_go()


def sweep(settings: Settings) -> None:
    """Remove memory that `die` left."""
    if (left := Memory.attach(settings.paths.state_name, writable=True)) is not None:
        left.retire(settings.paths.state_name)


def deposits(count: int = 4, first_id: int = 1) -> Records:
    """The same large deposit of USD and BTC for some users."""
    commands = np.zeros(2 * count, COMMAND)
    commands["kind"] = CommandKind.UPDATE_BALANCE
    commands["user_id"] = np.repeat(np.arange(1, count + 1), 2)
    commands["asset"] = np.tile([0, 1], count)
    commands["subject_id"] = first_id
    commands["change_units"][:, 0] = 10**15
    return commands


def puts(count: int, price: int = 100 * 10**8) -> Records:
    """Limit orders of both sides in turn at one price, by four users: each second one trades with the one before."""
    commands = np.zeros(count, COMMAND)
    commands["request_id"] = np.arange(count)
    commands["kind"] = CommandKind.PUT_LIMIT
    commands["user_id"] = 1 + np.arange(count) % 4
    commands["side"] = np.where(np.arange(count) % 2 == 0, Side.ASK, Side.BID)
    commands["amount_units"] = 10**6
    commands["price_units"] = price
    commands["taker_rate_units"] = 20
    commands["maker_rate_units"] = 10
    return commands


def all_accepted(results: Records) -> bool:
    return bool((results["code"] == Code.OK).all())
