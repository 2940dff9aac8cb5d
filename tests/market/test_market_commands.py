"""`pit market`: what it makes anew is what the deals say, what it brings in is in nobody's way."""

import gzip
import json
import shutil
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from click.testing import CliRunner

from bus import positions
from bus.eventlog import Reader
from bus.messages import DEAL_EVENT, EventKind, Records
from bus.text import halves
from conf.settings import Settings, load
from engine.listed import listed
from market.commands import market
from market.file_store import FileStore
from market.redis_store import RedisStore
from market.schema import CANDLE, TICK, Resolution
from market.store import Loaded, Part, Position
from tests.disk.trading import LISTING, Flow, House
from tests.market.keeping import EVER
from tests.market.records import assert_equal, candles, of
from tests.market.sentinels import Group, sentinels

SIZES_S = {Resolution.SEC: 1, Resolution.MIN: 60, Resolution.HOUR: 3_600, Resolution.DAY: 86_400}
TODAY = int(time.time()) // 86_400 * 86_400
BEGAN = TODAY - 2 * 86_400 + 3_000  # of trading
NAME = "BTCUSD"
PRICE = 10**8  # units
HEAD = "Time,Open,High,Low,Close,Volume\n"


class Ran(NamedTuple):
    """A `pit market` that has ended."""

    status: int
    text: str


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    (tmp_path / "markets.json").write_text(LISTING.to_json())
    (tmp_path / "exchange.toml").write_text("")
    return load(tmp_path / "exchange.toml")


@pytest.fixture(scope="module")
def group(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Group]:
    with sentinels(tmp_path_factory.mktemp("redis")) as running:
        yield running


def run(settings: Settings, *arguments: str) -> Ran:
    done = CliRunner().invoke(market, [*arguments, "--conf", str(settings.markets_file.with_name("exchange.toml"))])
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exc_info
    return Ran(done.exit_code, done.output)


def do(settings: Settings, *arguments: str) -> str:
    ran = run(settings, *arguments)
    assert ran.status == 0, ran.text
    return ran.text


def stored(settings: Settings) -> Loaded:
    with closing(FileStore(settings.paths.market_file)) as store:
        return store.load(listed(settings), EVER)


def trade(settings: Settings, *, forget: bool = False) -> Records:
    """Let an exchange trade for some hours; all its deals. With `forget` the log loses the events of the first half."""
    with House(settings.data_dir) as house:
        flow, found = Flow(seed=7), [deals(house, 0)]
        for number in range(12):
            if forget and number == 6:
                found.append(deals(house, 0))
                house.events.start_after(house.exchange.event_number)
            house.trade(flow, 1, now=BEGAN + 900.25 * number)
        first_number = Reader(house.paths.events_dir).first_number
        assert (first_number > 1) == forget
        return np.concatenate([*found, deals(house, first_number - 1)])


def deals(house: House, after_number: int) -> Records:
    """The deals that the log has."""
    frames = Reader(house.paths.events_dir).frames(after_number)
    found = [frame.records[frame.records["kind"] == EventKind.DEAL].view(DEAL_EVENT) for frame in frames]
    return np.concatenate([np.zeros(0, DEAL_EVENT), *found])


