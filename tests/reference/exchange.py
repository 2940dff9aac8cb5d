"""A naive exchange, to be obviously right: CONTRACT 2, 0.4, 10.3 and 11 in decimals, dictionaries and sorted lists.

It takes the commands that the engine takes and says what the engine has to say. It has no capacity, so it never
answers SERVICE_UNAVAILABLE; it has no speed either: every sum is made anew from what it sums.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import TypeVar

from bus.codes import Code
from bus.messages import CommandKind, EventKind, OrderType, Side
from conf.markets import Asset, Listing, Market
from tests.reference.answers import Answers, UpdateKey
from tests.reference.book import NO_ORDER, Book, Order
from tests.reference.checks import check_arguments, save_places, total_max
from tests.reference.exact import ZERO, exactly, from_units, to_units
from tests.reference.ledger import Key
from tests.reference.records import TEXT_FIELD_SIZE, Command, Record, opposite

UPDATE_KEPT_S = 86_400
Item = TypeVar("Item", Asset, Market)


@dataclass
class Applied:
    """What became of a batch of commands."""

    results: list[Record] = field(default_factory=list)
    events: list[Record] = field(default_factory=list)


class Twin(Answers):
    """The exchange. Markets and assets are known by their index, the order in which they were first listed."""

    def __init__(self, listing: Listing) -> None:
        super().__init__(listing)
        self._events: list[Record] = []

    # Commands

    @exactly
    def apply(self, commands: Sequence[Command], now: float, blob_size: int = 0) -> Applied:
        """Do one batch of commands, all at the same time, which never goes backwards."""
        self.blob_size = blob_size
        self.time = max(self.time, now)
        self._events = []
        results = [self._apply_one(command) for command in commands]
        return Applied(results, self._events)

    def configure(self, listing: Listing) -> None:
        """Add assets and markets, or change minimal amounts."""
        self.assets = in_order_of_listing(self.assets, listing.assets)
        self.markets = in_order_of_listing(self.markets, listing.markets)
        self.books.extend(Book() for _ in self.markets[len(self.books) :])
        self.listing = listing
        self.sequence += 1

    @exactly
    def check(self, command: Command) -> Code:
        """Whether `command` would be done, or the first reason why not; nothing is changed."""
        if not check_arguments(self, command):
            return Code.INVALID_ARGUMENT
        return {
            CommandKind.PUT_LIMIT: self._check_limit,
            CommandKind.PUT_MARKET: self._check_market,
            CommandKind.CANCEL: self._check_cancel,
            CommandKind.UPDATE_BALANCE: self._check_update,
        }[CommandKind(command.kind)](command)

    def _apply_one(self, command: Command) -> Record:
        code = self.check(command)
        order = NO_ORDER
        if code == Code.OK:
            self.sequence += 1
            order = {
                CommandKind.PUT_LIMIT: self._put_limit,
                CommandKind.PUT_MARKET: self._put_market,
                CommandKind.CANCEL: self._cancel,
                CommandKind.UPDATE_BALANCE: self._update_balance,
            }[CommandKind(command.kind)](command)
        return {
            "request_id": command.request_id,
            "sequence": self.sequence if code == Code.OK else 0,
            "event_number": self.event_number if code == Code.OK else 0,
            "code": int(code),
            "kind": command.kind,
            "order": order,
        }

    # Limit orders (CONTRACT 2.3, 2.6)

    def _check_limit(self, command: Command) -> Code:
        market = self.markets[command.market]
        amount = from_units(command.amount_units, market.stock_prec)
        price = from_units(command.price_units, market.money_prec)
        needed = amount if command.side == Side.ASK else amount * price
        if self._available(command, command.side) < needed:
            return Code.ORDER_BALANCE_NOT_ENOUGH
        if amount < Decimal(market.min_amount):
            return Code.AMOUNT_TOO_SMALL
        return Code.OK

    def _put_limit(self, command: Command) -> Record:
        market, book = self.markets[command.market], self.books[command.market]
        taker = self._new_order(command, OrderType.LIMIT)
        while taker.left > 0 and (maker := self._best(taker)) and crosses(taker, maker):
            self._deal(taker, maker, min(taker.left, maker.left))
        if taker.left == 0:
            self._order_event(EventKind.ORDER_FINISH, taker)
        else:
            self._order_event(EventKind.ORDER_PUT, taker)
            taker.frozen = taker.left if taker.side == Side.ASK else taker.price * taker.left
            self.ledger.move(self.ledger.available, self.ledger.freeze, self._pays(taker), taker.frozen)
            book.add(taker)
        return taker.record(market)

    # Market orders (CONTRACT 2.3, 2.6)

    def _check_market(self, command: Command) -> Code:
        market = self.markets[command.market]
        makers = self.books[command.market].side(opposite(command.side))
        amount = from_units(command.amount_units, market.stock_prec)
        if self._available(command, command.side) < amount:
            return Code.ORDER_BALANCE_NOT_ENOUGH
        if not makers:
            return Code.NO_ENOUGH_TRADER
        least = Decimal(market.min_amount)
        if amount < (least if command.side == Side.ASK else makers[0].price * least):
            return Code.AMOUNT_TOO_SMALL
        return Code.OK

    def _put_market(self, command: Command) -> Record:
        market = self.markets[command.market]
        taker = self._new_order(command, OrderType.MARKET)
        while taker.left > 0 and (maker := self._best(taker)):
            wanted = truncate_quotient(taker.left, maker.price, market) if taker.is_market_buy else taker.left
            if wanted == 0:
                break
            self._deal(taker, maker, min(wanted, maker.left))
        self._order_event(EventKind.ORDER_FINISH, taker)
        return taker.record(market)

    # Cancels (CONTRACT 2.3, 2.6)

    def _check_cancel(self, command: Command) -> Code:
        order = self.books[command.market].find(command.subject_id)
        if order is None:
            return Code.ORDER_NOT_FOUND
        if order.user_id != command.user_id:
            return Code.USER_NOT_MATCH
        return Code.OK

    def _cancel(self, command: Command) -> Record:
        order = self.books[command.market].find(command.subject_id)
        assert order is not None
        self._order_event(EventKind.ORDER_FINISH, order)
        self._finish(order)
        return order.record(self.markets[command.market])

    # Balance updates (CONTRACT 2.3)

    def _check_update(self, command: Command) -> Code:
        done_at = self.updates.get(update_key(command))
        if done_at is not None and self.time - done_at < UPDATE_KEPT_S:
            return Code.REPEAT_UPDATE
        change = from_units(command.change_units, self.assets[command.asset].prec_show)
        if self.ledger.available.get((command.user_id, command.asset), ZERO) < -change:
            return Code.UPDATE_BALANCE_NOT_ENOUGH
        if self.ledger.total_of_all(command.asset) + change > total_max(self, command.asset):
            return Code.INVALID_ARGUMENT
        return Code.OK

    def _update_balance(self, command: Command) -> Record:
        key = (command.user_id, command.asset)
        change = from_units(command.change_units, self.assets[command.asset].prec_show)
        if change > 0:  # adding nothing leaves an entry of zero, or none, what it is
            self.ledger.add(self.ledger.available, key, change)
        elif change < 0:
            self.ledger.subtract(self.ledger.available, key, -change)
        self.updates[update_key(command)] = self.time
        self._event(EventKind.BALANCE_UPDATE).update(
            user_id=command.user_id,
            business_id=command.subject_id,
            change_units=command.change_units,
            total_units=self._total_units(key),
            asset=command.asset,
            business_size=command.text_size,
            detail_offset=command.detail_offset,
            detail_size=command.detail_size,
            business=command.content.ljust(TEXT_FIELD_SIZE, b"\0"),
        )
        return NO_ORDER

    # One deal, in the order of CONTRACT 2.7

    def _deal(self, taker: Order, maker: Order, amount: Decimal) -> None:
        taker.mtime = maker.mtime = self.time
        self.deal_id += 1
        market = self.markets[taker.market]
        ask, bid = (taker, maker) if taker.side == Side.ASK else (maker, taker)
        event = self._event(EventKind.DEAL, taker.market, taker.side)
        event.update(
            deal_id=self.deal_id,
            ask_order_id=ask.id,
            bid_order_id=bid.id,
            ask_user_id=ask.user_id,
            bid_user_id=bid.user_id,
            price_units=to_units(maker.price, market.money_prec),
            amount_units=to_units(amount, market.stock_prec),
            ask_rate_units=to_units(rate(ask, taker), market.fee_prec),
            bid_rate_units=to_units(rate(bid, taker), market.fee_prec),
        )
        for order in (taker, maker):
            self._settle(order, maker.price, amount, rate(order, taker))
            event.update(self._totals(order))
        if maker.left == 0:
            self._order_event(EventKind.ORDER_FINISH, maker)
            self._finish(maker)
        else:
            self._order_event(EventKind.ORDER_UPDATE, maker)

    def _settle(self, order: Order, price: Decimal, amount: Decimal, fee_rate: Decimal) -> None:
        """One side's part of a deal: its order's sums and its owner's balances (CONTRACT 2.5, 2.7 steps 4 to 7)."""
        money = price * amount
        paid, received = (amount, money) if order.side == Side.ASK else (money, amount)
        fee = received * fee_rate
        order.left -= money if order.is_market_buy else amount
        order.deal_stock += amount
        order.deal_money += money
        order.deal_fee += fee
        if order.frozen > 0:
            order.frozen -= paid
            self.ledger.subtract(self.ledger.freeze, self._pays(order), paid)
        else:
            self.ledger.subtract(self.ledger.available, self._pays(order), paid)
        self.ledger.add(self.ledger.available, self._receives(order), received)
        if fee > 0:
            self.ledger.subtract(self.ledger.available, self._receives(order), fee)

    def _finish(self, order: Order) -> None:
        """Take a resting order out of its book and give back what is still frozen for it."""
        self.books[order.market].remove(order)
        if order.frozen > 0:
            self.ledger.move(self.ledger.freeze, self.ledger.available, self._pays(order), order.frozen)

    # Smaller pieces

    def _new_order(self, command: Command, order_type: int) -> Order:
        market = self.markets[command.market]
        is_limit = order_type == OrderType.LIMIT
        amount = from_units(command.amount_units, market.stock_prec)
        self.order_id += 1
        return Order(
            id=self.order_id,
            user_id=command.user_id,
            market=command.market,
            type=order_type,
            side=command.side,
            ctime=self.time,
            mtime=self.time,
            price=from_units(command.price_units, market.money_prec) if is_limit else ZERO,
            amount=amount,
            taker_rate=from_units(command.taker_rate_units, market.fee_prec),
            maker_rate=from_units(command.maker_rate_units, market.fee_prec) if is_limit else ZERO,
            source=command.content,
            left=amount,
        )

    def _best(self, taker: Order) -> Order | None:
        makers = self.books[taker.market].side(opposite(taker.side))
        return makers[0] if makers else None

    def _available(self, command: Command, side: int) -> Decimal:
        stock, money = self.stock_and_money(command.market)
        return self.ledger.available.get((command.user_id, stock if side == Side.ASK else money), ZERO)

    def _pays(self, order: Order) -> Key:
        stock, money = self.stock_and_money(order.market)
        return order.user_id, stock if order.side == Side.ASK else money

    def _receives(self, order: Order) -> Key:
        stock, money = self.stock_and_money(order.market)
        return order.user_id, money if order.side == Side.ASK else stock

    def _totals(self, order: Order) -> Record:
        stock, money = self.stock_and_money(order.market)
        side = "ask" if order.side == Side.ASK else "bid"
        return {
            f"{side}_stock_total_units": self._total_units((order.user_id, stock)),
            f"{side}_money_total_units": self._total_units((order.user_id, money)),
        }

    def _total_units(self, key: Key) -> int:
        return to_units(self.ledger.total(key), save_places(self, key[1]))

    def _event(self, kind: int, market: int = 0, taker_side: int = 0) -> Record:
        self.event_number += 1
        event: Record = {
            "number": self.event_number,
            "sequence": self.sequence,
            "time": self.time,
            "kind": kind,
            "taker_side": taker_side,
            "market": market,
        }
        self._events.append(event)
        return event

    def _order_event(self, kind: int, order: Order) -> None:
        self._event(kind, order.market)["order"] = order.record(self.markets[order.market])


def in_order_of_listing(known: list[Item], listed: Sequence[Item]) -> list[Item]:
    """What was known keeps its place, in its new form; what is new comes after it."""
    by_name = {item.name: item for item in listed}
    return [by_name.pop(item.name) for item in known] + list(by_name.values())


def crosses(taker: Order, maker: Order) -> bool:
    """Whether a limit order trades with the best of the other side."""
    return taker.price <= maker.price if taker.side == Side.ASK else taker.price >= maker.price


def rate(order: Order, taker: Order) -> Decimal:
    """The fee rate that an order pays in a deal."""
    return order.taker_rate if order is taker else order.maker_rate


def truncate_quotient(money: Decimal, price: Decimal, market: Market) -> Decimal:
    """How much stock `money` buys at `price`, toward zero."""
    unit = Decimal(1).scaleb(-market.stock_prec)
    return money // (price * unit) * unit


def update_key(command: Command) -> UpdateKey:
    """What makes a balance update a repeat of another."""
    return command.user_id, command.asset, command.content, command.subject_id
