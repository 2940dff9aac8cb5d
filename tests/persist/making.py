"""Real events for tests of stores: flows played to an engine, in frames as consumers get them."""

from collections.abc import Iterable, Iterator
from random import Random

from bus import catalog
from bus.catalog import Catalog
from bus.messages import EVENT, Frame, FrameKind, QueryKind, Records, pack, unpack
from engine.exchange import Exchange
from tests.engine.driver import Driver
from tests.engine.flows import BLOB_SIZE, LISTING, START_S, Step, funding, random_flow, to_command
from tests.reference.exchange import Twin

# What details point into, at any place: JSON, quotes, NULs, bytes that are no UTF-8
BLOB = (b'{"id": 7}' + "'☃日本\0\\{}".encode() + b"\xff\xfe\x80\0;--").ljust(BLOB_SIZE, b"\xc3")


def catalog_of(exchange: Exchange) -> Catalog:
    """What an exchange lists, as consumers of its events know it."""
    return catalog.make(exchange.answer(QueryKind.ASSETS).records, exchange.answer(QueryKind.MARKETS).records)


def frame_of(events: Records, blob: bytes = BLOB) -> Frame:
    """A frame that holds these events."""
    assert events.dtype == EVENT
    return unpack(pack(FrameKind.EVENTS, events, blob, first=int(events[0]["number"]), time=float(events[0]["time"])))


def played(steps: Iterable[Step]) -> tuple[list[Frame], Catalog]:
    """The events of a flow, from the first one on, and what they name."""
    twin, driver = Twin(LISTING), Driver(LISTING)
    twin.apply(funding(), START_S)
    driver.apply(funding(), START_S)
    now, number = START_S, 0
    for step in steps:
        now += step.wait_s
        commands = [to_command(intent, twin, number := number + 1) for intent in step.intents]
        twin.apply(commands, now, BLOB_SIZE)
        driver.apply(commands, now, BLOB_SIZE)
    return [frame_of(events) for events in driver.events if len(events)], catalog_of(driver.exchange)


def random_play(seed: int, steps: int = 40, batch_max: int = 12) -> tuple[list[Frame], Catalog]:
    """The same of a random flow in all markets."""
    return played(random_flow(seed, steps, batch_max))


def in_parts(frames: list[Frame], seed: int, most: int = 5) -> Iterator[list[Frame]]:
    """The same frames in some lists of a few."""
    pick = Random(seed).randrange
    place = 0
    while place < len(frames):
        count = 1 + pick(most)
        yield frames[place : place + count]
        place += count