def made_of(deals: Records, size_s: int) -> Records:
    """The candles of deals, one deal after the other."""
    rows: dict[int, list[int]] = {}
    for deal in deals:
        price, amount = int(deal["price_units"]), int(deal["amount_units"])
        row = rows.setdefault(int(deal["time"]) // size_s * size_s, [price, price, price, price, 0, 0])
        row[1:] = price, max(row[2], price), min(row[3], price), row[4] + amount, row[5] + price * amount
    return np.array([(start, *row[:4], halves(row[4]), halves(row[5])) for start, row in rows.items()], CANDLE)


def ticks_of(deals: Records) -> Records:
    return np.array([tuple(deal[name] for name in TICK.names or ()) for deal in deals], TICK)


def assert_made_of(loaded: Loaded, deals: Records) -> None:
    assert len(deals) > 50
    part = of(loaded, NAME)
    assert part.last_units == deals["price_units"][-1]
    assert_equal(part.ticks, ticks_of(deals))
    for size, size_s in SIZES_S.items():
        assert_equal(part.candles[size], made_of(deals, size_s))
    assert loaded.position.deal_id == deals["deal_id"][-1]


@pytest.mark.parametrize("forget", [False, True])
def test_a_rebuild_is_what_all_deals_say(settings: Settings, forget: bool) -> None:
    """Also those that only the journal can tell."""
    found = trade(settings, forget=forget)
    assert f"{len(found):,} of them deals" in do(settings, "rebuild")
    assert_made_of(stored(settings), found)
    last_number = Reader(settings.paths.events_dir).durable_number
    assert stored(settings).position.number == last_number
    assert positions.told(settings.paths.positions_dir) == {"market": last_number}
    do(settings, "rebuild")
    assert_made_of(stored(settings), found)


def test_a_rebuild_keeps_what_was_imported_before_the_first_deal(settings: Settings) -> None:
    found = trade(settings)
    first = int(found["time"][0])
    hour, day = (first // size_s * size_s for size_s in (3_600, 86_400))
    old = {
        Resolution.HOUR: candles(hour - 7_200, hour - 3_600, hour, hour + 40 * 3_600),
        Resolution.DAY: candles(day - 86_400, day - 43_200, day),  # the second one of another time zone
    }
    with closing(FileStore(settings.paths.market_file)) as store:
        store.load(listed(settings), EVER)
        store.flush([Part(market=listed(settings).markets[0], last_units=9, candles=old)], Position(number=1))
    do(settings, "rebuild")
    part = of(stored(settings), NAME)
    assert_equal(part.candles[Resolution.HOUR], np.concatenate((old[Resolution.HOUR][:2], made_of(found, 3_600))))
    assert_equal(part.candles[Resolution.DAY], np.concatenate((old[Resolution.DAY][:1], made_of(found, 86_400))))
    assert part.last_units == found["price_units"][-1]
    do(settings, "rebuild", "--drop-imported")
    assert_made_of(stored(settings), found)


def test_a_rebuild_makes_a_file_anew_that_was_moved_away(settings: Settings) -> None:
    found = trade(settings)
    settings.paths.market_file.write_bytes(b"broken" * 1000)
    ran = run(settings, "rebuild")
    assert ran.status == 1
    assert "move it away" in ran.text
    settings.paths.market_file.rename(settings.data_dir / "broken.db")
    do(settings, "rebuild")
    assert_made_of(stored(settings), found)


def test_without_events_there_is_nothing_to_make(settings: Settings) -> None:
    ran = run(settings, "rebuild")
    assert ran.status == 1
    assert "no events" in ran.text
    assert not settings.paths.market_file.exists()


def test_events_that_are_lost_are_told_and_nothing_changes(settings: Settings) -> None:
    trade(settings, forget=True)
    do(
        settings,
        "import",
        str(csv_file(settings, f"{TODAY - 86_400},1,1,1,1,1")),
        "--market",
        NAME,
        "--resolution",
        "1d",
    )
    shutil.rmtree(settings.paths.journal_dir)
    settings.paths.journal_dir.mkdir()
    before = stored(settings)
    ran = run(settings, "rebuild")
    assert ran.status == 1
    assert "can't be made again" in ran.text
    assert stored(settings).position == before.position


def csv_file(settings: Settings, *lines: str, head: str = HEAD, name: str = "candles.csv") -> Path:
    path = settings.markets_file.with_name(name)
    path.write_text(head + "".join(line + "\n" for line in lines))
    return path


def hours(loaded: Loaded) -> Records:
    return of(loaded, NAME).candles[Resolution.HOUR]


def test_a_file_is_read_with_exact_numbers(settings: Settings) -> None:
    lines = (f"{TODAY},1.5,2,1.00000001,1.75,0.3", f"{TODAY - 3_600},1e1,1E1,.5,9.999,12345678901234567890")
    told = do(settings, "import", str(csv_file(settings, *lines)), "--market", NAME)
    assert told == f"{NAME} 1h: 2 written\n"
    found = hours(stored(settings))
    assert found["start"].tolist() == [TODAY - 3_600, TODAY]
    assert [row[1:5] for row in found.tolist()] == [
        (1_000_000_000, 999_900_000, 1_000_000_000, 50_000_000),
        (150_000_000, 175_000_000, 200_000_000, 100_000_001),
    ]
    volumes = [12345678901234567890 * 10**8, 3 * 10**7]
    assert found["volume_units"].tolist() == [[*halves(volume)] for volume in volumes]
    assert not found["money_units"].any()


@pytest.mark.parametrize(
    ("head", "row"),
    [
        ("open time,close,low,high,open,ignored,quote asset volume,volume", "{ms},4,1,5,2,x,7.5,3"),
        ("\ufeffDate,Open,High,Low,Close,Volume,Turnover", "{iso},2,5,1,4,3,7.5"),
        ("unix,o,h,l,c,v,money", "{us},2,5,1,4,3,7.5"),
        ("timestamp,Open Price,high_price,LOW PRICE,close-price,Base Volume,Quote Volume", "{zone},2,5,1,4,3,7.5"),
    ],
)
def test_files_of_many_kinds_are_understood(settings: Settings, head: str, row: str) -> None:
    times = {
        "ms": f"{TODAY}000",
        "us": f"{TODAY}000000",
        "iso": time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(TODAY)),
        "zone": time.strftime("%Y-%m-%dT%H:%M:%S+02:00", time.gmtime(TODAY + 7_200)),
    }
    path = csv_file(settings, row.format(**times), "", head=head + "\n")
    do(settings, "import", str(path), "--market", NAME, "--resolution", "1h")
    wanted = candles(TODAY, volume=3 * 10**8, money=75 * 10**15)
    for name, price in (("open", 2), ("close", 4), ("high", 5), ("low", 1)):
        wanted[f"{name}_units"] = price * PRICE
    assert_equal(hours(stored(settings)), wanted)


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("", "line 1: no column is named time; there are none"),
        ("time,open,high,low,volume\n", "line 1: no column is named close; there are time, open, high, low, volume"),
        ("time,date,open,high,low,close,volume\n", "line 1: both 'time' and 'date' may be the column time"),
        (HEAD, "there are no candles in it"),
        (HEAD + "{t},1,1,1,1,1\n\nsoon,1,1,1,1,1\n", "line 4: time 'soon' is neither"),
        (HEAD + "{t}.5,1,1,1,1,1\n", "line 2: time"),
        (HEAD + "1969-12-31,1,1,1,1,1\n", "line 2: time 1969-12-31 is before 1970"),
        (HEAD + "{t}001,1,1,1,1,1\n", "is no whole second"),
        (HEAD + "{t},1,1,1,1\n", "line 2: there are 5 columns only"),
        (HEAD + "{t},1,1,1,none,1\n", "line 2: close 'none' is no such number"),
        (HEAD + "{t},1,1,1,1,-1\n", "line 2: volume '-1' is no such number"),
        (HEAD + "{t},1,1,1,1,NaN\n", "line 2: volume 'NaN' is no such number"),
        (HEAD + "{t},1,1,1,1.000000001,1\n", "line 2: close 1.000000001 has more than the market's 8 decimals; --cut"),
        (HEAD + "{t},1,2,1,3,1\n", "line 2: these are no prices of a candle"),
        (HEAD + "{t},0,0,0,0,1\n", "line 2: these are no prices of a candle"),
        (HEAD + "{t},1,1,1,1,1\n{t},1,1,1,1,1\n", "line 3: {iso} is that of line 2 too"),
        (HEAD + "{half},1,1,1,1,1\n", "line 2: no candle of 1h begins at"),
        (HEAD + "{later},1,1,1,1,1\n", "is not yet"),
        (HEAD + "9999-12-31T23:59:59-14:00,1,1,1,1,1\n", "line 2: time 9999-12-31T23:59:59-14:00 is not yet"),
        (HEAD + '{t},1,1,1,1,"1\n', "unexpected end of data"),
        ("\xff" * 4 + "\n", "line 1: no column is named time"),
    ],
)
def test_what_is_wrong_in_a_file_is_named(settings: Settings, text: str, part: str) -> None:
    iso = time.strftime("%Y-%m-%dT%H:%M:%S+00:00", time.gmtime(TODAY))
    values = {"t": TODAY, "half": TODAY + 1_800 - 3_600, "later": TODAY + 10 * 86_400, "iso": iso}
    path = csv_file(settings, head=text.format(**values))
    ran = run(settings, "import", str(path), "--market", NAME, "--resolution", "1h")
    assert ran.status == 1
    assert f"Error: {path}: " in ran.text
    assert part.format(**values) in ran.text
    assert not stored(settings).parts


