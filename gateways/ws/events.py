"""The loop that takes the exchange's events as they come: a user's orders and balances are pushed at once, and the
publisher is told where something has happened.

An order.update goes out for each event of an order, in order. An asset.update tells the balance as it is now, once
for all the events that were taken together, after the orders that caused it (CONTRACT 5.7).
"""

import time
from collections.abc import Callable
from typing import Any

import gevent
import numpy as np
from gevent.event import Event

from bus.catalog import Catalog
from bus.eventlog import Gone
from bus.messages import DEAL_EVENT, EVENT, UPDATE_EVENT, EventKind, Frame, Records
from conf.settings import Settings
from gateways.link import NotConnected, TimedOut
from gateways.state import State
from gateways.ws.feeds import Deal
from gateways.ws.metrics import Metrics
from gateways.ws.own import balances, followers_of, push_balances, push_order
from gateways.ws.publisher import Publisher
from gateways.ws.stream import Stream
from gateways.ws.topics import Channel

AT_ONCE_COUNT = 20_000  # events: some milliseconds of work
QUIET_S = 0.1  # how often the feed may see whether it missed something
RETRY_S = 0.05
MISSED_CODE = 1011  # of a connection whose events are gone
_READABLE = 1  # libev's number
_DEAL, _BALANCE_UPDATE = int(EventKind.DEAL), int(EventKind.BALANCE_UPDATE)  # an enum's members are slow to look up

Balances = dict[int, dict[str, None]]  # assets, by user, in the order in which they changed


