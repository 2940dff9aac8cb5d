"""The commands of the admin port: words in, text out, in parts where it may be long. It owns no socket.

Everything is read from the matcher's shared memory and from what other processes write down, so that no question
costs the matcher anything, but for `makeslice`.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress

from bus import catalog, eventlog, positions
from bus.catalog import Catalog
from bus.messages import QueryKind
from conf.settings import Settings
from engine.reader import ANY_ASSET, Counters, NotReady, Reader, Torn
from gateways.admin import tables
from gateways.admin.tables import Status
from gateways.admin.words import user_number, words

HELP = b"balance\nmakeslice\nstatus\nmarket\n"  # the original's order, which comes of a hash
BALANCE_USAGE = b"usage: balance list/get/summary\n"
GET_USAGE = b"usage: balance get user_id\n"
MARKET_USAGE = b"usage market summary\n"
NOT_FOUND = b"command not found\n"
TORN = b"not all could be read, for the matcher has stopped in the middle of it or never pauses: try again\n"
RECORDER, COURIER = "recorder", "courier"  # as bus.positions names them

Parts = Iterator[bytes]


class Desk:
    """Answers the lines of all connections."""

    def __init__(self, settings: Settings, reader: Reader, ask_snapshot: Callable[[], None]) -> None:
        """`ask_snapshot` raises NotReady."""
        self._paths = settings.paths
        self._has_courier = bool(settings.kafka.brokers)
        self._reader = reader
        self._ask_snapshot = ask_snapshot
        self._commands: dict[bytes, Callable[[Sequence[bytes]], Parts]] = {
            b"help": lambda _: iter((HELP,)),
            b"status": self._status,
            b"balance": self._balance,
            b"market": self._market,
            b"makeslice": self._makeslice,
        }

    def answer(self, line: bytes) -> Parts:
        """The answer to a line, in parts that are to be sent as they come; none for a line without words.

        An empty part stands for a moment's pause: the matcher is writing what is to be read.
        """
        asked = words(line)
        if not asked:
            return
        command = self._commands.get(asked[0])
        if command is None:
            yield NOT_FOUND
            return
        try:
            yield from command(asked[1:])
        except (NotReady, OSError) as why:
            yield f"{why}\n".encode()
        except Torn:
            yield TORN

    def _status(self, _: Sequence[bytes]) -> Parts:
        counters = self._reader.counters()
        events = eventlog.Reader(self._paths.events_dir)
        durable_number = events.durable_number
        stored = positions.told(self._paths.positions_dir)
        yield tables.status(
            Status(
                order_id=counters.order_id,
                deal_id=counters.deal_id,
                operation_id=counters.sequence - counters.configure_count,
                operations_pending=_not_durable_count(events, durable_number, counters),
                history_pending=max(0, durable_number - stored.get(RECORDER, 0)),
                messages_pending=max(0, durable_number - stored.get(COURIER, 0)) if self._has_courier else 0,
            )
        )

    def _balance(self, asked: Sequence[bytes]) -> Parts:
        match asked:
            case [b"list", *which]:
                yield from self._balance_list(which)
            case [b"get", user]:
                user_id = user_number(user)
                listed = self._catalog()
                found = self._reader.answer(QueryKind.BALANCES, user_id=user_id)
                yield tables.BALANCE_HEAD + tables.held_by(user_id, found.records, listed)
            case [b"get", *_]:
                yield GET_USAGE
            case [b"summary", *_]:
                listed = self._catalog()
                yield tables.asset_sums(self._reader.answer(QueryKind.ASSETS).records, listed)
            case _:
                yield BALANCE_USAGE

    def _balance_list(self, which: Sequence[bytes]) -> Parts:
        """All entries, or those of one asset; of an asset that there is not, none."""
        listed = self._catalog()
        known = tables.names(listed)
        yield tables.BALANCE_HEAD
        number = ANY_ASSET
        if len(which) == 1:
            numbers = [asset.index for asset in listed.assets if asset.name.encode() == which[0]]
            if not numbers:
                return
            [number] = numbers
        for rows in self._reader.held(number):
            yield tables.held(rows, known)

    def _market(self, asked: Sequence[bytes]) -> Parts:
        if asked[:1] != [b"summary"]:
            yield MARKET_USAGE
            return
        listed = self._catalog()
        yield tables.market_sums(self._reader.answer(QueryKind.MARKETS).records, listed)

    def _makeslice(self, _: Sequence[bytes]) -> Parts:
        self._ask_snapshot()
        yield b"OK\n"

    def _catalog(self) -> Catalog:
        return catalog.make(
            self._reader.answer(QueryKind.ASSETS).records, self._reader.answer(QueryKind.MARKETS).records
        )


def _not_durable_count(events: eventlog.Reader, number: int, counters: Counters) -> int:
    """How many operations are not on disk yet, where `number` is the last event whose operation is."""
    if number >= counters.event_number:
        return 0
    with suppress(eventlog.Gone, StopIteration):
        return max(0, counters.sequence - int(next(events.frames(number - 1)).records[0]["sequence"]))
    return counters.event_number - number  # that event can't be had: each operation has one at least