def test_bytes_that_are_no_text_and_files_that_are_not_there_are_told(settings: Settings) -> None:
    path = csv_file(settings)
    path.write_bytes(HEAD.encode() + b"\xff\xfe")
    for wrong, part in ((path, "can't decode"), (path.with_name("none.csv"), "No such file")):
        ran = run(settings, "import", str(wrong), "--market", NAME)
        assert (ran.status, part in ran.text, str(wrong) in ran.text) == (1, True, True)


def test_decimals_are_cut_off_when_that_is_asked_for(settings: Settings) -> None:
    path = csv_file(settings, f"{TODAY},1,1.999999999,1,1,0.123456789")
    do(settings, "import", str(path), "--market", NAME, "--resolution", "1h", "--cut")
    found = hours(stored(settings))
    assert (found["high_units"].item(), found["volume_units"][0, 0].item()) == (199_999_999, 12_345_678)


def test_the_size_is_the_distance_if_that_is_one_that_is_kept(settings: Settings) -> None:
    for step, name in ((1, "1s"), (60, "1m"), (3_600, "1h"), (86_400, "1d")):
        path = csv_file(settings, *(f"{TODAY - step * place},1,1,1,1,1" for place in (1, 2, 5)))
        assert do(settings, "import", str(path), "--market", NAME) == f"{NAME} {name}: 3 written\n"
    path = csv_file(settings, *(f"{TODAY - 300 * place},1,1,1,1,1" for place in (1, 2)))
    ran = run(settings, "import", str(path), "--market", NAME)
    assert (ran.status, "--resolution" in ran.text) == (1, True)


