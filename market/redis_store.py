"""The store of market data in Redis, with ViaBTC's keys (CONTRACT 4.3), so that its readers go on as they are.

A flush is one script, which Redis runs as a whole, and carries our position in a key of its own, beside the
`k:offset` that others read. Redis forgets: a failover may lose the last flushes, and when a connection breaks, nobody
knows whether the script was run. So a flush does nothing unless the position is the one that the last flush left; else
it is StoreMoved, and what is in Redis counts.

What is too large for one script, `rebuild`, writes keys beside the others, and a script renames them.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from itertools import chain
from typing import Any, NamedTuple

import numpy as np
import orjson
from redis.exceptions import RedisError

from bus import jsontext
from bus.catalog import Catalog, Market
from bus.messages import Records
from bus.sentinels import Address, Connection, connect
from market.board import SIZES_S
from market.redis_forms import (
    OFFSET_KEY,
    BadText,
    candle_texts,
    candles_from,
    candles_key,
    deal_texts,
    deals_key,
    last_key,
    last_text,
    last_units_of,
    offset_of,
    ticks_from,
)
from market.rows import joined
from market.schema import DEALS_KEPT_COUNT, Resolution
from market.store import Loaded, Part, Position, StoreDown, StoreMoved, StoreWrong

POSITION_KEY = "k:tradepit:position"
NEW = "k:tradepit:new:"  # before the name of a key that is to be renamed
AT_ONCE = 1_000  # fields or elements of one command; Lua takes some thousand arguments
SCANNED_AT_ONCE = 5_000
EDIT_TRIES = 10  # the market process flushes meanwhile

Command = tuple[str, ...]

# KEYS: the position. ARGV: what it must be, "" for none; the commands as JSON. Gives their replies, or nothing.
_SCRIPT = """
if (redis.call('GET', KEYS[1]) or '') ~= ARGV[1] then return false end
local replies = {}
for place, command in ipairs(cjson.decode(ARGV[2])) do
    replies[place] = redis.call(unpack(command))
