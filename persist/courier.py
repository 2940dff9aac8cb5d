"""The `courier` process: every event to Kafka as ViaBTC's messages, in order, each once.

    event log and bus -> messages of each topic -> a round: one batch for each topic -> data/courier.json

How far the topics are is kept in a file, once a second. Whatever goes wrong, and after each start, the courier goes
one way: it connects, reads what each topic holds behind the kept place, compares it with the messages that would
follow, leaves out what is there, and goes on (persist/kafka_lanes.py). A round is sent when the one before it has been
acknowledged, so that a batch that failed is never followed by a later one.

What an earlier try had sent may come to the topic after that look, for a broker goes on with what a broken connection
left it, and shows nothing before its replicas have it. So every try is the same producer to the brokers and numbers
its messages as the one before did: of two batches with the same numbers they take one. Brokers that have no such
idempotence are looked at a second time, when a first, small batch shows that something came (`Late`).

Trading never waits for it: the event log, and behind it the journal, keep what is not sent.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from typing import Self

from bus.catalog import Catalog, Listed
from bus.client import Client, NoAnswer
from bus.endpoints import address
from bus.eventlog import Reader
from bus.kafka import catalog_topic, mark_of
from bus.messages import Frame
from bus.positions import Position as Hint
from conf.alert import alert, say
from conf.ready import beat, ready
from conf.settings import Settings
from conf.stopping import Stopping
from engine.journal_reader import read_header
from engine.retelling import Events, NotRetold
from persist import kafka_position
from persist.kafka_events import LISTING_INTERVAL_S, last_event, listing, messages_due, resumed_events
from persist.kafka_lanes import Found, Lane, resumed
from persist.kafka_link import Link, OutOfStep, TooLarge, Unknown
from persist.kafka_messages import TOPICS, messages
from persist.kafka_position import Place, Position, Resend
from persist.store import StoreDown, StoreWrong
from persist.watch import Watch, Words

NAME = "courier"
IDLE_MS = 200  # how long a turn may wait for events
LINGER_S = 0.004  # how long the first event of a wave waits for others
WAVE_COUNT_MAX = 2_000  # events that are made to messages together
ROUND_SIZE_MAX = 512 << 10  # bytes of a topic's batch; brokers refuse more than 1 MiB, unless told otherwise
ROUND_SIZE_LEAST = 16 << 10  # has room for any message
ROUND_COUNT_MAX = 2_000  # messages of it
PROBE_COUNT = 1  # messages of a topic's first batch: it shows whether one sent before came late
SAVE_INTERVAL_S = 1.0
LISTING_TIMEOUT_MS = 200  # a matcher that is away must not hold up what goes by the second
SETTLE_S = 0.25  # what a broker took from a connection that broke needs a moment to be in the topic
PAUSE_LEAST_S, PAUSE_MOST_S = 0.1, 3.0  # between tries
OUT_OF_STEP_S = (
    90.0  # brokers that refuse our numbers so long don't have a batch that nobody can read yet: they lost one
)
REPLAY_PAUSE_S = 60.0  # the same when the journal could not be replayed: each try reads much of it
WORDS = Words(
    waiting="are not in Kafka yet",
    drained="the backlog of Kafka is drained",
    stopped="nothing is sent to Kafka, which will catch up",
    again="Kafka takes messages again",
)


class Ended(Exception):
    """The process was told to end while it waited for a broker."""


class Late(Exception):
    """The first batch found another end than was seen: something that was sent before it came late."""


class Courier:
    """The loop's parts; `turn` is one time round."""

    def __init__(
        self,
        settings: Settings,
        client: Client,
        make_link: Callable[[], Link],
        *,
        now: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._settings = settings
        self._paths = settings.paths
        self._client = client
        self._listed = Listed(client)
        self._make_link = make_link
        self._now = now
        self._sleep = sleep
        self._watch = Watch(settings, NAME, now, WORDS, settings.kafka.backlog_alert_count)
        self._hint: Hint | None = None
        self._mark = 0
        self._link: Link | None = None
        self._events: Events | None = None  # None: the way from the begin is to be gone
        self._position: Position | None = None  # as far as all is acknowledged
        self._saved: Position | None = None
        self._lanes: dict[str, Lane] = {}
        self._frames: list[Frame] = []  # taken, and not settled
        self._sent_catalog: Catalog | None = None  # what is listed, as it was sent
        self._listing_at = 0.0  # when it is to be sent again
        self._now_number: int | None = None  # where topics begin that are to get what comes
        self._round_size_max = ROUND_SIZE_MAX
        self._is_probing = True
        self._has_looked_again = False
        self._out_of_step_since_s: float | None = None
        self._told_foreign: set[str] = set()
        self._pause_s = PAUSE_LEAST_S
        self._again_at = 0.0
        self._saved_at = 0.0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def turn(self, wait_ms: int = IDLE_MS) -> int:
        """Send what has come, or do what leads there; return how many events were settled."""
        self._watch.look()
        if (left_s := self._again_at - self._now()) > 0:
            self._sleep(min(left_s, wait_ms / 1000))
            return 0
        try:
            self._events = self._events or self._begin()
            self._gather(self._events, wait_ms)
            count = self._send() if self._frames else self._rest(self._events)
            self._save_sometimes()
            return count
        except NoAnswer:  # the matcher is away; what is in hand stays there
            if self._events is None:
                self._let_go()
            return 0
        except Late as late:
            say(str(late))
            self._has_looked_again = True
            self._let_go()
            return 0
        except TooLarge as error:
            self._make_smaller(error)
            return 0
        except (StoreDown, StoreWrong, NotRetold, OSError) as error:
            self._see_refused(error)
            self._give_up(error)
            return 0

    def close(self) -> None:
        """Disconnect from the bus and from Kafka, and keep how far it is."""
        self._let_go()
        with suppress(OSError):
            self._save()
        if self._hint is not None:
            self._hint.close()
            self._hint = None

    @property
    def sent_number(self) -> int:
        """All messages of the events up to this one are acknowledged, as far as this courier knows."""
        return self._watch.stored_number

    @property
    def _topics(self) -> tuple[str, ...]:
        events_topic = self._settings.kafka.events_topic
        return (*TOPICS, events_topic) if events_topic else TOPICS

    def _begin(self) -> Events:
        """The one way: see how far each topic is, and follow the events from there."""
        self._listed.now()  # the matcher answers: so its event log is complete
        self._mark = self._mark or self._own_mark()
        first_event = self._first_event()
        position = self._position or kafka_position.load(self._paths)
        if position is not None:
            self._refuse_foreign(position)
        else:
            self._hold(first_event)  # the matcher is to keep events, however long the brokers are away
        self._link = link = self._make_link()
        events_topic = self._settings.kafka.events_topic
        link.open((*self._topics, *([catalog_topic(events_topic)] if events_topic else [])))
        self._sleep(SETTLE_S)
        position = self._asked(link, position)
        self._lanes, missing_count = {}, 0
        for topic in self._topics:
            self._lanes[topic], found = self._resumed(link, topic, position)
            missing_count += found.missing_count
        self._refuse_unknown()
        if missing_count:
            position = position._replace(producer=None)
        self._position = self._produced(link, position._replace(places=position.places | self._places()))
        self._is_probing, self._sent_catalog = True, None
        self._send_listing(link, self._listed.now())
        self._save()
        number = min(lane.place.event for lane in self._lanes.values())
        self._watch.stored_number = number
        say(f"goes on after event {number:,}, {self._watch.behind_count:,} behind")
        return Events(self._settings, number)

    def _own_mark(self) -> int:
        header = read_header(self._paths.journal_dir)
        assert header is not None, "the matcher answers and has no journal"
        return mark_of(header.seed)

    def _refuse_foreign(self, position: Position) -> None:
        """See that the position is this exchange's. Raises StoreWrong."""
        durable = Reader(self._paths.events_dir).durable_number
        if position.exchange != self._mark or any(place.event > durable for place in position.places.values()):
            self._position = None
            raise StoreWrong(
                f"{self._paths.courier_file} is of another exchange, or of this one with another journal: bring the "
                "old data folder back; or, if its messages are in Kafka and this exchange is a new one, remove the file"
            )

    def _refuse_unknown(self) -> None:
        """See that no topic is ahead of the exchange. Raises StoreWrong."""
        durable = Reader(self._paths.events_dir).durable_number
        for topic, lane in self._lanes.items():
            if lane.place.event > durable:
                raise StoreWrong(
                    f"the topic {topic} has events up to {lane.place.event:,}, this exchange {durable:,}: bring the "
                    "newer data folder back, or name another topic ([kafka] events_topic)"
                )

    def _produced(self, link: Link, position: Position) -> Position:
        """The position, with somebody who sends."""
        if position.producer is not None:
            return position
        for lane in self._lanes.values():
            lane.begin_sequence()
        places = {topic: place._replace(sequence=0) for topic, place in position.places.items()}
        return position._replace(producer=link.new_producer(self._topics[0]), places=places)

    def _asked(self, link: Link, position: Position | None) -> Position:
        """The position, after what an operator asked to be sent again."""
        resend = kafka_position.load_resend(self._paths)
        if position is None:  # a request that is there is of a time whose position was removed
            return Position(self._mark, resend.number if resend else 0, {})
        if resend is None or resend.number <= position.resent:
            return position
        topics = [topic for topic in self._topics if topic in resend.topics and self._is_past(topic, position, resend)]
        places = {topic: Place(resend.after_event, link.range_of(topic).end) for topic in topics}
        self._alert(
            f"sends all messages after event {resend.after_event:,} again: {', '.join(topics) or 'there are none'}"
        )
        return Position(position.exchange, resend.number, position.places | places)

    def _is_past(self, topic: str, position: Position, resend: Resend) -> bool:
        """Whether a topic has messages that are asked for again; to go on from there would leave some out else."""
        place = position.places.get(topic)
        return (self._first_event() if place is None else place.event) > resend.after_event

    def _resumed(self, link: Link, topic: str, position: Position) -> tuple[Lane, Found]:
        """A topic as it is now; without a place it begins where the setting says."""
        is_events, place = topic == self._settings.kafka.events_topic, position.places.get(topic)
        if place is None:
            place = last_event(link, topic, self._mark) if is_events else None
            place = place or Place(self._first_event(), link.range_of(topic).end)
            return Lane(topic, place, place.offset), Found()
        if is_events:
            lane, found = resumed_events(link, topic, place, position.producer, self._mark, self._first_event())
        else:
            lane, found = resumed(link, topic, place, position.producer, partial(self._expected, topic, place.event))
        self._tell(topic, place, found)
        if lane.skip_count:
            say(f"{lane.skip_count:,} messages of {topic} are in Kafka already")
        return lane, found

    def _first_event(self) -> int:
        """The last one that a topic does not get which was never sent to; it stays, however long brokers are away."""
        if self._now_number is None:
            self._now_number = Reader(self._paths.events_dir).durable_number
        return 0 if self._settings.kafka.start == "first" else self._now_number

    def _expected(self, topic: str, after_event: int) -> Iterator[bytes]:
        """The messages of a topic that follow from the events after one, as far as they are durable now."""
        durable = Reader(self._paths.events_dir).durable_number
        with Events(self._settings, after_event) as events:
            while events.last_number < durable:
                beat()
                if (frame := events.receive(IDLE_MS)) is not None:
                    yield from messages(frame.records, self._listed.covering(frame.records))[topic]

    def _tell(self, topic: str, place: Place, found: Found) -> None:
        """Alert of what a topic should not hold, or should."""
        if found.missing_count:
            self._alert(
                f"the topic {topic} ends {found.missing_count:,} messages before offset {place.offset:,}, up to which "
                f"Kafka had acknowledged them with event {place.event:,}: it has lost messages, or the topic was made "
                f"anew. {self._after_loss(topic)}"
            )
        if found.foreign_count and topic not in self._told_foreign:
            self._told_foreign.add(topic)
            self._alert(
                f"the topic {topic} has got {found.foreign_count:,} messages that are not the courier's: who else "
                "sends there? They are left alone"
            )

    def _after_loss(self, topic: str) -> str:
        if topic == self._settings.kafka.events_topic:
            return "The events that it lacks are sent again"
        return f"It goes on with what follows; `pit kafka resend --after EVENT --topic {topic}` sends older ones again"

    def _gather(self, events: Events, wait_ms: int) -> None:
        """Take what has come; the first event waits a moment for others."""
        count = sum(len(frame.records) for frame in self._frames)
        end_s = self._now() + LINGER_S if self._frames else 0.0
        while count < WAVE_COUNT_MAX:
            patience_ms = max(0, round((end_s - self._now()) * 1000)) if end_s else wait_ms
            if (frame := events.receive(patience_ms)) is None:
                return
            self._frames.append(frame)
            count += len(frame.records)
            end_s = end_s or self._now() + LINGER_S

    def _send(self) -> int:
        """Send the messages of the frames in hand; return how many events that were."""
        assert self._link is not None
        catalogs = [self._listed.covering(frame.records) for frame in self._frames]
        self._send_listing(self._link, catalogs[-1])
        for frame in self._frames:
            self._add(frame)
        while due := {topic: part for topic, lane in self._lanes.items() if (part := self._round(lane))}:
            self._send_round(self._link, due)
        count = sum(len(frame.records) for frame in self._frames)
        self._settle(self._frames[-1].first + len(self._frames[-1].records) - 1)
        return count

    def _add(self, frame: Frame) -> None:
        """Let the messages of a frame wait in their lanes."""
        events_topic = self._settings.kafka.events_topic
        for topic, made in messages(frame.records, self._listed.covering(frame.records)).items():
            self._lanes[topic].add(frame, made)
        if events_topic:
            lane = self._lanes[events_topic]
            lane.waiting += messages_due(frame, lane.place.event, self._mark, self._round_size_max)

    def _round(self, lane: Lane) -> list[bytes]:
        return lane.round(self._round_size_max, PROBE_COUNT if self._is_probing else ROUND_COUNT_MAX)

    def _send_round(self, link: Link, due: dict[str, list[bytes]]) -> None:
        """Send one batch to each of some topics. Raises Late, StoreDown, StoreWrong."""
        assert self._position is not None
        assert self._position.producer is not None
        sequences = {topic: self._lanes[topic].sequence for topic in due}
        for topic, offset in link.produce(due, self._position.producer, sequences).items():
            lane = self._lanes[topic]
            off_count = lane.acknowledged(len(due[topic]), offset)
            if off_count and self._is_probing and not self._has_looked_again:
                raise Late(f"the topic {topic} has got {off_count:,} messages since it was looked at: looks again")
            end = Place(lane.place.event, offset - off_count)
            self._tell(topic, end, Found(missing_count=max(0, -off_count), foreign_count=max(0, off_count)))
        self._is_probing = False
        beat()

    def _send_listing(self, link: Link, catalog: Catalog) -> None:
        """Send what is listed beside the events: when it has changed, before one that needs it, and now and then."""
        events_topic = self._settings.kafka.events_topic
        if events_topic and (catalog != self._sent_catalog or self._now() >= self._listing_at):
            link.produce({catalog_topic(events_topic): [listing(self._client, self._mark)]})
            self._sent_catalog, self._listing_at = catalog, self._now() + LISTING_INTERVAL_S

    def _settle(self, number: int) -> None:
        """All up to this event is acknowledged."""
        assert self._position is not None
        for lane in self._lanes.values():
            lane.settle(number)
        self._position = self._position._replace(places=self._position.places | self._places())
        self._watch.stored_number = number
        self._frames = []
        self._has_looked_again, self._out_of_step_since_s = False, None
        self._recover()

    def _places(self) -> dict[str, Place]:
        return {topic: lane.place for topic, lane in self._lanes.items()}

    def _rest(self, events: Events) -> int:
        """There was nothing to send."""
        if not events.is_retelling and self._watch.behind_count == 0:
            self._recover()
        return 0

    def _recover(self) -> None:
        """All is well."""
        self._pause_s = PAUSE_LEAST_S
        self._watch.end_trouble()

    def _save_sometimes(self) -> None:
        """Keep how far it is, now and then; see whether something is to be sent again, or listed."""
        if self._now() >= self._saved_at + SAVE_INTERVAL_S:
            self._save()
            if self._link is not None and self._settings.kafka.events_topic:
                with suppress(NoAnswer):
                    self._send_listing(self._link, self._listed.now(LISTING_TIMEOUT_MS))
            resend = kafka_position.load_resend(self._paths)
            if resend is not None and self._position is not None and resend.number > self._position.resent:
                self._let_go()

    def _save(self) -> None:
        """Keep how far it is, and tell the matcher. Raises OSError."""
        self._saved_at = self._now()
        if self._position is None or self._position == self._saved:
            return
        kafka_position.save(self._paths, self._position)
        self._saved = self._position
        self._hold(min(self._position.places[topic].event for topic in self._topics))

    def _hold(self, number: int) -> None:
        """Tell the matcher after which event all are still needed. Raises OSError."""
        self._hint = self._hint or Hint(self._paths.positions_dir, NAME)
        self._hint.tell(number)

    def _make_smaller(self, error: TooLarge) -> None:
        """Send less at once from now on, if that is possible."""
        if self._round_size_max <= ROUND_SIZE_LEAST:
            self._give_up(error)
            return
        self._round_size_max //= 2
        say(f"{error}: goes on with {self._round_size_max:,} bytes at once")
        self._let_go()

    def _see_refused(self, error: Exception) -> None:
        """Let another producer begin when the brokers don't know this one any more."""
        if not isinstance(error, OutOfStep | Unknown):
            return
        if self._out_of_step_since_s is None:
            self._out_of_step_since_s = self._now()
        is_lost = isinstance(error, Unknown) or self._now() >= self._out_of_step_since_s + OUT_OF_STEP_S
        if is_lost and self._position is not None:
            self._position = self._position._replace(producer=None)
            self._out_of_step_since_s = None

    def _give_up(self, error: Exception) -> None:
        """Go back to where a start begins, after a pause that grows."""
        self._watch.begin_trouble(error)
        self._let_go()
        self._again_at = self._now() + (REPLAY_PAUSE_S if isinstance(error, NotRetold) else self._pause_s)
        self._pause_s = min(2 * self._pause_s, PAUSE_MOST_S)

    def _let_go(self) -> None:
        self._frames, self._lanes = [], {}
        if self._events is not None:
            self._events.close()
            self._events = None
        if self._link is not None:
            self._link.close()
            self._link = None

    def _alert(self, text: str) -> None:
        alert(self._paths, NAME, text)


def main(settings: Settings) -> int:
    """Run until told to stop; the exit status."""
    stopping = Stopping()

    def pulse() -> None:
        beat()
        if stopping:
            raise Ended

    client = Client(address(settings.bus.bind, settings.paths.sockets_dir, "commands"))
    with client, Courier(settings, client, lambda: Link(settings.kafka.brokers, pulse)) as courier:
        ready()
        with suppress(Ended):
            while not stopping:
                beat()
                courier.turn()
    return 0
