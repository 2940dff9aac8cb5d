"""Plays conversations of WebSocket clients, recorded from ViaBTC while orders are placed over HTTP, and compares.

Rows of a `ws-<seed>.jsonl`, in the order in which they happened: the assets and markets; then `{"http", "reply"}`,
`{"conn", "send"}`, `{"conn", "recv"}`, `{"conn", "closed"}`. Replies have to be the recorded bytes, wall-clock times
masked. Pushes come by polls and by Kafka, whose timing is nobody's promise, so what counts is what they add up to: a
`Session` folds the frames of a connection into values by channel, subscription and market (or asset), the same for the
recorded frames and for ours. The recording's sleeps are not slept: before each row that does something we wait until
every value is the recorded one.

Ours may be ahead: what the original's next poll pushed after a few more frames of the clients had been sent. So a value
agrees with the recorded ones from now until the next HTTP call, which alone changes anything. And a subscription that
was younger than a poll may have been told something, or not, of what was recorded without it.

At the top the rules of the channels, then `Session`, `Recording` and `differences`, which own no socket; I/O is below.
"""

import json
import re
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from itertools import pairwise, takewhile
from pathlib import Path
from typing import Any, NamedTuple

from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect
from websockets.typing import Subprotocol

from tests.golden.player import TIMEOUT_S, Server, masked

FRAME_S = 0.25  # passed after each recorded frame of a client
CALL_S = 1.3  # and after each HTTP call
POLL_S = 0.5  # between two polls of the original
PATIENCE_S = 60.0  # for what takes a moment on an idle machine
LOOK_S = 0.01
SILENCE_S = 0.5  # at the end, for what should not come
NAME_SIZE_MAX = 16  # a market or asset in a subscription is shorter
DEALS_MAX = 100  # in a push
KLINE_ROW_MAX = 2  # in a push
SHOWN_COUNT = 10
SHOWN_SIZE = 700
SUBPROTOCOL = Subprotocol("chat")
NOT_FOUND = '{"error": {"code": 4, "message": "method not found"}, "result": null, "id": %d}'
INVALID_ARGUMENT = 1

_STRING = re.compile(r'"(?:[^"\\]|\\.)*"')
_LOOSE = re.compile(r"[,:](?! \S)|(?<![,:])\s")

Row = dict[str, Any]


class Odd(Exception):
    """A frame that is wrong whatever was recorded."""


class Key(NamedTuple):
    """What a value is about."""

    connection: str
    channel: str
    subscription: int  # of the channel on the connection, from 0
    subject: str  # market, asset or ""


State = dict[Key, Any]
REPLIES, CLOSED = "replies", "closed"  # are channels too


def ensure(holds: bool, rule: str) -> None:
    """The rule of the contract that must hold."""
    if not holds:
        raise Odd(f"against the rule: {rule}")


class Channel:
    """A subscription and what it was told: immutable values by subject."""

    def __init__(self, params: list[Any]) -> None:
        self.values: dict[str, Any] = {}
        self.age_s = 0.0
        self._names = set(takewhile(is_name, params))

    def push(self, params: list[Any], text: str) -> None:
        """Take a notification: its params and their text."""
        raise NotImplementedError

    def _check_name(self, name: object) -> None:
        ensure(name in self._names, f"only of what was subscribed, {sorted(self._names)}")


def is_name(value: object) -> bool:
    return isinstance(value, str) and len(value) < NAME_SIZE_MAX


class Orders(Channel):
    """order.update: every push counts, in order (CONTRACT 5.7)."""

    def push(self, params: list[Any], text: str) -> None:
        event, order = params
        ensure(event in (1, 2, 3), "an event is 1 put, 2 update, 3 finish")
        self._check_name(order["market"])
        self.values[""] = (*self.values.get("", ()), masked(text))