def test_days_begin_in_the_time_zone_of_the_settings(settings: Settings) -> None:
    conf = settings.markets_file.with_name("exchange.toml")
    conf.write_text('[market]\ntime_zone = "Europe/Berlin"\n')
    path = csv_file(settings, "2024-03-31,1,1,1,1,1", "2024-04-01,1,1,1,1,1", "2024-04-02,1,1,1,1,1")
    do(settings, "import", str(path), "--market", NAME, "--resolution", "1d")
    assert of(stored(settings), NAME).candles[Resolution.DAY]["start"].tolist() == [1711839600, 1711922400, 1712008800]
    path = csv_file(settings, "2024-04-02T00:00:00Z,1,1,1,1,1")
    ran = run(settings, "import", str(path), "--market", NAME, "--resolution", "1d")
    assert "no candle of 1d begins at 2024-04-02T02:00:00+02:00" in ran.text


def test_larger_candles_are_made_of_smaller_ones(settings: Settings) -> None:
    rows = [(TODAY - 3_600, 5, 9, 4, 6), (TODAY - 60, 6, 7, 2, 3), (TODAY, 8, 8, 8, 8)]
    path = csv_file(settings, *(f"{start},{first},{high},{low},{close},2" for start, first, high, low, close in rows))
    told = do(settings, "import", str(path), "--market", NAME, "--resolution", "1m", "--larger")
    assert told == f"{NAME} 1m: 3 written\n{NAME} 1h: 2 written\n{NAME} 1d: 2 written\n"
    for size, start in ((Resolution.HOUR, TODAY - 3_600), (Resolution.DAY, TODAY - 86_400)):
        first, second = of(stored(settings), NAME).candles[size].tolist()
        assert first[:5] == (start, 5 * PRICE, 3 * PRICE, 9 * PRICE, 2 * PRICE)
        assert (first[5][0], second[0], second[1]) == (4 * PRICE, TODAY, 8 * PRICE)


