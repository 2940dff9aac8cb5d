"""The client of books, message by message, and against a server whose messages are lost, repeated, late and wrong."""

import json
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from decimal import Decimal
from functools import partial
from itertools import count, islice
from random import Random
from threading import Thread
from typing import Any
from zlib import crc32

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from websockets.sync.client import connect
from websockets.sync.server import ServerConnection, serve

from bus.book import Book, OutOfStep
from bus.bookclient import RETRY_MS, UNANSWERED_MS, Follower, Refused, Step, follow

Message = dict[str, Any]
Side = list[tuple[str, str]]  # price and amount, best first
Sides = tuple[Side, Side]  # asks, bids

MARKET = "BTCUSD"
WAIT_S = 5.0


def update(sequence: int, asks: Side, bids: Side, whole: Sides, previous: int | None) -> Message:
    """A book.update that makes `whole`: a snapshot, or the delta that continues `previous`."""
    top = whole[0][:10] + whole[1][:10]
    told: Message = {"type": "snapshot"} if previous is None else {"type": "delta", "previous_sequence": previous}
    told |= {"sequence": sequence, "asks": asks, "bids": bids, "checksum": crc32(",".join(map(":".join, top)).encode())}
    return {"method": "book.update", "params": [MARKET, told], "id": None}


def one(sequence: int, previous: int | None = None, *, market: str = MARKET) -> Message:
    """An update of a book that is one ask, whose amount is the sequence."""
    side = [("7", str(sequence))]
    message = update(sequence, side, [], (side, []), previous)
    message["params"][0] = market
    return message


def wrong(message: Message) -> Message:
    """The update with another checksum."""
    market, told = message["params"]
    return message | {"params": [market, told | {"checksum": told["checksum"] ^ 1}]}


def reply(request_id: int) -> Message:
    return {"error": None, "result": {"status": "success"}, "id": request_id}


def refusal(request_id: int) -> Message:
    return {"error": {"code": 1, "message": "invalid argument"}, "result": None, "id": request_id}


# Steps ------------------------------------------------------------------------

TAKEN, ASK, PASS = Step.TAKEN, Step.ASK, Step.PASS
AGAIN_MS = RETRY_MS + UNANSWERED_MS  # when nothing that came at 0 keeps the client from asking
BEGUN = [(0, reply(1), PASS), (0, one(1), TAKEN), (0, one(2, 1), TAKEN)]