end
return replies
"""


class _State(NamedTuple):
    """What `POSITION_KEY` holds, as a JSON object; all zero when it is not there."""

    number: int = 0  # of the last event
    deal_id: int = 0  # of the last deal
    generation: int = 0  # how often `pit market` has changed what is kept


class _Found(NamedTuple):
    """The text of `POSITION_KEY`, and what it says."""

    text: bytes
    state: _State


class RedisStore:
    """An `Editable` store in a Redis that Sentinels know."""

    def __init__(self, address: str) -> None:
        self._address = Address.parse(address)
        self._connection: Connection | None = None
        self._left: _State | None = None  # as the last flush left it
        self._swept: dict[str, int] = {}  # before which start a key has no fields any more

    def load(self, catalog: Catalog, since: Mapping[Resolution, int]) -> Loaded:
        """Deals that another server has put into the lists are left out: their ids say nothing beside ours.

        A market without any key is no part: the first flush tells its price, which is "0" (CONTRACT 4.3).
        """
        with self._master() as master:
            found = self._find(master)
            known = [market for market in catalog.markets if master.exists(*_keys(market.name))]
            parts = tuple(self._part(master, market, since, found.state.deal_id) for market in known)
            if self._find(master) != found:
                raise StoreDown(f"{self._address} was changed while it was read: who else writes it?")
        self._left, self._swept = found.state, {}
        return Loaded(position=Position(number=found.state.number, deal_id=found.state.deal_id), parts=parts)

    def flush(self, parts: list[Part], position: Position) -> None:
        assert self._left is not None, "it is not loaded"
        with self._master() as master:
            found = self._find(master)
            if found.state != self._left:
                number = f"{found.state.number:,}"
                raise StoreMoved(f"{self._address} is at event {number}, which is not where the last flush left it")
            wanted = _State(position.number, position.deal_id, found.state.generation)
            if parts or wanted != found.state:
                commands = [command for part in parts for command in _writing(part)]
                if _run(master, found, [*commands, *_moving(wanted)]) is None:
                    raise StoreDown(f"{self._address} was changed this moment: who else writes it?")
        self._left = wanted

    def sweep(self, markets: list[Market], before: Mapping[Resolution, int]) -> None:
        with self._master() as master:
            for market in markets:
                for resolution, start in before.items():
                    key = candles_key(market.name, resolution)
                    for fields in _old_fields(master, key, SIZES_S.get(resolution), self._swept.get(key), start):
                        master.hdel(key, *fields)
                    self._swept[key] = start

    def fill(self, market: Market, resolution: Resolution, candles: Records, *, replace: bool) -> int:
        key, verb, count = candles_key(market.name, resolution), "HSET" if replace else "HSETNX", 0
        with self._master() as master:
            for start in range(0, len(candles), AT_ONCE):
                texts = candle_texts(market, candles[start : start + AT_ONCE])
                commands: list[Command] = [(verb, key, *pair) for pair in texts.items()]
                replies = self._edit(master, partial(list, commands))
                count += len(texts) if replace else sum(replies)
        return count

    def set_last(self, market: Market, last_units: int) -> bool:
        with self._master() as master:

            def setting() -> list[Command]:
                is_set = self._last_units(master, market)
                return [] if is_set else [("SET", last_key(market.name), last_text(market, last_units))]

            return bool(self._edit(master, setting))

    def rebuild(self, parts: Iterable[Part], position: Position) -> None:
        commands: list[Command] = []
        with self._master() as master:
            for part in parts:
                commands += _beside(master, part)
            self._edit(master, lambda: commands, position)

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    @contextmanager
    def _master(self) -> Iterator[Connection]:
        """The master, asked for anew after any trouble. Raises StoreDown, StoreWrong for what Redis says."""
        try:
            if self._connection is None:
                self._connection = connect(self._address)
            yield self._connection
        except BaseException as error:
            self.close()
            if not isinstance(error, RedisError):
                raise
            if "WRONGTYPE" in str(error):
                raise StoreWrong(f"{self._address}: a key k:MARKET:... is of another type: {error}") from error
            raise StoreDown(f"{self._address}: {error}") from error

    def _find(self, master: Connection) -> _Found:
        text = master.get(POSITION_KEY) or b""
        try:
            state = _State(**orjson.loads(text)) if text else _State()
        except (ValueError, TypeError):
            state = None
        if state is None or any(type(number) is not int for number in state):
            raise StoreWrong(f"{self._address}: {POSITION_KEY} is {text!r}; remove it, then `pit market rebuild`")
        return _Found(text, state)

    def _edit(
        self, master: Connection, make: Callable[[], list[Command]], position: Position | None = None
    ) -> list[Any]:
        """Run the commands that `make` gives, if any, so that the market process notices; return their replies."""
        for _ in range(EDIT_TRIES):
            found = self._find(master)
            if not (commands := make()):
                return []
            state = found.state._replace(generation=found.state.generation + 1)
            if position is not None:
                state = state._replace(number=position.number, deal_id=position.deal_id)
            if (replies := _run(master, found, [*commands, *_moving(state)])) is not None:
                return replies[: len(commands)]
        raise StoreDown(f"{self._address} changes all the time")

    def _part(self, master: Connection, market: Market, since: Mapping[Resolution, int], deal_id: int) -> Part:
        candles = {}
        for resolution in Resolution:
            with self._of(key := candles_key(market.name, resolution)):
                chunks = [candles_from(market, *chunk) for chunk in _scanned(master, key)]
                whole = joined(chunks)
                candles[resolution] = whole[np.searchsorted(whole["start"], since.get(resolution, 0)) :]
        with self._of(key := deals_key(market.name)):
            ticks = ticks_from(market, reversed(master.lrange(key, 0, DEALS_KEPT_COUNT - 1)))
        last_units = self._last_units(master, market)
        return Part(market=market, last_units=last_units, candles=candles, ticks=_ours(ticks, deal_id))

    def _last_units(self, master: Connection, market: Market) -> int:
        with self._of(key := last_key(market.name)):
            return last_units_of(market, master.get(key))

    @contextmanager
    def _of(self, key: str) -> Iterator[None]:
        """Raises StoreWrong when what a key holds can't be understood."""
        try:
            yield
        except BadText as error:
            raise StoreWrong(f"{self._address}: {key}: {error}") from error


