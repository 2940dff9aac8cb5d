"""Texts of Kafka messages: those of the contract's example, and those that a plain twin makes of random flows."""

import json

import pytest

from bus.kafka import BALANCES, DEALS, ORDERS
from persist.kafka_messages import TOPICS, counts, messages
from tests.persist.events import TIME_S, finish_frame, update_frame
from tests.persist.kafka_plain import plain
from tests.persist.making import random_play


@pytest.mark.parametrize("seed", range(4))
def test_messages_of_random_flows_are_those_of_the_twin(seed: int) -> None:
    frames, catalog = random_play(seed)
    seen = dict.fromkeys(TOPICS, 0)
    for frame in frames:
        made = messages(frame.records, catalog)
        wanted = plain(frame, catalog)
        for topic in TOPICS:
            assert [value.decode() for value in made[topic]] == [text for name, text in wanted if name == topic]
            seen[topic] += len(made[topic])
        assert {topic: len(made[topic]) for topic in TOPICS} == counts(frame.records)
    assert all(seen.values())


def test_every_message_is_json_and_the_same_whenever_it_is_made() -> None:
    frames, catalog = random_play(9)
    for frame in frames:
        once, again = messages(frame.records, catalog), messages(frame.records, catalog)
        assert once == again
        assert [len(json.loads(value)) for value in once[DEALS]] == [14] * len(once[DEALS])
        assert [len(json.loads(value)) for value in once[BALANCES]] == [5] * len(once[BALANCES])
        for value in once[ORDERS]:
            assert list(json.loads(value)) == ["event", "order", "stock", "money"]


def test_a_balance_message_says_what_was_asked_for_with_all_decimals() -> None:
    _, catalog = random_play(1, steps=1)
    asset = catalog.asset_by_index[0]
    for change, business in ((-1, b'with"draw'), (10**17, "été".encode()), (0, b"x\xff")):
        frame = update_frame(1, asset, user_id=7, change=change, before=10**18, business=business)
        (value,) = messages(frame.records, catalog)[BALANCES]
        assert [("balances", value.decode())] == plain(frame, catalog)
        assert json.loads(value)[:3] == [TIME_S, 7, asset.name]


def test_the_end_of_an_order_is_event_3() -> None:
    _, catalog = random_play(1, steps=1)
    (value,) = messages(finish_frame(1, 5, market=0, user_id=7, source=b"web").records, catalog)[ORDERS]
    document = json.loads(value)
    assert (document["event"], document["order"]["id"], document["order"]["source"]) == (3, 5, "web")
    market = catalog.market_by_index[0]
    assert (document["stock"], document["money"]) == (market.stock.name, market.money.name)
