"""The texts of the admin port over a state of odd values, and what it says when there is no state."""

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.lib.recfunctions import drop_fields

from bus.messages import FrameKind, Side, pack
from bus.positions import Position
from conf.operations import Kafka
from conf.settings import Settings
from engine.opening import Opened
from engine.reader import Reader
from engine.recovery import events_frames
from engine.schema import MemoryState
from gateways.admin import desk
from gateways.admin.desk import Desk
from tests.engine.opened import opened, private_settings
from tests.reference.records import Command, limit, to_records, update

LONG, STOCK, MONEY, ODD, EMPTY = range(5)
LISTING = {
    "assets": [
        {"name": "ABCDEFGHIJKLMNO", "prec_save": 0},
        {"name": "STOCK", "prec_save": 8},
        {"name": "MONEY", "prec_save": 4},
        {"name": "Ünï cödé", "prec_save": 30, "prec_show": 8},
        {"name": "EMPTY", "prec_save": 8},
    ],
    "markets": [
        {
            "name": "STOCKMONEY",
            "stock": {"name": "STOCK", "prec": 4},
            "money": {"name": "MONEY", "prec": 0},
            "fee_prec": 4,
            "min_amount": "0.0001",
        },
        {
            "name": "FIFTEEN-LETTERS",
            "stock": {"name": "STOCK", "prec": 0},
            "money": {"name": "MONEY", "prec": 0},
            "fee_prec": 4,
            "min_amount": "1",
        },
    ],
}
LAST_USER = 2**32 - 1
COMMANDS = [
    update(1, LONG, 12345678901234567890123456789, 1),
    update(LAST_USER, LONG, 7, 1),
    update(2, ODD, 1, 1),
    update(3, MONEY, 100_0000, 1),
    update(4, STOCK, 1_0000_0000, 1),
    update(5, EMPTY, 5, 1),
    update(5, EMPTY, -5, 2),  # takes the entry away
    # of what the seller gets, the fee takes everything, for it is rounded up: a zero stays (CONTRACT 2.4)
    limit(4, 0, Side.ASK, 1, 1, maker_rate_units=1),
    limit(3, 0, Side.BID, 1, 1),
    limit(4, 0, Side.ASK, 5000, 3),
    limit(3, 1, Side.BID, 20, 2),
]
HEAD = "user       asset            type       amount\n"
LINES = {
    1: ["1          ABCDEFGHIJKLMNO  available  12345678901234567890123456789\n"],
    LAST_USER: ["4294967295 ABCDEFGHIJKLMNO  available  7\n"],
    2: ["2          Ünï cödé     available  1.0000000000000000000000e-8\n"],  # 16 bytes, as C counts
    3: [
        "3          STOCK            available  0.00010000\n",
        "3          MONEY            available  59.9999\n",
        "3          MONEY            freeze     40.0000\n",
    ],
    4: [
        "4          STOCK            available  0.49990000\n",
        "4          STOCK            freeze     0.50000000\n",
        "4          MONEY            available  0.0000\n",
    ],
    5: [],
}
EVERY_LINE = [line for lines in LINES.values() for line in lines]


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    markets_file = tmp_path / "odd.json"
    markets_file.write_text(json.dumps(LISTING))
    return replace(private_settings(tmp_path), markets_file=markets_file)


@pytest.fixture
def parts(settings: Settings) -> Iterator[Opened]:
    with opened(settings) as parts:
        do(parts, COMMANDS)
        yield parts


def do(parts: Opened, commands: list[Command], *, is_durable: bool = True) -> None:
    """Apply commands as the matcher does, and tell their events."""
    exchange, records = parts.exchange, to_records(commands)
    applied = exchange.apply(records, 100.0)
    assert not applied.results["code"].any(), applied.results["code"]
    first = exchange.sequence - len(commands) + 1
    hashed = exchange.results_hash
    parts.journal.append(pack(FrameKind.COMMANDS, records, first=first, time=100.0, results_hash=hashed, sealed=True))
    for frame in events_frames(applied.events, b"", 100.0):
        parts.events.append(frame)
    if is_durable:
        assert parts.journal.sync_now()
        parts.events.mark_durable(exchange.event_number)
    exchange.header["beat"] = time.monotonic()