# What comes after the first request, when, and what each is. An ASK is followed at once.
STORIES: dict[str, list[tuple[int, Message, Step]]] = {
    "a snapshot, then deltas": [*BEGUN, (1, one(5, 2), TAKEN)],
    "a snapshot before the reply": [
        (0, one(1), TAKEN),
        (0, one(2, 1), TAKEN),
        (0, reply(1), PASS),
        (0, one(3, 2), TAKEN),
    ],
    "a snapshot for a slow reader": [*BEGUN, (1, one(9), TAKEN), (2, one(11, 9), TAKEN)],
    "a snapshot repeated": [*BEGUN, (1, one(9), TAKEN), (2, one(9), TAKEN), (2, one(10, 9), TAKEN)],
    "deltas of the old subscription under way": [
        *BEGUN,
        (2_000, one(4, 3), ASK),
        *((2_000 + number, one(number + 1, number), PASS) for number in range(4, 500)),
        (2_000 + UNANSWERED_MS - 1, one(501, 500), PASS),
        (2_000 + UNANSWERED_MS - 1, reply(2), PASS),
        (2_000 + UNANSWERED_MS - 1, one(502, 501), PASS),  # a server may send it after the reply, too
        (2_000 + UNANSWERED_MS, one(502), TAKEN),
        (2_000 + UNANSWERED_MS, one(503, 502), TAKEN),
    ],
    "one under way would continue the book": [*BEGUN, (2_000, one(2, 1), ASK), (2_000, one(3, 2), PASS)],
    "a snapshot of the old subscription under way": [
        *BEGUN,
        (2_000, one(4, 3), ASK),
        (2_001, one(8), TAKEN),
        (2_002, one(9, 8), TAKEN),
        (2_003, reply(2), PASS),
        (2_004, one(9), TAKEN),
        (2_005, one(12, 9), TAKEN),
    ],
    "a message lost after that snapshot": [
        *BEGUN,
        (2_000, one(4, 3), ASK),
        (2_001, one(8), TAKEN),
        (2_002, one(10, 9), PASS),
        (2_003, reply(2), PASS),
        (2_004, one(10), TAKEN),
    ],
    "a delta lost": [*BEGUN, (2_000, one(4, 3), ASK), (2_001, reply(2), PASS), (2_002, one(4), TAKEN)],
    "a delta repeated": [*BEGUN, (2_000, one(2, 1), ASK), (2_001, reply(2), PASS), (2_002, one(2), TAKEN)],
    "a delta with another checksum": [*BEGUN, (2_000, wrong(one(3, 2)), ASK), (2_001, one(4, 3), PASS)],
    "a snapshot with another checksum": [*BEGUN, (2_000, wrong(one(3)), ASK), (2_001, one(4, 3), PASS)],
    "a snapshot lost": [
        (0, reply(1), PASS),
        (1, one(3, 2), PASS),
        (RETRY_MS - 1, one(4, 3), PASS),
        (RETRY_MS, one(5, 4), ASK),
        (RETRY_MS, one(6, 5), PASS),
        (RETRY_MS, reply(2), PASS),
        (RETRY_MS, one(6), TAKEN),
    ],
    "a snapshot lost, then the next one": [
        *BEGUN,
        (2_000, one(4, 3), ASK),
        (2_300, reply(2), PASS),
        (2_300 + RETRY_MS - 1, one(6, 5), PASS),
        (2_300 + RETRY_MS, one(7, 6), ASK),
        (4_000, reply(3), PASS),
        (4_000 + RETRY_MS, one(8, 7), ASK),
    ],
    "a reply lost": [*BEGUN, (2_000, one(4, 3), ASK), (2_001, one(4), TAKEN), (2_002, one(5, 4), TAKEN)],
    "a request lost": [
        *BEGUN,
        (2_000, one(4, 3), ASK),
        (2_000 + UNANSWERED_MS - 1, one(5, 4), PASS),
        (2_000 + UNANSWERED_MS, one(6, 5), ASK),
        (2_000 + UNANSWERED_MS, one(7, 6), PASS),
    ],
    "the reply to an earlier request": [
        *BEGUN,
        (2_000, one(4, 3), ASK),
        (2_000 + UNANSWERED_MS, one(5, 4), ASK),
        (2_000 + UNANSWERED_MS, reply(2), PASS),
        (2_000 + UNANSWERED_MS, refusal(2), PASS),
        (2_000 + UNANSWERED_MS + RETRY_MS, one(6, 5), PASS),
    ],
    "wrong again and again": [
        *BEGUN,
        (1, wrong(one(3, 2)), PASS),
        (2, one(4, 3), PASS),
        (RETRY_MS, one(5, 4), ASK),
        (RETRY_MS, reply(2), PASS),
        (RETRY_MS, wrong(one(5)), PASS),
        (RETRY_MS, wrong(one(5)), PASS),
        (2 * RETRY_MS, wrong(one(5)), ASK),
    ],
    "what is for others": [
        *BEGUN,
        (AGAIN_MS, one(9, 8, market="ETHUSD"), PASS),
        (AGAIN_MS, one(9, market="ETHUSD"), PASS),
        (AGAIN_MS, {"method": "depth.update", "params": [True, {"asks": [], "bids": []}, MARKET], "id": None}, PASS),
        (AGAIN_MS, {"method": "deals.update", "params": [], "id": 1}, PASS),
        (AGAIN_MS, refusal(7), PASS),
        (AGAIN_MS, {"error": {"code": 1, "message": "invalid argument"}, "result": None, "id": None}, PASS),
        (AGAIN_MS, one(3, 2), TAKEN),
    ],
}


