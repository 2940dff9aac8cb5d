"""The topic of every event, for our own processes on other hosts, and the one that tells what is listed (bus/kafka.py).

Here the messages themselves say which events they are, so a look at the last one tells how far the topic is. What is
listed is sent when the courier begins, when it has changed, and now and then, because brokers forget old messages.
"""

from collections.abc import Iterator

from bus.client import Client, query
from bus.eventlog import rest_of
from bus.kafka import catalog_message, event_messages, events_of
from bus.messages import BadFrame, Frame, QueryKind
from persist.kafka_lanes import Found, Lane
from persist.kafka_link import Link, Message
from persist.kafka_position import Place
from persist.kafka_records import Producer
from persist.store import StoreWrong

LISTING_INTERVAL_S = 3600.0
# What a listing tells beside what is listed: sums of a moment, which are nobody's business there.
_SUMS = {
    QueryKind.ASSETS: ["available_count", "freeze_count", "entry_count", "available_units", "freeze_units"],
    QueryKind.MARKETS: ["ask_count", "bid_count", "ask_units", "bid_units"],
}


def resumed_events(
    link: Link, topic: str, place: Place, producer: Producer | None, mark: int, first_event: int
) -> tuple[Lane, Found]:
    """Look which events the topic has. Raises StoreDown, StoreWrong.

    When it has lost some, those behind its last one are due again, so that no number is missing: when it has none at
    all from `first_event` on, or from the place if that is earlier. Whoever reads it knows events by their numbers.
    """
    there = link.range_of(topic)
    if there.end < place.offset:
        last = last_event(link, topic, mark) or Place(min(first_event, place.event), there.end)
        return Lane(topic, last, there.end), Found(missing_count=place.offset - there.end)
    number, foreign_count = place.event, 0
    lane = Lane(topic, place, there.end, place.sequence)
    for message in lane.see(link.messages(topic, max(there.begin, place.offset), there.end), producer):
        frame = _own(message, topic, mark)
        if frame is None:
            foreign_count += 1
        else:
            number = max(number, frame.first + len(frame.records) - 1)
    lane.settle(number)
    return lane, Found(foreign_count=foreign_count)


def last_event(link: Link, topic: str, mark: int) -> Place | None:
    """Where the topic is, by its last message; None when it has none of ours. Raises StoreDown, StoreWrong."""
    there = link.range_of(topic)
    for message in link.messages(topic, max(there.begin, there.end - 1), there.end):
        if (frame := _own(message, topic, mark)) is not None:
            return Place(frame.first + len(frame.records) - 1, there.end)
    return None


def messages_due(frame: Frame, after_event: int, mark: int, size_max: int) -> Iterator[bytes]:
    """The messages of a frame's events that come after an event."""
    rest = rest_of(frame, after_event)
    return event_messages(rest, mark, size_max) if len(rest.records) else iter(())


def listing(client: Client, mark: int) -> bytes:
    """What is listed now, as a message. Raises NoAnswer."""
    assets, markets = (client.ask(query(kind)).records.copy() for kind in _SUMS)
    for records, names in zip((assets, markets), _SUMS.values(), strict=True):
        for name in names:
            records[name] = 0
    return catalog_message(assets, markets, mark)


def _own(message: Message, topic: str, mark: int) -> Frame | None:
    """The events of a message; None when it has none. Raises StoreWrong when they are another exchange's."""
    try:
        frame = events_of(message.value)
    except BadFrame:
        return None
    if frame.total != mark:
        raise StoreWrong(
            f"the topic {topic} holds events of another exchange: name another one ([kafka] events_topic), or remove it"
        )
    return frame
