"""What a stopped exchange has listed: markets with the indexes that its records have, in the order of the listing."""

from pathlib import Path

import pytest

from bus import catalog
from bus.messages import QueryKind
from conf.settings import load
from engine import snapshot
from engine.listed import listed
from tests.disk.trading import LISTING, WIDER, Flow, House


@pytest.mark.parametrize("snapshot_at", [None, "before", "after"])
def test_the_listing_is_that_of_the_exchange(tmp_path: Path, snapshot_at: str | None) -> None:
    with House(tmp_path) as house:
        house.trade(Flow(seed=5), 2, now=1000.0)
        if snapshot_at == "before":
            snapshot.save(house.paths.snapshots_dir, house.exchange)
        house.configure(WIDER)
        if snapshot_at == "after":
            snapshot.save(house.paths.snapshots_dir, house.exchange)
        views = (house.exchange.answer(kind).records for kind in (QueryKind.ASSETS, QueryKind.MARKETS))
        wanted = catalog.make(*views)
        found = listed(load(None, tmp_path))  # it may run
    assert found.markets == wanted.markets
    assert found.market_by_index == wanted.market_by_index
    assert [market.name for market in found.markets] == ["ETHUSD", "BTCUSD"]
    assert [market.index for market in found.markets] == [1, 0]
    assert {name: asset.index for name, asset in found.asset_by_name.items()} == {"BTC": 0, "USD": 1, "ETH": 2}


def test_before_the_first_start_it_is_the_markets_file(tmp_path: Path) -> None:
    (tmp_path / "markets.json").write_text(LISTING.to_json())
    (tmp_path / "exchange.toml").write_text("")
    settings = load(tmp_path / "exchange.toml")
    assert list(listed(settings).market_by_name) == ["BTCUSD"]
    assert not settings.data_dir.exists()