@pytest.mark.parametrize("story", STORIES.values(), ids=STORIES)
def test_steps(story: list[tuple[int, Message, Step]]) -> None:
    follower = Follower(MARKET, 100)
    requests = [follower.ask(0)]
    for now_ms, message, step in story:
        assert follower.take(message, now_ms) is step, (now_ms, message)
        if step is TAKEN:
            sequence = message["params"][1]["sequence"]
            assert (follower.book.asks, follower.book.sequence) == ([("7", str(sequence))], sequence)
        if step is ASK:
            assert (follower.book.asks, follower.book.sequence) == ([], None)
            requests.append(follower.ask(now_ms))
    assert follower.resync_count == len(requests) - 1
    assert requests == [
        {"id": number + 1, "method": "book.subscribe", "params": [MARKET, 100]} for number in range(len(requests))
    ]


def test_it_says_ask_until_that_is_done() -> None:
    follower = Follower(MARKET, 100)
    assert follower.take(one(2, 1), 0) is ASK
    assert follower.take(one(3, 2), 0) is ASK
    follower.ask(0)
    assert follower.take(one(4, 3), 0) is PASS


def test_followers_share_a_connection() -> None:
    ids = count(100)
    followers = [Follower(market, 10, ids) for market in ("BTCUSD", "ETHUSD")]
    assert [each.ask(0)["id"] for each in followers] == [100, 101]
    messages = [reply(101), one(5, market="ETHUSD"), reply(100), one(6)]
    for message in messages:
        for each in followers:
            each.take(message, 0)
    assert [each.book.sequence for each in followers] == [6, 5]
    with pytest.raises(Refused, match="ETHUSD"):
        [each.take(refusal(101), 0) for each in followers]


def test_what_is_no_update_is_an_error() -> None:
    follower = Follower(MARKET, 100)
    with pytest.raises(KeyError):
        follower.take({"method": "book.update", "params": [MARKET, {"type": "delta"}], "id": None}, 0)


# Lost, repeated, late and wrong -------------------------------------------------

PRICES = ["1e-8", "9.0e-7", "0.000001", "0.1", "0.25", "0.9", "1", "2", "9.5", "10", "11", "99", "100", "250", "1000"]
AMOUNTS = ["0", "0", "1e-8", "0.5", "1", "20"]
LIMIT = 12  # fewer than prices, more than the checksum has
FATES = ["arrives", "arrives", "arrives", "arrives", "is lost", "comes twice", "comes late", "is wrong"]


class Server:
    """A market's book and one connection; knows the rules of the feed and nothing of `bus.book`."""

    def __init__(self) -> None:
        self.asks: dict[str, str] = {}  # amount by price
        self.bids: dict[str, str] = {}
        self.number = 0  # of the last event
        self.requests: deque[Message] = deque()
        self.under_way: deque[Message] = deque()
        self.told: tuple[int, Sides] | None = None  # after the last message; None: not subscribed
        self.books: dict[int, Sides] = {}  # what a client has after the message of that number

    def window(self) -> Sides:
        best_asks = sorted(self.asks, key=Decimal)[:LIMIT]
        best_bids = sorted(self.bids, key=Decimal, reverse=True)[:LIMIT]
        return [(price, self.asks[price]) for price in best_asks], [(price, self.bids[price]) for price in best_bids]

    def change(self, changes: list[tuple[bool, str, str]]) -> None:
        for is_bid, price, amount in changes:
            side = self.bids if is_bid else self.asks
            side[price] = amount
            if amount == "0":
                del side[price]
        self.number += len(changes)
        if self.told is not None and self.told[1] != self.window():
            self.tell_delta(*self.told)

    def answer(self) -> None:
        if self.requests:
            self.under_way.append(reply(self.requests.popleft()["id"]))
            self.tell_snapshot()

    def overrun(self) -> None:
        """The reader is slow: a snapshot instead of all updates that it has not taken."""
        if self.told is not None:
            self.under_way = deque(message for message in self.under_way if "method" not in message)
            self.tell_snapshot()

    def tell_snapshot(self) -> None:
        window = self.window()
        self.tell(window, update(self.number, *window, window, None))

    def tell_delta(self, previous: int, before: Sides) -> None:
        after = self.window()
        asks, bids = (
            [(price, dict(new).get(price, "0")) for price in PRICES if dict(old).get(price) != dict(new).get(price)]
            for old, new in zip(before, after, strict=True)
        )
        self.tell(after, update(self.number, asks, bids, after, previous))

    def tell(self, window: Sides, message: Message) -> None:
        self.told = self.number, window
        self.books[self.number] = window
        self.under_way.append(message)