class Assets(Channel):
    """asset.update: the balances one after the other, repeats collapsed (CONTRACT 5.7)."""

    def push(self, params: list[Any], text: str) -> None:
        (balances,) = params
        ensure(bool(balances), "there is an asset")
        for asset, balance in balances.items():
            self._check_name(asset)
            ensure(list(balance) == ["available", "freeze"], "a balance is available and freeze")
            values = self.values.get(asset, ())
            if values[-1:] != (shown := json.dumps(balance),):
                self.values[asset] = (*values, shown)


class Latest(Channel):
    """price.update, state.update, today.update: the last value, which each push changes (CONTRACT 5.4)."""

    def push(self, params: list[Any], text: str) -> None:
        market, _ = params
        self._check_name(market)
        ensure(self.values.get(market) != text, "pushed only on change")
        self.values[market] = text


class Deals(Channel):
    """deals.update: each deal once in a subscription, newest first in a push (CONTRACT 5.4)."""

    def __init__(self, params: list[Any]) -> None:
        super().__init__(params)
        self._texts: dict[str, dict[int, str]] = {}

    def push(self, params: list[Any], text: str) -> None:
        market, deals = params
        self._check_name(market)
        ids = [deal["id"] for deal in deals]
        texts = self._texts.setdefault(market, {})
        ensure(0 < len(ids) <= DEALS_MAX, f"1 to {DEALS_MAX} deals")
        ensure(all(newer > older for newer, older in pairwise(ids)), "newest first")
        ensure(texts.keys().isdisjoint(ids), "each deal once")
        texts.update((deal["id"], masked(json.dumps(deal))) for deal in deals)
        self.values[market] = tuple(texts[deal_id] for deal_id in sorted(texts))


class Depth(Channel):
    """depth.update: the book that clean pushes and differences make (CONTRACT 5.4, 5.5)."""

    def __init__(self, params: list[Any]) -> None:
        super().__init__(params)
        self._limit = int(params[1])
        self._books: dict[str, Side] = {}

    def push(self, params: list[Any], text: str) -> None:
        clean, sides, market = params
        self._check_name(market)
        names = list(sides)
        if clean is True:
            ensure(names == ["asks", "bids"], "a clean push has asks and bids")
            self._books = {name: Side(name == "bids", self._limit) for name in names}
        else:
            ensure(clean is False and bool(self._books), "clean is true or false, and true at first")
            ensure(names in (["asks"], ["bids"], ["asks", "bids"]), "a difference has the changed sides, asks first")
        for name, levels in sides.items():
            ensure(bool(levels) or clean, "a changed side has changed levels")
            self._books[name].change(levels, clean)
        value = tuple(self._books[name].levels() for name in ("asks", "bids"))
        ensure(self.values.get(market) != value, "pushed only on change")
        self.values[market] = value


class Side:
    """A side of a client's book: its best levels, as many as were subscribed."""

    def __init__(self, is_descending: bool, limit: int) -> None:
        self._is_descending = is_descending
        self._limit = limit
        self._levels: dict[Decimal, tuple[str, str]] = {}

    def levels(self) -> tuple[tuple[str, str], ...]:
        """Price and amount of each level, the best first."""
        return tuple(self._levels[price] for price in self._sorted(self._levels))

    def change(self, levels: list[list[str]], clean: bool) -> None:
        """Put, change or, with amount "0", remove levels; keep the best."""
        prices = [decimal(price) for price, _ in levels]
        ensure(prices == self._sorted(set(prices)), "levels are in the order of the book, each once")
        ensure(len(levels) <= self._limit or not clean, "no more levels than the limit")
        for price, level in zip(prices, levels, strict=True):
            before = self._levels.pop(price, None)
            if level[1] == "0":
                ensure(before is not None, "a removed level was there")
                continue
            ensure(decimal(level[1]) > 0, 'an amount is positive, or "0"')
            ensure(before is None or before[1] != level[1], "a changed level has another amount")
            self._levels[price] = (level[0], level[1])
        for price in self._sorted(self._levels)[self._limit :]:
            del self._levels[price]

    def _sorted(self, prices: Iterable[Decimal]) -> list[Decimal]:
        return sorted(prices, reverse=self._is_descending)