def asking(settings: Settings, ask_snapshot: Callable[[], None] = lambda: None) -> Callable[[str], str]:
    """What answers a line."""
    made = Desk(settings, Reader(settings.paths.state_name), ask_snapshot)
    return lambda line: b"".join(made.answer(f"{line}\n".encode())).decode()


@pytest.mark.parametrize("user_id", LINES)
def test_a_users_balances_are_in_base_form(settings: Settings, parts: Opened, user_id: int) -> None:
    ask = asking(settings)
    wanted = HEAD + "".join(LINES[user_id])
    assert ask(f"balance get {user_id}") == wanted
    assert ask(f"balance get {user_id:#x}") == wanted
    assert ask(f"balance get '{user_id}and more'") == wanted


def test_minus_one_is_the_last_user(settings: Settings, parts: Opened) -> None:
    assert asking(settings)("balance get -1") == HEAD + LINES[LAST_USER][0]


@pytest.mark.parametrize("line", ["balance get", "balance get 1 2"])
def test_one_user_is_asked_for(settings: Settings, parts: Opened, line: str) -> None:
    assert asking(settings)(line) == "usage: balance get user_id\n"


def test_the_list_has_every_entry_once(settings: Settings, parts: Opened) -> None:
    for line in ("balance list", "balance list STOCK MONEY"):  # two assets are no asset
        head, *listed = asking(settings)(line).splitlines(keepends=True)
        assert head == HEAD
        assert sorted(listed) == sorted(EVERY_LINE)


@pytest.mark.parametrize("name", [asset["name"] for asset in LISTING["assets"]])
def test_the_list_of_an_asset(settings: Settings, parts: Opened, name: str) -> None:
    wanted = [line for line in EVERY_LINE if line[11:].startswith(f"{name} ")]
    head, *listed = asking(settings)(f'balance list "{name}"').splitlines(keepends=True)
    assert head == HEAD
    assert sorted(listed) == sorted(wanted)


@pytest.mark.parametrize("name", ["stock", "STOC", "STOCKS", "''", "'STOCK '"])
def test_of_an_asset_that_there_is_not_the_list_is_empty(settings: Settings, parts: Opened, name: str) -> None:
    assert asking(settings)(f"balance list {name}") == HEAD


def test_the_sums_of_balances(settings: Settings, parts: Opened) -> None:
    odd_units, zero = "1.0000000000000000000000e-8", "0"
    rows = [
        ("asset", "total", "available", "available", "freeze", "freeze"),
        ("ABCDEFGHIJKLMNO", "12345678901234567890123456796", 2, "12345678901234567890123456796", 0, zero),
        ("STOCK", "1.00000000", 2, "0.50000000", 1, "0.50000000"),
        ("MONEY", "99.9999", 1, "59.9999", 1, "40.0000"),
        ("Ünï cödé", odd_units, 1, odd_units, 0, zero),
        ("EMPTY", zero, 0, zero, 0, zero),
    ]
    wanted = b"".join(
        b"%-16b %-30b %-10b %-30b %-10b %-30b\n" % tuple(str(column).encode() for column in row) for row in rows
    )
    assert asking(settings)("balance summary and more") == wanted.decode()


def test_the_sums_of_markets(settings: Settings, parts: Opened) -> None:
    rows = [
        ("market", "ask count", "ask amount", "bid count", "bid amount"),
        ("STOCKMONEY", 1, "0.5000", 0, "0"),
        ("FIFTEEN-LETTERS", 0, "0", 1, "20"),
    ]
    wanted = "".join("{:<10} {:<10} {:<20} {:<10} {:<20}\n".format(*row) for row in rows)
    assert asking(settings)("market summary") == wanted


@pytest.mark.parametrize(
    ("line", "wanted"),
    [
        ("help", "balance\nmakeslice\nstatus\nmarket\n"),
        ("balance", "usage: balance list/get/summary\n"),
        ("balance List", "usage: balance list/get/summary\n"),
        ("market", "usage market summary\n"),
        ("market list", "usage market summary\n"),
        ("STATUS", "command not found\n"),
        ("''", "command not found\n"),
        ("", ""),
        ("  ", ""),
        ("balance 'list", ""),
        ('balance "get"1', ""),
    ],
)
def test_words_decide(settings: Settings, parts: Opened, line: str, wanted: str) -> None:
    assert asking(settings)(line) == wanted


def counts(text: str) -> list[int]:
    """The numbers of a status, in its order."""
    return [int(line.rsplit(" ", 1)[1]) for line in text.splitlines()]