class World:
    """The server, the client, what is between them and what must be true of the client after each message."""

    def __init__(self, follower: Follower) -> None:
        self.server = Server()
        self.follower = follower
        self.now_ms = 0
        self.known: int | None = None  # the number of the book that the client must have
        self.noticed_count = 0  # times when it must have found that it has none
        self.ask()

    def ask(self) -> None:
        self.request = self.follower.ask(self.now_ms)
        self.quiet_until_ms = self.now_ms + UNANSWERED_MS
        self.server.requests.append(self.request)

    def change(self, changes: list[tuple[bool, str, str]]) -> None:
        self.server.change(changes)

    def answer(self) -> None:
        self.server.answer()

    def overrun(self) -> None:
        self.server.overrun()

    def lose_request(self) -> None:
        if self.server.told is not None:  # else there would be nothing to find it by
            self.server.requests.clear()

    def wait(self, time_ms: int) -> None:
        self.now_ms += time_ms

    def receive(self, fate: str) -> None:
        if not self.server.under_way:
            return
        message = self.server.under_way.popleft()
        if fate == "comes late":
            self.server.under_way.append(message)
        if fate == "is wrong" and "method" in message:
            self.take_update(wrong(message), is_wrong=True)
        elif fate != "is lost":
            for _ in range(2 if fate == "comes twice" else 1):
                self.take(message)

    def take(self, message: Message) -> None:
        if "method" in message:
            self.take_update(message, is_wrong=False)
            return
        assert self.follower.take(message, self.now_ms) is PASS
        if message["id"] == self.request["id"]:
            self.quiet_until_ms = self.now_ms + RETRY_MS

    def take_update(self, message: Message, *, is_wrong: bool) -> None:
        told = message["params"][1]
        is_next = not is_wrong and (told["type"] == "snapshot" or told["previous_sequence"] == self.known)
        is_lost = self.known is not None and not is_next
        self.known = told["sequence"] if is_next else None
        self.noticed_count += is_lost
        step = self.follower.take(message, self.now_ms)
        assert step is (TAKEN if is_next else ASK if self.now_ms >= self.quiet_until_ms else PASS)
        assert self.follower.book.sequence == self.known
        if self.known is not None:
            assert (self.follower.book.asks, self.follower.book.bids) == self.server.books[self.known]
        if step is ASK:
            self.ask()

    def settle(self) -> None:
        """Nothing gets lost any more and there is time: in the end the client has the server's book."""
        for number in range(3):
            self.wait(UNANSWERED_MS)
            self.change([(False, PRICES[0], str(100 + number))])
            while self.server.requests or self.server.under_way:
                self.answer()
                self.receive("arrives")
        assert self.follower.book.sequence == self.server.number
        assert (self.follower.book.asks, self.follower.book.bids) == self.server.window()


Deed = tuple[Any, ...]  # the name of one of World's methods, its arguments


def play(follower: Follower, deeds: list[Deed]) -> World:
    world = World(follower)
    for name, *arguments in deeds:
        getattr(world, name)(*arguments)
    world.settle()
    return world