class Pump:
    """Takes events and tells; one greenlet."""

    def __init__(
        self,
        settings: Settings,
        stream: Stream,
        state: State,
        publisher: Publisher,
        metrics: Metrics,
        alert: Callable[[str], object],
    ) -> None:
        self._settings = settings
        self._state = state
        self._publisher = publisher
        self._metrics = metrics
        self._alert = alert
        self._stream = stream
        self._wake = Event()
        self._watcher: Any = None
        self._has_begun = False
        self._has_skipped = False  # and has not begun again
        self._frames: list[Frame] = []  # that have come and are not told
        self._balances: Balances = {}  # that are still to be told
        self._balances_number = 0  # the last event whose balances all are told
        self._follow()

    def await_begin(self, patience_s: float, stopping: Event) -> None:
        """Wait until it is known where events begin, or that takes too long."""
        end_s = time.monotonic() + patience_s
        while not self._has_begun and time.monotonic() < end_s and not stopping.wait(RETRY_S):
            self.turn()

    def start(self) -> None:
        """Begin the loop. Where events do not begin yet, whoever is told anything meanwhile is told anew then."""
        self._has_skipped = self._has_skipped or not self._has_begun
        self._greenlet = gevent.spawn(self._run)

    def check(self) -> None:
        """See that the loop goes on. Raises what ended it."""
        if self._greenlet.exception is not None:
            raise self._greenlet.exception

    def stop(self) -> None:
        """End the loop."""
        self._greenlet.kill()
        self._watcher.close()
        self._stream.close()

    @property
    def has_begun(self) -> bool:
        """Whether it is known from which event on they come."""
        return self._has_begun

    def _follow(self) -> None:
        """Take the events from now on."""
        if self._watcher is not None:
            self._watcher.close()
        self._has_begun = self._publisher.is_informed = False
        self._stream.follow()
        self._watcher = gevent.get_hub().loop.io(self._stream.fd, _READABLE)
        self._watcher.start(self._wake.set)
        self._begin()

    def _begin(self) -> None:
        """Begin if that is known. Whoever followed his own while events were lost is told so. Raises Gone."""
        number = self._stream.begin_number()
        if number is None:
            return
        self._has_begun = self._publisher.is_informed = True
        self._publisher.event_number = self._balances_number = number
        if self._has_skipped:
            self._has_skipped = False
            for follower in self._publisher.private_followers():
                follower.close(MISSED_CODE, "events were missed: connect again and subscribe with `after`")
            self._publisher.skip()

    def _run(self) -> None:
        while True:
            self._wake.wait(RETRY_S if self._frames or self._balances else QUIET_S)
            self._wake.clear()
            while self.turn():
                gevent.sleep(0)

    def turn(self) -> bool:
        """Take what has come, up to a limit, and tell it; whether there may be more."""
        try:
            if not self._has_begun:
                self._begin()
            if not self._has_begun:
                return False
            self._frames = self._frames or self._receive()
            has_some = bool(self._frames)
            if has_some:
                self._tell(*_joined(self._frames))
                self._frames = []
            self._tell_balances()
        except (NotConnected, TimedOut):  # what could not be told is told later
            return False
        except Gone as gone:
            self._skip(gone)
            return True
        return has_some

    def _receive(self) -> list[Frame]:
        frames: list[Frame] = []
        count = 0
        while count < AT_ONCE_COUNT and (frame := self._stream.receive()) is not None:
            frames.append(frame)
            count += len(frame.records)
        return frames

    def _tell(self, events: Records, number: int) -> None:
        """Push orders, note whose balances have changed, tell the publisher of markets; all without a pause."""
        catalog = self._catalog(events)
        self._publisher.event_number = number
        kinds = events["kind"]
        if self._publisher.users:
            self._tell_users(events, catalog)
        is_deal = kinds == _DEAL
        deals = self._deals(events[is_deal].view(DEAL_EVENT)) if is_deal.any() else {}
        for index in np.unique(events["market"][kinds != _BALANCE_UPDATE]).tolist():
            market = catalog.market_by_index[index]
            if self._publisher.follows_market(market.name):
                self._publisher.touch(market.name, [(deal, market) for deal in deals.get(index, ())])
        self._metrics.event_number.set(number)
        self._metrics.lateness.observe(max(0.0, time.time() - float(events["time"][-1])))

    def _catalog(self, events: Records) -> Catalog:
        """What is listed, with all that the events name. Raises NotConnected, TimedOut."""
        catalog = self._state.catalog()
        is_update = events["kind"] == _BALANCE_UPDATE
        market_max = events["market"][~is_update].max(initial=-1)
        asset_max = events[is_update].view(UPDATE_EVENT)["asset"].max(initial=-1)
        if market_max >= len(catalog.market_by_index) or asset_max >= len(catalog.asset_by_index):
            catalog = self._state.catalog(is_fresh=True)
        return catalog

    def _deals(self, deals: Records) -> dict[int, list[Deal]]:
        """The deals that market data tells of, by index of the market."""
        found: dict[int, list[Deal]] = {}
        fields = [deals[name].tolist() for name in ("market", "deal_id", "time", "price_units", "amount_units")]
        for market, *deal in zip(*fields, deals["taker_side"].tolist(), strict=True):
            if deal[0] != self._settings.market.skipped_deal_id:
                found.setdefault(market, []).append(Deal(*deal))
        return found

    def _tell_users(self, events: Records, catalog: Catalog) -> None:
        users = self._publisher.users
        kinds, orders = events["kind"], events["order"]
        updates = events.view(UPDATE_EVENT)
        user_ids = np.where(kinds == _BALANCE_UPDATE, updates["user_id"], orders["user_id"])
        is_wanted = (kinds != _DEAL) & np.isin(user_ids, np.fromiter(users, "i8", len(users)))
        for place in np.flatnonzero(is_wanted).tolist():
            kind, user_id = int(kinds[place]), int(user_ids[place])
            assets = self._balances.setdefault(user_id, {})
            if kind == _BALANCE_UPDATE:
                assets[catalog.asset_by_index[updates["asset"][place]].name] = None
                continue
            market = catalog.market_by_index[orders["market"][place]]
            assets |= {market.stock.name: None, market.money.name: None}
            followers = users.get(user_id, ())  # they may have been too slow for the one before
            if told := followers_of(followers, Channel.ORDER, market.name):
                self._metrics.sent.inc(push_order(told, events[place : place + 1], catalog))

    def _tell_balances(self) -> None:
        """Push the balances that have changed. Raises NotConnected, TimedOut."""
        while self._balances:
            user_id, assets = next(iter(self._balances.items()))
            followers = self._publisher.users.get(user_id, {})
            if told := [name for name in assets if followers_of(followers, Channel.ASSET, name)]:
                texts = balances(self._state, user_id, told)
                followers = self._publisher.users.get(user_id, {})  # who still follows: that may have taken a while
                for name, text in texts.items():
                    number = self._publisher.event_number if name == told[-1] else self._balances_number
                    followed = followers_of(followers, Channel.ASSET, name)
                    self._metrics.sent.inc(push_balances(followed, {name: text}, number, number))
            del self._balances[user_id]
        self._balances_number = self._publisher.event_number

    def _skip(self, gone: Gone) -> None:
        """Events are lost to this process: begin anew."""
        self._alert(
            f"{gone}: clients that follow orders or balances are disconnected, and may go on from where they were"
        )
        self._frames = []
        self._balances.clear()
        self._has_skipped = True
        self._follow()


def _joined(frames: list[Frame]) -> tuple[Records, int]:
    """The events of frames, and the number of the last one."""
    found = [frame.records for frame in frames]
    number = frames[-1].first + len(found[-1]) - 1
    if len(found) == 1:
        return found[0], number
    words = np.concatenate([records.view(np.int64) for records in found])  # much faster than field by field
    return words.view(EVENT), number