def test_status_counts_what_clients_asked_for(settings: Settings, parts: Opened) -> None:
    """The listing was a command of its own, which the original's log of operations has not."""
    ask, event_count = asking(settings), parts.exchange.event_number
    assert parts.exchange.sequence == len(COMMANDS) + 1
    assert ask("status") == (
        "order last ID: 4\ndeals last ID: 1\noperlog last ID: 11\noperlog pending: 0\n"
        f"history pending {event_count}\nmessage deals pending: 0\nmessage orders pending: 0\n"
        "message balances pending: 0\n"
    )


def test_status_tells_what_the_disk_has_not(settings: Settings, parts: Opened) -> None:
    ask = asking(settings)
    do(parts, [update(1, LONG, 1, number) for number in (10, 11, 12)], is_durable=False)
    assert counts(ask("status"))[2:4] == [len(COMMANDS) + 3, 3]
    parts.events.mark_durable(parts.exchange.event_number - 2)
    assert counts(ask("status"))[3] == 2
    parts.events.mark_durable(parts.exchange.event_number)
    assert counts(ask("status"))[3] == 0


def test_status_tells_how_far_the_others_are(settings: Settings, parts: Opened) -> None:
    event_count = parts.exchange.event_number
    for name, number in ((desk.RECORDER, event_count - 3), (desk.COURIER, event_count - 2)):
        position = Position(settings.paths.positions_dir, name)
        position.tell(number)
        position.close()
    assert counts(asking(settings)("status"))[4:] == [3, 0, 0, 0]  # no courier runs
    with_kafka = replace(settings, kafka=Kafka(brokers="127.0.0.1:9092"))
    assert counts(asking(with_kafka)("status"))[4:] == [3, 2, 2, 2]


def test_the_count_of_operations_comes_back_from_a_snapshot(settings: Settings) -> None:
    with opened(settings) as parts:
        do(parts, COMMANDS)
        content = parts.exchange.dump()
    counters = content["counters"]
    assert counters["configure_count"][0] == 1
    from_before_the_count = drop_fields(counters, "configure_count", usemask=False)
    for given in (counters, from_before_the_count):
        restored = type(parts.exchange).restore(
            parts.exchange.listing, content | {"counters": given}, parts.exchange.capacity
        )
        assert restored.header["configure_count"] == 1
        assert restored.sequence == len(COMMANDS) + 1


def test_makeslice_asks_and_says_so(settings: Settings, parts: Opened) -> None:
    asked: list[str] = []
    assert asking(settings, lambda: asked.append("asked"))("makeslice") == "OK\n"
    assert asked == ["asked"]


NEEDS_STATE = ["status", "balance list", "balance get 1", "balance summary", "market summary"]


@pytest.mark.parametrize("line", NEEDS_STATE)
def test_without_a_matcher_the_answer_says_so(settings: Settings, line: str) -> None:
    assert asking(settings)(line) == (
        f"no shared memory {settings.paths.state_name}: the matcher does not run on this machine\n"
    )


@pytest.mark.parametrize("line", NEEDS_STATE)
def test_a_matcher_that_has_died_is_told(settings: Settings, parts: Opened, line: str) -> None:
    parts.exchange.header["beat"] = time.monotonic() - 60
    assert asking(settings)(line) == "the matcher has stopped\n"
    parts.exchange.header["state"] = MemoryState.MAKING
    assert asking(settings)(line) == "the matcher is starting\n"


def test_a_list_that_meets_a_row_that_stays_locked_ends_with_a_word(settings: Settings, parts: Opened) -> None:
    """As a matcher leaves it that is killed in the middle of a row."""
    rows = parts.exchange.state.balances
    [place] = np.flatnonzero((rows["user_id"] == 2) & (rows["used"] != 0))
    rows["lock"][place] += 1
    try:
        text = asking(settings)("balance list")
    finally:
        rows["lock"][place] += 1
    assert text.endswith(desk.TORN.decode())
    assert LINES[2][0] not in text


def test_a_list_does_not_touch_what_nobody_has_touched(settings: Settings, parts: Opened) -> None:
    """A table of millions of places is to stay as small as what is in it."""
    file = Path("/dev/shm" + settings.paths.state_name)
    before = file.stat().st_blocks
    assert asking(settings)("balance list").count("\n") == 1 + len(EVERY_LINE)
    assert file.stat().st_blocks == before
