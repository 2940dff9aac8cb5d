"""How kernels are compiled: once each, whoever calls them."""

from typing import Any

import numpy as np

from bus.messages import COMMAND, QueryKind, Side
from engine import batch, content, views
from engine.exchange import Exchange
from engine.schema import BALANCE, arrays, readonly
from tests.engine.driver import SMALL
from tests.engine.flows import LISTING

ENTRIES: tuple[Any, ...] = (
    batch.apply_batch,
    content.fill_balances,
    content.fill_orders,
    content.fill_updates,
    views.read_pending,
    views.read_order,
    views.read_book,
    views.read_depth,
    views.read_balances,
    views.read_held,
    views.read_assets,
    views.read_markets,
)


def test_every_entry_has_one_signature_however_its_arrays_came_to_be() -> None:
    """A second one would be compiled while a client waits, for half a minute."""
    memory = bytearray(Exchange.size(SMALL))
    exchange = Exchange(LISTING, SMALL, memory=memory)
    commands = np.zeros(4, COMMAND)
    for given in (commands, np.frombuffer(commands.tobytes(), COMMAND), commands[::2], readonly(commands)):
        exchange.apply(given, 1.0)
    Exchange.restore(LISTING, {name: readonly(part) for name, part in exchange.dump().items()}, SMALL)
    state = views.frozen(arrays(bytes(memory), SMALL, writable=False))
    for kind in QueryKind:
        exchange.answer(kind, limit=1, side=Side.BID)
        views.answer(state, kind, limit=1)
    views.held(state, 1, 2, views.ANY_ASSET, np.zeros(1, BALANCE))
    views.held(views.frozen(exchange.state), 1, 2, 0, np.zeros(4, BALANCE)[2:])
    assert {entry.__name__: len(entry.signatures) for entry in ENTRIES} == {entry.__name__: 1 for entry in ENTRIES}
