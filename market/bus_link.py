"""The player's link over the bus: many commands a frame, several frames in flight, on one DEALER."""

import json
import time
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from bus.client import Client, NoAnswer, query
from bus.codes import ANSWERS, Code
from bus.messages import COMMAND, CommandKind, Frame, FrameKind, QueryKind, Records
from market.bitstamp import units
from market.links import MAKER_RATE, SOURCE, TAKER_RATE, LinkBroken, MarketView
from market.orderflow import Reply, Request

FRAME_COUNT_MAX = 100  # commands
WINDOW_COUNT = 8  # frames
_LOW_64 = (1 << 64) - 1
_TEXTS = {Code.OK: "", **{code: answer.text for code, answer in ANSWERS.items()}}


class _Sent(NamedTuple):
    requests: Sequence[Request]
    time_s: float


class BusLink:
    """A `Link` to the matcher's own sockets."""

    def __init__(self, address: str) -> None:
        self._client = Client(address)
        self._sent: dict[int, _Sent] = {}
        self._tag = 0
        self._market: MarketView | None = None
        self._in_flight_count = 0

    @property
    def in_flight_count(self) -> int:
        return self._in_flight_count

    def market(self, name: str) -> MarketView:
        assets = self._ask(QueryKind.ASSETS)
        names = [bytes(asset["name"]).decode() for asset in assets]
        for index, row in enumerate(self._ask(QueryKind.MARKETS)):
            if bytes(row["name"]).decode() == name:
                self._market = MarketView(
                    name=name,
                    index=index,
                    stock=names[row["stock"]],
                    money=names[row["money"]],
                    stock_prec=int(row["stock_prec"]),
                    money_prec=int(row["money_prec"]),
                    fee_prec=int(row["fee_prec"]),
                    shown_precs={asset: int(assets[i]["prec_show"]) for i, asset in enumerate(names)},
                    asset_indexes={asset: i for i, asset in enumerate(names)},
                )
                return self._market
        raise LinkBroken(f"the exchange has no market {name}")

    def room_count(self) -> int:
        return FRAME_COUNT_MAX if len(self._sent) < WINDOW_COUNT else 0

    def send(self, requests: Sequence[Request]) -> None:
        assert self._market is not None, "ask for the market first"
        self._tag += 1
        commands, blob = encode(requests, self._market)
        self._sent[self._tag] = _Sent(requests, time.perf_counter())
        self._in_flight_count += len(requests)
        self._client.send(commands, blob, tag=self._tag)

    def replies(self, wait_s: float) -> list[Reply]:
        replies: list[Reply] = []
        while (frame := self._receive(0 if replies else wait_s)) is not None:
            sent = self._sent.pop(frame.first, None)
            if sent is None or frame.kind != FrameKind.RESULTS or len(frame.records) != len(sent.requests):
                raise LinkBroken("the exchange answered with a frame that nobody asked for")
            replies += decode(sent.requests, frame.records, time.perf_counter() - sent.time_s)
            self._in_flight_count -= len(sent.requests)
        return replies

    def close(self) -> None:
        self._client.close()

    def _receive(self, wait_s: float) -> Frame | None:
        try:
            return self._client.receive(int(wait_s * 1000))
        except NoAnswer:
            return None

    def _ask(self, kind: int) -> Records:
        try:
            return self._client.ask(query(kind)).records
        except NoAnswer:
            raise LinkBroken("the exchange does not answer on its bus: is it running? (`pit status`)") from None


def encode(requests: Sequence[Request], market: MarketView) -> tuple[Records, bytes]:
    """COMMAND records of the requests, and the blob that they point into."""
    commands = np.zeros(len(requests), COMMAND)
    commands["kind"] = [request.kind for request in requests]
    commands["user_id"] = [request.user_id for request in requests]
    commands["market"] = market.index
    commands["side"] = [request.side for request in requests]
    commands["price_units"] = [request.price_units for request in requests]
    commands["amount_units"] = [request.amount_units for request in requests]
    commands["subject_id"] = [request.order_id or request.business_id for request in requests]
    puts = commands["kind"] == CommandKind.PUT_LIMIT
    commands["taker_rate_units"][puts] = units(TAKER_RATE, market.fee_prec)
    commands["maker_rate_units"][puts] = units(MAKER_RATE, market.fee_prec)
    text = np.zeros(COMMAND["text"].shape, np.uint8)
    text[: len(SOURCE)] = list(SOURCE.encode())
    commands["text"] = text
    commands["text_size"] = len(SOURCE)
    blob = bytearray()
    for place, request in enumerate(requests):
        if request.kind == CommandKind.UPDATE_BALANCE:
            detail = json.dumps({"id": request.business_id}).encode()
            commands[place]["asset"] = market.asset_indexes[request.asset]
            commands[place]["change_units"] = split(request.change_units)
            commands[place]["detail_offset"], commands[place]["detail_size"] = len(blob), len(detail)
            blob += detail
    return commands, bytes(blob)


def decode(requests: Sequence[Request], results: Records, latency_s: float) -> list[Reply]:
    """The replies that RESULT records tell."""
    orders = results["order"]
    has_traded: list[bool] = np.any(orders["deal_stock_units"], axis=1).tolist()
    is_open = (orders["left_units"] > 0) & (results["kind"] == CommandKind.PUT_LIMIT)
    rows = zip(requests, results["code"].tolist(), orders["id"].tolist(), is_open.tolist(), has_traded, strict=True)
    return [
        Reply(request, _TEXTS[code], order_id, is_open, request.kind == CommandKind.PUT_LIMIT and has_traded, latency_s)
        for request, code, order_id, is_open, has_traded in rows
    ]


def split(value: int) -> tuple[int, int]:
    """A whole number as the two halves of a WIDE."""
    low = value & _LOW_64
    return low - (1 << 64) if low >> 63 else low, value >> 64
