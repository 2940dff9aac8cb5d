"""Going on from an event while the exchange and this process go on too: nothing lost, nothing doubled."""

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from bus.messages import EVENT, EventKind
from gateways.ws.topics import Channel
from tests.gateways.making import BTCBCH, CATALOG
from tests.gateways.ws.making import BCH, BTC, SAT
from tests.gateways.ws.resuming import (
    ME,
    Resuming,
    changes,
    mine,
    of_another_market,
    others,
    update,
    with_my_number,
)

kinds = st.sampled_from([
    mine,
    mine,
    others,
    of_another_market,
    update(BTC.index),
    update(BCH.index),
    update(SAT.index),
    with_my_number,
])
numbers = st.integers(0, 30)
frames = st.lists(st.lists(kinds, min_size=1, max_size=5), min_size=1, max_size=10)
meanwhile = st.lists(st.tuples(st.booleans(), st.integers(0, 8)), max_size=12)


@settings(max_examples=150, deadline=None)
@given(
    frames, frames, st.integers(0, 30), st.integers(0, 30), meanwhile, st.sampled_from([Channel.ORDER, Channel.ASSET])
)
def test_nothing_is_lost_or_doubled_whatever_happens_meanwhile(
    before: list[Any], later: list[Any], after: int, come: int, moves: list[tuple[bool, int]], channel: Channel
) -> None:
    with TemporaryDirectory() as directory:
        parts = Resuming(Path(directory))
        for frame in before:
            parts.write(*frame)
        after = min(after, parts.writer.last_number)
        parts.pump(max(after, come))

        def move() -> None:
            """At each moment in which others may have their turn: the exchange goes on, this process follows."""
            if moves:
                is_written, count = moves.pop()
                if is_written and later:
                    parts.write(*later.pop())
                parts.exchange.meanwhile = lambda: None
                parts.pump(parts.publisher.event_number + count)
                parts.exchange.meanwhile = move

        parts.exchange.meanwhile = move
        sequence = parts.sequence(channel, after)
        parts.exchange.meanwhile = lambda: None
        count_before_reply = len(parts.client.sent)
        for frame in later:
            parts.write(*frame)
        parts.pump()
        messages = [message["params"] for message in parts.client.take()]
        events = np.concatenate([event.view(np.int64) for event in parts.events]).view(EVENT)[after:]
        check = check_orders if channel is Channel.ORDER else check_balances
        check(messages, events, after, sequence, count_before_reply)
        parts.close()


def check_orders(messages: list[Any], events: Any, _: int, sequence: int, count_before_reply: int) -> None:
    is_mine = (events["kind"] <= EventKind.ORDER_FINISH) & (events["order"]["user_id"] == ME)
    wanted = events["number"][is_mine & (events["market"] == BTCBCH.index)].tolist()
    told = [number for _, _, number in messages]
    assert told == wanted
    assert told[:count_before_reply] == [number for number in wanted if number <= sequence]


def check_balances(messages: list[Any], events: Any, after: int, sequence: int, count_before_reply: int) -> None:
    """Whoever is cut off after any message, and goes on from the largest number it has seen, misses nothing."""
    changed = [
        (int(event["number"]), CATALOG.asset_by_index[asset].name)
        for event in events
        for user_id, asset in changes(event.reshape(1))
        if user_id == ME and asset in (BTC.index, BCH.index)
    ]
    known, seen = dict[str, int](), after
    for place in range(len(messages) + 1):
        if place == count_before_reply:
            seen = max(seen, sequence)
        for number, name in changed:
            assert number > seen or known.get(name, 0) >= number, (messages[:place], changed)
        if place < len(messages):
            [(name, balance)], number = messages[place][0].items(), messages[place][1]
            known[name], seen = int(balance["available"]), max(seen, number)
    assert {name: known.get(name) for _, name in changed} == {name: number for number, name in changed}