CHANGES = st.lists(st.tuples(st.booleans(), st.sampled_from(PRICES), st.sampled_from(AMOUNTS)), min_size=1, max_size=6)
CHANGE = st.tuples(st.just("change"), CHANGES)
RECEIVE = st.tuples(st.just("receive"), st.sampled_from(FATES))
WAIT = st.tuples(st.just("wait"), st.sampled_from([1, RETRY_MS, UNANSWERED_MS]))
REST = st.sampled_from([("answer",), ("overrun",), ("lose_request",)])


@settings(max_examples=300)
@given(st.lists(CHANGE | RECEIVE | WAIT | REST | st.just(("answer",)), max_size=60))
def test_the_client_ends_with_the_servers_book_and_notices_each_loss(deeds: list[Deed]) -> None:
    play(Follower(MARKET, LIMIT), deeds)


def long_story(seed: int) -> Iterator[Deed]:
    """A busy market, an answer now and then, one message in thirty spoilt."""
    random = Random(seed)
    for _ in range(3_000):
        for _ in range(random.choice([0, 1, 1, 2])):
            sides, amounts = random.choices([True, False], k=3), random.choices(AMOUNTS, k=3)
            yield "change", list(zip(sides, random.choices(PRICES, k=3), amounts, strict=True))
        yield "receive", random.choice(FATES) if random.random() < 0.06 else "arrives"
        yield "wait", random.randrange(200)
        if random.random() < 0.2:
            yield ("answer",)
        if random.random() < 0.01:
            yield (random.choice(["overrun", "lose_request"]),)


@pytest.mark.parametrize("seed", range(5))
def test_a_long_story_has_losses_to_notice(seed: int) -> None:
    follower = Follower(MARKET, LIMIT)
    world = play(follower, list(long_story(seed)))
    assert world.noticed_count >= 30
    assert follower.resync_count >= 30


class BlindBook(Book):
    """Takes every delta for the next one, and any checksum."""

    def apply(self, update: Message) -> None:
        try:
            super().apply(update | {"previous_sequence": self.sequence})
        except OutOfStep:
            self.sequence = update["sequence"]


class BlindToSequences(Book):
    def apply(self, update: Message) -> None:
        super().apply(update | {"previous_sequence": self.sequence})


class BlindToChecksums(Book):
    def apply(self, update: Message) -> None:
        known = self.sequence
        try:
            super().apply(update)
        except OutOfStep:
            if update["type"] == "snapshot" or update["previous_sequence"] == known:
                self.sequence = update["sequence"]
            else:
                raise


class Impatient(Follower):
    """Asks with each delta."""

    def take(self, message: Message, now_ms: int) -> Step:
        return super().take(message, now_ms + UNANSWERED_MS)


class Idle(Follower):
    """Never asks."""

    def take(self, message: Message, now_ms: int) -> Step:
        step = super().take(message, now_ms)
        return PASS if step is ASK else step


def with_book(book: Book) -> Follower:
    follower = Follower(MARKET, LIMIT)
    follower.book = book
    return follower


@pytest.mark.parametrize(
    "careless",
    [
        lambda: with_book(BlindBook()),
        lambda: with_book(BlindToSequences()),
        lambda: with_book(BlindToChecksums()),
        lambda: Impatient(MARKET, LIMIT),
        lambda: Idle(MARKET, LIMIT),
    ],
    ids=["blind", "blind to sequences", "blind to checksums", "impatient", "idle"],
)
def test_a_careless_client_is_found_out(careless: Callable[[], Follower]) -> None:
    with pytest.raises(AssertionError):
        play(careless(), list(long_story(0)))


# The loop -----------------------------------------------------------------------


class Gone(Exception):
    """The connection ends."""