class Kline(Channel):
    """kline.update: what the rows add up to. Where the buckets begin depends on the day (CONTRACT 5.4).

    A bucket's last row counts. Wherever the deals are cut into buckets these stay: the open of the first bucket that
    has a deal, the last close, the highest and lowest price, the sums of volume and deal.
    """

    def __init__(self, params: list[Any]) -> None:
        super().__init__(params)
        self._rows: dict[int, list[Any]] = {}
        self._last: list[Any] = []

    def push(self, params: list[Any], text: str) -> None:
        ensure(0 < len(params) <= KLINE_ROW_MAX, f"1 to {KLINE_ROW_MAX} rows")
        ensure(all(before[0] < after[0] for before, after in pairwise(params)), "rows in order of time")
        ensure(params[-1] != self._last, "pushed only when the last row changes")
        for start, *texts, market in params:
            self._check_name(market)
            ensure(type(start) is int and len(texts) == 6, "a row is a time, six texts and the market")
            self._rows[start] = [decimal(text) for text in texts]
        self._last = params[-1]
        self.values[self._last[-1]] = self._sums()

    def _sums(self) -> tuple[Decimal, ...]:
        rows = [self._rows[start] for start in sorted(self._rows)]
        traded = [row for row in rows if row[4]] or rows
        opens, _, highs, lows, volumes, money = zip(*traded, strict=True)
        return (opens[0], rows[-1][1], max(highs), min(lows), sum(volumes), sum(money))


def decimal(text: str) -> Decimal:
    ensure(isinstance(text, str), "decimals are texts")
    return Decimal(text)


CHANNELS: dict[str, type[Channel]] = {
    "order": Orders,
    "asset": Assets,
    "price": Latest,
    "state": Latest,
    "today": Latest,
    "deals": Deals,
    "depth": Depth,
    "kline": Kline,
}
SINGLE = ("depth", "kline")  # have one subscription with arguments, the others have sets of names


class Call(NamedTuple):
    """A proper request."""

    id: int
    method: str
    params: list[Any]


def call_of(text: str) -> Call | None:
    """The request that a frame holds; None when the connection is closed for it (CONTRACT 5.2)."""
    try:
        document = json.loads(text)
        call = Call(document["id"], document["method"], document["params"])
    except (ValueError, KeyError, TypeError):
        return None
    is_proper = type(call.id) is int and isinstance(call.method, str) and isinstance(call.params, list)
    return call if is_proper else None