def _run(master: Connection, found: _Found, commands: list[Command]) -> list[Any] | None:
    """Run all commands, if the position is still what was found, and return their replies; else None."""
    replies: list[Any] | None = master.eval(_SCRIPT, 1, POSITION_KEY, found.text, orjson.dumps(commands))
    return replies


def _moving(state: _State) -> list[Command]:
    """The commands that write the position, for us and for others."""
    own: Command = ("SET", POSITION_KEY, jsontext.dump(state._asdict()))
    return [("SET", OFFSET_KEY, str(offset_of(state.deal_id))), own] if state.deal_id else [own]


def _writing(part: Part, prefix: str = "") -> Iterator[Command]:
    """The commands that write a part, to keys with a prefix."""
    market = part.market
    for resolution, candles in part.candles.items():
        key = prefix + candles_key(market.name, resolution)
        for start in range(0, len(candles), AT_ONCE):
            yield "HSET", key, *chain.from_iterable(candle_texts(market, candles[start : start + AT_ONCE]).items())
    yield "SET", prefix + last_key(market.name), last_text(market, part.last_units)
    ticks = part.ticks[-DEALS_KEPT_COUNT:]
    key = prefix + deals_key(market.name)
    for start in range(0, len(ticks), AT_ONCE):
        yield "LPUSH", key, *deal_texts(market, ticks[start : start + AT_ONCE])
    if len(ticks):
        yield "LTRIM", key, "0", str(DEALS_KEPT_COUNT - 1)


def _keys(name: str) -> list[str]:
    """All keys of a market."""
    return [*(candles_key(name, resolution) for resolution in Resolution), deals_key(name), last_key(name)]


def _beside(master: Connection, part: Part) -> list[Command]:
    """Write a part under other names; return the commands that give it its own ones."""
    keys = _keys(part.market.name)
    master.unlink(*(NEW + key for key in keys))  # what an attempt that broke off has left
    written = set()
    for command in _writing(part, NEW):
        master.execute_command(*command)
        written.add(command[1])
    return [("RENAME", NEW + key, key) if NEW + key in written else ("UNLINK", key) for key in keys]


def _scanned(master: Connection, key: str) -> Iterator[tuple[list[bytes], list[bytes]]]:
    """All fields and values of a hash, some at a time, so that Redis answers others meanwhile."""
    cursor = 0
    while True:
        cursor, found = master.hscan(key, cursor, count=SCANNED_AT_ONCE)
        yield list(found), list(found.values())
        if not cursor:
            return


def _old_fields(
    master: Connection, key: str, size_s: int | None, swept: int | None, start: int
) -> Iterator[list[bytes] | list[int]]:
    """Fields of a hash of candles that may be there and start before `start`; `swept` as in the store."""
    if size_s is None or swept is None:
        for fields, _ in _scanned(master, key):
            if old := [field for field in fields if int(field) < start]:
                yield old
        return
    starts = range(-(-swept // size_s) * size_s, start, size_s)
    for place in range(0, len(starts), AT_ONCE):
        yield list(starts[place : place + AT_ONCE])


def _ours(ticks: Records, deal_id: int) -> Records:
    """The deals at the end whose ids ascend up to ours."""
    ids = ticks["deal_id"]
    is_foreign = ids > deal_id
    is_foreign[:-1] |= ids[:-1] >= ids[1:]
    return ticks[len(ticks) - int(np.argmax(is_foreign[::-1])) :] if is_foreign.any() else ticks
