"""What tests of the gateways are made with: a catalog, and stand-ins for the matcher that keep what they are asked."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from bus import catalog
from bus.calls import Outcome
from bus.catalog import Catalog
from bus.codes import Code
from bus.messages import ASSET_VIEW, COMMAND, FRAME, LEVEL_VIEW, MARKET_VIEW, ORDER, RESULT, OrderType, QueryKind
from bus.methods import Method
from bus.text import halves
from engine.views import Answered
from gateways.commands import COMMAND_STRUCT, Encoded
from gateways.link import Delivered, Found, NotConnected, TimedOut

TIME = 1511401234.0
WIDES = ("deal_stock_units", "deal_money_units", "deal_fee_units")


def asset_views() -> Any:
    rows = np.zeros(3, ASSET_VIEW)
    rows["name"] = [b"BTC", b"BCH", b"SAT"]
    rows["prec_save"] = [12, 20, 6]
    rows["prec_show"] = [8, 8, 4]
    rows["rank"] = [1, 0, 2]
    return rows


def market_views() -> Any:
    rows = np.zeros(2, MARKET_VIEW)
    rows["name"] = [b"BTCBCH", b"SATBCH"]
    rows["stock"], rows["money"] = [0, 2], [1, 1]
    rows["stock_prec"], rows["money_prec"], rows["fee_prec"] = [8, 2], [8, 6], [4, 4]
    rows["min_units"], rows["min_prec"] = [1, 10], [3, 1]
    rows["rank"] = [1, 0]
    return rows


CATALOG: Catalog = catalog.make(asset_views(), market_views())
BTCBCH = CATALOG.market_by_name["BTCBCH"]


def order_record(**fields: Any) -> Any:
    """An ORDER that rests, with `fields` changed; WIDE ones are plain integers."""
    row = np.zeros(1, ORDER)
    source = fields.pop("source", b"web")
    resting = {"id": 1, "user_id": 7, "ctime": TIME, "mtime": TIME, "type": OrderType.LIMIT, "side": 1}
    for name, value in (resting | fields).items():
        row[0][name] = halves(value) if name in WIDES else value
    row[0]["source"][: len(source)] = list(source)
    row[0]["source_size"] = len(source)
    return row


@dataclass
class FakeLink:
    """Takes commands and answers each with a code and an order."""

    code: Code = Code.OK
    is_full: bool = False
    fails: type[NotConnected] | type[TimedOut] | None = None
    order: Any = field(default_factory=order_record)
    frames: list[list[Encoded]] = field(default_factory=list)
    outcome: Outcome = "[]"
    calls: list[tuple[str, list[Any]]] = field(default_factory=list)

    def ask(self, command: Encoded) -> Found:
        found = self.ask_all([command])[0]
        if not isinstance(found, tuple):
            raise found or TimedOut
        return found

    def ask_all(self, commands: Sequence[Encoded]) -> list[Delivered]:
        self.frames.append(list(commands))
        if self.fails is NotConnected:
            return [NotConnected] * len(commands)
        return [None if self.fails else self._result(command) for command in commands]

    def call(self, method: Method, params: list[Any]) -> Outcome:
        self.calls.append((method.name, params))
        if self.fails:
            raise self.fails
        return self.outcome

    def _result(self, command: Encoded) -> Found:
        result = np.zeros(1, RESULT)
        result["kind"], result["code"], result["order"] = command[0][0], self.code, self.order
        return bytes(FRAME.itemsize) + result.tobytes(), FRAME.itemsize

    @property
    def commands(self) -> Any:
        """All that came, as COMMAND records."""
        data = b"".join(COMMAND_STRUCT.pack(0, *fields) for frame in self.frames for fields, _ in frame)
        return np.frombuffer(data, COMMAND)


@dataclass
class FakeState:
    """Answers every query with what it was given for its kind, and keeps the query."""

    answers: dict[QueryKind, Answered] = field(default_factory=dict)
    asked: list[dict[str, int]] = field(default_factory=list)
    fails: type[NotConnected] | None = None

    def catalog(self) -> Catalog:
        if self.fails:
            raise self.fails
        return CATALOG

    def answer(self, kind: QueryKind, **asked: int) -> Answered:
        self.asked.append({"kind": kind, **asked})
        return self.answers.get(kind, Answered(np.zeros(0, LEVEL_VIEW), 0))