def test_candles_that_are_there_stay(settings: Settings) -> None:
    found = trade(settings)
    do(settings, "rebuild")
    hour = int(found["time"][0]) // 3_600 * 3_600
    path = csv_file(settings, *(f"{start},7,7,7,7,7" for start in (hour - 3_600, hour, hour + 3_600)))
    told = do(settings, "import", str(path), "--market", NAME)
    assert told == f"{NAME} 1h: 1 written, 2 there already\n"
    wanted = candles(hour - 3_600, price=7 * PRICE, volume=7 * PRICE, money=0)
    assert_equal(hours(stored(settings)), np.concatenate((wanted, made_of(found, 3_600))))
    assert do(settings, "import", str(path), "--market", NAME) == f"{NAME} 1h: 3 there already\n"
    assert do(settings, "import", str(path), "--market", NAME, "--replace") == f"{NAME} 1h: 3 written\n"
    assert hours(stored(settings))["open_units"][:3].tolist() == [7 * PRICE] * 3


def test_candles_that_are_too_old_are_left_out(settings: Settings) -> None:
    path = csv_file(settings, f"{TODAY - 366 * 86_400},1,1,1,1,1", f"{TODAY},1,1,1,1,1")
    told = do(settings, "import", str(path), "--market", NAME, "--resolution", "1m")
    assert told == f"{NAME} 1m: 1 written, 1 too old to be kept\n"
    packed = path.with_suffix(".csv.gz")
    packed.write_bytes(gzip.compress(path.read_bytes()))
    assert "1 there already" in do(settings, "import", str(packed), "--market", NAME, "--resolution", "1m")


def test_the_redis_of_another_server_is_copied(settings: Settings, group: Group) -> None:
    candle = '["1.5", "2", "2.5", "1", "3", "4.25"]'
    deal = json.dumps({"id": 900, "time": 1.5, "price": "2", "amount": "1", "type": "buy"})
    with group.master.client(1) as client:
        client.hset(f"k:{NAME}:1h", mapping={str(TODAY): candle, str(TODAY - 3_600): candle})
        client.hset(f"k:{NAME}:1d", str(TODAY), candle)
        client.set(f"k:{NAME}:last", "2.50000000")
        client.rpush(f"k:{NAME}:deals", deal)
        client.set("k:offset", "899")
        before = sorted(client.keys())
    path = csv_file(settings, f"{TODAY},7,7,7,7,7")
    do(settings, "import", str(path), "--market", NAME, "--resolution", "1h")
    told = do(settings, "import", group.address(1))
    assert told == f"{NAME} 1h: 1 written, 1 there already\n{NAME} 1d: 1 written\n"
    part = of(stored(settings), NAME)
    assert part.last_units == 25 * 10**7
    assert not len(part.ticks)
    assert part.candles[Resolution.HOUR]["open_units"].tolist() == [15 * 10**7, 7 * PRICE]
    with group.master.client(1) as client:
        assert sorted(client.keys()) == before
    for arguments, status, part_of_text in (
        ([group.address(2)], 1, "no candles"),
        ([group.address(1), "--market", "XY"], 2, "there is no market XY, only BTCUSD"),
        ([group.address(1) + "x"], 2, "is not sentinel://"),
        ([str(path)], 2, "--market"),
    ):
        ran = run(settings, "import", *arguments)
        assert (ran.status, part_of_text in ran.text) == (status, True), ran.text


def test_candles_go_into_redis_too(settings: Settings, group: Group) -> None:
    conf = settings.markets_file.with_name("exchange.toml")
    conf.write_text(f'[market]\nstore = "{group.address(5)}"\n')
    found = trade(settings)
    path = csv_file(settings, f"{TODAY - 3 * 86_400},7,7,7,7,7")
    do(settings, "import", str(path), "--market", NAME, "--resolution", "1d")
    do(settings, "rebuild")
    assert "that is the store" in run(settings, "import", group.address(5)).text
    with closing(RedisStore(group.address(5))) as store:
        loaded = store.load(listed(settings), EVER)
    assert_equal(of(loaded, NAME).ticks, ticks_of(found))
    wanted = candles(TODAY - 3 * 86_400, price=7 * PRICE, volume=7 * PRICE, money=0)
    assert_equal(of(loaded, NAME).candles[Resolution.DAY], np.concatenate((wanted, made_of(found, 86_400))))