class Session:
    """A connection as its client sees it: what was sent and received, folded."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.odd: list[str] = []
        self.is_closed = False  # by the server
        self._replies: tuple[str, ...] = ()
        self._calls: list[Call] = []
        self._channels: dict[str, list[Channel]] = {}
        self._current: dict[str, Channel] = {}

    def send(self, text: str) -> None:
        """Take what the client sends."""
        if (call := call_of(text)) is not None:
            self._calls.append(call)

    def receive(self, text: str | bytes) -> None:
        """Take a frame of the server."""
        try:
            self._receive(text)
        except Odd as trouble:
            self.odd.append(f"{self.name}: {trouble}\n  {text!s:.{SHOWN_SIZE}}")
        except (TypeError, ValueError, LookupError, AttributeError, InvalidOperation) as trouble:
            self.odd.append(f"{self.name}: misshapen ({trouble!r})\n  {text!s:.{SHOWN_SIZE}}")

    def grow(self, seconds: float) -> None:
        """Make the subscriptions older."""
        for channel in self._current.values():
            channel.age_s += seconds

    def state(self) -> State:
        """All values so far."""
        state: State = {}
        if self._replies:
            state[Key(self.name, REPLIES, 0, "")] = self._replies
        if self.is_closed:
            state[Key(self.name, CLOSED, 0, "")] = True
        for kind, channels in self._channels.items():
            for number, channel in enumerate(channels):
                for subject, value in channel.values.items():
                    state[Key(self.name, kind, number, subject)] = value
        return state

    def young(self) -> set[Key]:
        """The subscriptions that no poll may have seen, each with subject ""."""
        return {
            Key(self.name, kind, number, "")
            for kind, channels in self._channels.items()
            for number, channel in enumerate(channels)
            if channel.age_s <= POLL_S
        }

    def _receive(self, text: str | bytes) -> None:
        ensure(isinstance(text, str), "frames are text")
        assert isinstance(text, str)
        document = json.loads(text)
        if document["id"] is None:
            self._notify(document, text)
            return
        self._replies = (*self._replies, masked(text))
        for call in [call for call in self._calls if call.id == document["id"]][:1]:
            self._calls.remove(call)
            self._answer(call, document["error"])

    def _answer(self, call: Call, error: Any) -> None:
        """Begin or end a subscription. Of a set with a bad name the names before it are subscribed (CONTRACT 5.3)."""
        kind, _, verb = call.method.partition(".")
        if kind not in CHANNELS:
            return
        is_begun = error is None or (kind not in SINGLE and error["code"] == INVALID_ARGUMENT)
        if verb == "subscribe" and is_begun:
            self._current[kind] = CHANNELS[kind](call.params)
            self._channels.setdefault(kind, []).append(self._current[kind])
        if verb == "unsubscribe" and error is None:
            self._current.pop(kind, None)

    def _notify(self, document: dict[str, Any], text: str) -> None:
        head, tail = f'{{"method": "{document["method"]}", "params": ', ', "id": null}'
        is_enveloped = text.startswith(head) and text.endswith(tail) and list(document) == ["method", "params", "id"]
        ensure(is_enveloped, "a notification is method, params, id")
        ensure(_LOOSE.search(_STRING.sub('""', text)) is None, 'separators are ", " and ": "')
        kind, _, verb = document["method"].partition(".")
        ensure(verb == "update" and kind in self._current, "only of a channel that is subscribed")
        self._current[kind].push(document["params"], text.removeprefix(head).removesuffix(tail))


@dataclass(frozen=True)
class Moment:
    """What the recording has come to before a row."""

    state: State
    young: set[Key]


class Recording:
    """The rows of a recording, and the moments before each and at the end."""

    def __init__(self, rows: list[Row]) -> None:
        self.rows = rows
        self.moments: list[Moment] = []
        self._unanswered = unanswered(rows)
        sessions: dict[str, Session] = {}
        passed_s = 0.0
        for index, row in enumerate(rows):
            if is_act(row):
                age(sessions, passed_s)
                passed_s = CALL_S if "http" in row else FRAME_S
            self.moments.append(moment(sessions))
            if "conn" in row:
                self._tell(sessions.setdefault(row["conn"], Session(row["conn"])), index)
        age(sessions, passed_s)
        self.moments.append(moment(sessions))
        self.odd = [odd for session in sessions.values() for odd in session.odd]

    def window(self, index: int) -> list[State]:
        """The states that ours may be in before a row: of that moment, or of a later one until the next HTTP call."""
        later = (number for number in range(index, len(self.rows)) if "http" in self.rows[number])
        last = next(later, len(self.rows))
        return [moment.state for moment in self.moments[index : last + 1]]

    def own_reply(self, index: int) -> str | None:
        """What we answer to a row where the original is silent: an unknown method (CONTRACT 5.2)."""
        call = call_of(self.rows[index]["send"])
        return NOT_FOUND % call.id if index in self._unanswered and call is not None else None

    def _tell(self, session: Session, index: int) -> None:
        row = self.rows[index]
        if "recv" in row:
            session.receive(row["recv"])
        if "send" in row:
            session.send(row["send"])
            session.is_closed = session.is_closed or call_of(row["send"]) is None
            if (reply := self.own_reply(index)) is not None:
                session.receive(reply)


def load(path: Path) -> Recording:
    """The recording in a file."""
    with path.open(encoding="utf-8") as file:
        return Recording(list(map(json.loads, file))[1:])


def is_act(row: Row) -> bool:
    """Whether we do something, rather than receive."""
    return "recv" not in row


def unanswered(rows: list[Row]) -> set[int]:
    """Of the rows that send: those without a recorded reply."""
    waiting: dict[tuple[str, int], list[int]] = {}
    for index, row in enumerate(rows):
        if "send" in row and (call := call_of(row["send"])) is not None:
            waiting.setdefault((row["conn"], call.id), []).append(index)
        if "recv" in row and (places := waiting.get((row["conn"], json.loads(row["recv"])["id"]))):
            places.pop(0)
    return {index for places in waiting.values() for index in places}


def age(sessions: dict[str, Session], seconds: float) -> None:
    for session in sessions.values():
        session.grow(seconds)


def moment(sessions: dict[str, Session]) -> Moment:
    """What some sessions have come to."""
    return Moment(
        {key: value for session in sessions.values() for key, value in session.state().items()},
        {key for session in sessions.values() for key in session.young()},
    )


class Difference(NamedTuple):
    """A value that is not the recorded one."""

    key: Key
    wanted: Any
    got: Any
    is_final: bool  # nothing that comes can put it right

    def __str__(self) -> str:
        connection, channel, subscription, subject = self.key
        title = f"{connection}, {channel}"
        if channel in CHANNELS:
            title += f" {subject} (subscription {subscription})".replace("  ", " ")
        if not (isinstance(self.wanted, tuple) and isinstance(self.got, tuple)):
            return f"{title}\n  want {self.wanted!s:.{SHOWN_SIZE}}\n  got  {self.got!s:.{SHOWN_SIZE}}"
        place = common_count(self.wanted, self.got)
        wanted, got = (", ".join(map(str, values[place : place + 2])) for values in (self.wanted, self.got))
        counts = f"{len(self.wanted)} wanted, {len(self.got)} are there, the first {place} agree, then"
        return f"{title}: {counts}\n  want {wanted:.{SHOWN_SIZE}}\n  got  {got:.{SHOWN_SIZE}}"


def differences(got: State, window: Sequence[State], young: set[Key]) -> list[Difference]:
    """The values that agree with the recorded ones neither of now nor of later in the window."""
    now = window[0]
    found = []
    for key in sorted(got.keys() | now.keys()):
        may_be_early = key not in now and key._replace(subject="") in young
        if may_be_early or any(agree(key.channel, got.get(key), state.get(key)) for state in window):
            continue
        found.append(Difference(key, now.get(key), got.get(key), is_hopeless(key, got, window[-1])))
    return found


def agree(channel: str, got: Any, wanted: Any) -> bool:
    """Whether two values of a channel say the same. Balances may be coalesced: the last counts, the others are some."""
    if channel != "asset" or got is None or wanted is None:
        return bool(got == wanted)
    return bool(got[-1] == wanted[-1]) and is_subsequence(got, wanted)


def is_subsequence(some: Sequence[str], all_of_them: Iterable[str]) -> bool:
    rest = iter(all_of_them)
    return all(value in rest for value in some)


def is_hopeless(key: Key, got: State, last: State) -> bool:
    """Whether a list that only grows has taken a wrong turn, or a connection was closed that should not be."""
    if key.channel == CLOSED:
        return key not in last
    if key.channel not in (REPLIES, "order"):
        return False
    have, want = got.get(key, ()), last.get(key, ())
    return common_count(have, want) < min(len(have), len(want))


def common_count(left: Sequence[Any], right: Sequence[Any]) -> int:
    """How long the common beginning is."""
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(left, right, strict=False)))


def told(odd: Sequence[str], different: Sequence[Difference]) -> str:
    return "\n".join([*odd, *map(str, different)][:SHOWN_COUNT])


class Connection:
    """A WebSocket whose frames a thread collects."""

    def __init__(self, socket: ClientConnection) -> None:
        assert socket.subprotocol == SUBPROTOCOL, f"the subprotocol is {socket.subprotocol}"
        self.is_closed = False
        self._socket = socket
        self._frames: list[str | bytes] = []
        self._taken_count = 0
        self._thread = threading.Thread(target=self._collect, daemon=True)
        self._thread.start()

    def send(self, text: str) -> None:
        self._socket.send(text)

    def take(self) -> list[str | bytes]:
        """The frames that have come since the last time."""
        frames = self._frames[self._taken_count :]
        self._taken_count += len(frames)
        return frames

    def close(self) -> None:
        self._socket.close()
        self._thread.join(TIMEOUT_S)

    def _collect(self) -> None:
        try:
            for frame in self._socket:
                self._frames.append(frame)
        except ConnectionClosed:
            pass  # without a word: the original never says more
        finally:
            self.is_closed = True


class Player:
    """Plays a recording to a fresh exchange; what differs from it raises AssertionError.

    `catch_up` is called before a question about history or market data, and returns when these have caught up.
    """

    def __init__(self, recording: Recording, http: str, ws: str, catch_up: Callable[[], object]) -> None:
        host, _, port = http.rpartition(":")
        self._recording = recording
        self._server = Server(host, int(port))
        self._uri = f"ws://{ws}/"
        self._catch_up = catch_up
        self._sessions: dict[str, Session] = {}
        self._connections: dict[str, Connection] = {}  # those that we have not closed
        self._stack = ExitStack()

    def play(self) -> None:
        """Play all rows."""
        rows = self._recording.rows
        with self._stack:
            self._stack.callback(self._server.close)
            for index, row in enumerate(rows):
                if is_act(row):
                    self._settle(index)
                    self._act(row)
            self._settle(len(rows))
            time.sleep(SILENCE_S)
            self._check(len(rows))

    def _act(self, row: Row) -> None:
        if "http" in row:
            answer = self._server.post(row["http"])
            wanted = masked(row["reply"])
            assert answer.text == wanted, f"step {row['step']}: {row['http']}\n  want {wanted}\n  got  {answer.text}"
        elif "send" in row:
            self._send(row["conn"], row["send"])
        elif (connection := self._connections.pop(row["conn"], None)) is not None:
            connection.close()
            self._receive(row["conn"], connection)

    def _send(self, name: str, text: str) -> None:
        call = call_of(text)
        if call is not None and call.method.endswith((".query", ".history")):
            self._catch_up()
        if name not in self._sessions:
            self._sessions[name] = Session(name)
            self._connections[name] = self._connect()
        self._sessions[name].send(text)
        self._connections[name].send(text)

    def _connect(self) -> Connection:
        options: dict[str, Any] = {"compression": None, "proxy": None, "ping_interval": None}
        return Connection(self._stack.enter_context(connect(self._uri, subprotocols=[SUBPROTOCOL], **options)))

    def _receive(self, name: str, connection: Connection) -> None:
        for frame in connection.take():
            self._sessions[name].receive(frame)

    def _differ(self, index: int) -> list[Difference]:
        """Take what has come and compare it with the moment before a row."""
        for name, connection in self._connections.items():
            self._sessions[name].is_closed = connection.is_closed  # asked first: then all its frames are there
            self._receive(name, connection)
        state = moment(self._sessions).state
        return differences(state, self._recording.window(index), self._recording.moments[index].young)

    def _settle(self, index: int) -> None:
        """Wait until ours has come to what the recording has come to before a row."""
        deadline = time.monotonic() + PATIENCE_S
        while different := self._differ(index):
            is_over = time.monotonic() > deadline or self._odd() or any(part.is_final for part in different)
            assert not is_over, self._told(index, different)
            time.sleep(LOOK_S)
        assert not self._odd(), self._told(index, [])

    def _check(self, index: int) -> None:
        different = self._differ(index)
        assert not different, self._told(index, different)
        assert not self._odd(), self._told(index, [])

    def _odd(self) -> list[str]:
        return [odd for session in self._sessions.values() for odd in session.odd]

    def _told(self, index: int, different: list[Difference]) -> str:
        done = next((row for row in reversed(self._recording.rows[:index]) if is_act(row)), {})
        text = done.get("http") or f"{done.get('conn')} {done.get('send', 'closed')}"
        return f"after step {done.get('step')}, {text}:\n{told(self._odd(), different)}"
