"""Compile every kernel, or load it from the cache, before the first client waits for it."""

from collections.abc import Callable
from typing import Any

import numpy as np
from numba.core import event

from bus.messages import COMMAND, QueryKind
from conf.markets import Asset, Listing, Market
from engine import views
from engine.exchange import Exchange
from engine.kernel import KERNELS
from engine.schema import BALANCE, Capacity

Progress = Callable[[str, int, int], None]  # a kernel's name, how many are done, how many there are

_ASSETS = tuple(Asset(name=name, prec_save=8, prec_show=8) for name in ("A", "B"))
_MARKET = Market(name="AB", stock="A", money="B", stock_prec=2, money_prec=2, fee_prec=2)
_LISTING = Listing(assets=_ASSETS, markets=(_MARKET,))
_CAPACITY = Capacity(
    order_capacity=8,
    level_capacity=8,
    balance_capacity=8,
    user_market_capacity=8,
    update_capacity=8,
    asset_capacity=2,
    market_capacity=1,
)


class _Listener(event.Listener):  # type: ignore[misc]  # numba has no types
    """Counts compilations as numba reports them."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._done: set[str] = set()

    def on_start(self, happened: Any) -> None:
        pass

    def on_end(self, happened: Any) -> None:
        self._done.add(happened.data["dispatcher"].__name__)
        self._progress(happened.data["dispatcher"].__name__, min(len(self._done), len(KERNELS)), len(KERNELS))


def compile_all(progress: Progress | None = None) -> None:
    """Call every entry once; tell the progress while something is compiled."""
    with event.install_listener("numba:compile", _Listener(progress or (lambda name, done, total: None))):
        exchange = Exchange(_LISTING, _CAPACITY)
        exchange.apply(np.zeros(1, COMMAND), 0.0)
        for kind in QueryKind:
            exchange.answer(kind, limit=1)
        views.held(views.frozen(exchange.state), 1, 2, views.ANY_ASSET, np.zeros(1, BALANCE))
        Exchange.restore(_LISTING, exchange.dump(), _CAPACITY)
