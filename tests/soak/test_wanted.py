"""What follows from a journal: that of a small exchange, against its own state and against what consumers make."""

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from bus.catalog import Catalog
from bus.eventlog import Reader
from bus.messages import DEAL_EVENT, EventKind, Frame
from conf.settings import Settings, load
from persist import kafka_messages
from tests.disk.trading import Flow, House
from tests.persist.making import catalog_of
from tests.soak.checks.balances import check_balances, check_sums
from tests.soak.checks.digests import count, digest, items
from tests.soak.wanted.journal import Wanted, balances_of, wanted_of
from tests.soak.wanted.market import stored

BATCH_COUNT = 40
USERS = frozenset({1, 3})


class Played:
    """A journal, and all that is known of how it came to be."""

    def __init__(self, folder: Path) -> None:
        with House(folder) as house:
            house.trade(Flow(seed=4), BATCH_COUNT, now=1_000_000.25)
            self.catalog: Catalog = catalog_of(house.exchange)
            self.settings: Settings = replace(load(None, folder), instance=house.paths.instance)
            self.balances = balances_of(house.exchange, self.catalog)
            self.frames: list[Frame] = list(Reader(house.paths.events_dir).frames(0))
            self.wanted: Wanted = wanted_of(self.settings, self.catalog, USERS)


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory) -> Played:
    return Played(tmp_path_factory.mktemp("journal"))


def kinds(played: Played) -> Counter[int]:
    return Counter(kind for frame in played.frames for kind in frame.records["kind"].tolist())


def test_balances_and_sums_are_those_of_the_exchange(played: Played) -> None:
    assert check_balances(played.wanted.balances, played.balances, {}, played.catalog).agrees
    assert check_sums(played.wanted.sums, played.balances, played.catalog).agrees
    assert len(played.balances) == 8
    key = next(iter(played.balances))
    wrong = {**played.balances, key: (played.balances[key][0] + 1, 0)}
    assert not check_sums(played.wanted.sums, wrong, played.catalog).agrees


def test_messages_are_those_of_the_courier(played: Played) -> None:
    for topic in kafka_messages.TOPICS:
        sent = [
            digest(json.loads(message))
            for frame in played.frames
            for message in kafka_messages.messages(frame.records, played.catalog)[topic]
        ]
        assert items(played.wanted.messages.topics[topic]) == sent
        assert len(sent) > BATCH_COUNT


def test_every_order_update_and_cancel_of_the_journal_is_known(played: Played) -> None:
    commands, counted = played.wanted.commands, kinds(played)
    assert commands.updates.total() == len(commands.updates) == counted[EventKind.BALANCE_UPDATE]
    assert len(commands.doubled) + len(commands.puts) == max(
        int(frame.records["order"]["id"][frame.records["kind"] <= EventKind.ORDER_FINISH].max(initial=0))
        for frame in played.frames
    )
    assert len(commands.cancelled) > 0


def test_rows_are_as_many_as_their_events(played: Played) -> None:
    deal_count, tables = kinds(played)[EventKind.DEAL], played.wanted.rows.tables
    assert deal_count > BATCH_COUNT
    for family in ("deal_history", "user_deal_history"):
        assert sum(count(chain) for name, chain in tables.items() if name.startswith(f"{family}_")) == 2 * deal_count
    orders = [chain for name, chain in tables.items() if name.startswith("order_history_")]
    details = [chain for name, chain in tables.items() if name.startswith("order_detail_")]
    assert sorted(each for chain in orders for each in items(chain)) == sorted(
        each for chain in details for each in items(chain)
    )


def test_market_data_has_every_deal(played: Played) -> None:
    found = played.wanted.market.keys()
    rows = [row for frame in played.frames for row in frame.records[frame.records["kind"] == EventKind.DEAL]]
    deals = [row.view(DEAL_EVENT) for row in rows]
    assert found["k:offset"] == str(len(deals) - 1)
    assert played.wanted.market.ids["BTCUSD"] == [int(deal["deal_id"]) for deal in deals]
    volume = sum(int(deal["amount_units"]) for deal in deals)
    for size in ("1s", "1m", "1h", "1d"):
        assert sum(candle[4] for candle in found[f"k:BTCUSD:{size}"].values()).scaleb(8) == volume


def test_what_redis_holds_is_read_as_numbers_and_digests() -> None:
    deal = {"id": 1, "time": 5.5, "price": "1", "amount": "2", "type": "buy"}
    later = deal | {"id": 2}
    keys = {
        "k:A:deals": [json.dumps(later), json.dumps(deal)],
        "k:A:1s": {"5": '["1", "1", "1", "1", "2", "2e-9"]'},
        "k:A:last": "1.00",
    }
    found = stored(keys)
    assert items(found["k:A:deals"]) == [digest(deal), digest(later)]
    assert str(found["k:A:1s"]["5"][5]) == "2E-9"
    assert found["k:A:last"] == "1.00"


def test_users_who_follow_are_told_their_own_orders_only(played: Played) -> None:
    for user, told in played.wanted.own.told.items():
        numbers = [
            number
            for frame in played.frames
            for number, kind, owner in zip(
                frame.records["number"].tolist(),
                frame.records["kind"].tolist(),
                frame.records["order"]["user_id"].tolist(),
                strict=True,
            )
            if kind <= EventKind.ORDER_FINISH and owner == user
        ]
        assert [number for number, _ in told] == numbers
        assert len(numbers) > BATCH_COUNT