class Connection:
    """Gives what the test has written down."""

    def __init__(self, *messages: Message) -> None:
        self.sent: list[Message] = []
        self._texts = [json.dumps(message) for message in messages]

    def send(self, text: str) -> None:
        self.sent.append(json.loads(text))

    def receive(self) -> str | bytes:
        if not self._texts:
            raise Gone
        text = self._texts.pop(0)
        return text.encode() if len(self._texts) % 2 else text


def request(request_id: int) -> Message:
    return {"id": request_id, "method": "book.subscribe", "params": [MARKET, 100]}


def followed(connection: Connection, follower: Follower, clock_ms: Callable[[], int]) -> list[int | None]:
    """The sequence of each book that comes before the end of the connection."""
    found = []
    with suppress(Gone):
        for book in follow(connection.send, connection.receive, follower, clock_ms):
            assert book is follower.book
            assert book.asks == [("7", str(book.sequence))]
            found.append(book.sequence)
    return found


def seconds() -> Callable[[], int]:
    """A clock that goes on by a second with each look."""
    return partial(next, count(1_000_000, 1_000))


def test_the_book_is_yielded_after_each_update() -> None:
    connection = Connection(reply(1), one(1), one(3, market="ETHUSD"), one(4, 1), {"method": "x", "params": []}, one(9))
    follower = Follower(MARKET, 100)
    assert followed(connection, follower, seconds()) == [1, 4, 9]
    assert connection.sent == [request(1)]
    assert follower.resync_count == 0


def test_out_of_step_it_subscribes_again_and_goes_on() -> None:
    connection = Connection(
        *(reply(1), one(1), one(3, 2), one(4, 3), reply(2), one(4), one(5, 4)),
        *(one(5, 4), one(6, 5), reply(3), one(6), one(8, 6)),
    )
    follower = Follower(MARKET, 100)
    assert followed(connection, follower, seconds()) == [1, 4, 5, 6, 8]
    assert connection.sent == [request(1), request(2), request(3)]
    assert follower.resync_count == 2


def test_on_the_next_connection_the_same_follower_begins_anew() -> None:
    follower = Follower(MARKET, 100)
    clock_ms = seconds()
    assert followed(Connection(reply(1), one(1), one(2, 1)), follower, clock_ms) == [1, 2]
    connection = Connection(one(3, 2), reply(2), one(7), one(8, 7))
    assert followed(connection, follower, clock_ms) == [7, 8]
    assert connection.sent == [request(2)]
    assert follower.resync_count == 0


@pytest.mark.parametrize("messages", [[refusal(1)], [reply(1), one(1), one(3, 2), refusal(2)]])
def test_a_refusal_is_told(messages: list[Message]) -> None:
    connection = Connection(*messages)
    with pytest.raises(Refused) as caught:
        list(follow(connection.send, connection.receive, Follower(MARKET, 100), seconds()))
    assert str(caught.value) == "book.subscribe of BTCUSD is refused: invalid argument (code 1)"
    assert caught.value.code == 1


def test_what_is_no_json_is_an_error() -> None:
    with pytest.raises(json.JSONDecodeError):
        next(follow(lambda _: None, lambda: "no json", Follower(MARKET, 100)))


def test_the_example_works_with_a_websocket() -> None:
    def talk(socket: ServerConnection) -> None:
        for text in socket:
            request_id = json.loads(text)["id"]
            first = 10 * request_id
            for message in (reply(request_id), one(first), one(first + 1, first), one(first + 5, first + 4)):
                socket.send(json.dumps(message))

    with serve(talk, "127.0.0.1", 0) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        follower = Follower(MARKET, limit=100)
        host, port = server.socket.getsockname()
        try:
            with connect(f"ws://{host}:{port}", open_timeout=WAIT_S, proxy=None) as socket:
                books = follow(socket.send, lambda: socket.recv(WAIT_S), follower, seconds())
                assert [book.sequence for book in islice(books, 4)] == [10, 11, 20, 21]
        finally:
            server.shutdown()
            thread.join()
    assert follower.resync_count == 1
