"""The admin port of a running exchange: many rows while it trades, clients that mean no good, snapshots, restarts."""

import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress

import numpy as np
import psutil
import pytest

from bus.codes import Code
from bus.messages import COMMAND, CommandKind, Records, Side
from supervisor import lock
from tests.process.admin_client import AdminClient, admin
from tests.process.exchange import PATIENCE_S, POLL_S, Running, exchange, free_ports

USER_COUNT = 100_000  # with two assets each
FIRST_USER = 10
TRADERS = (1, 2)
BTC, USD, BTCUSD = "BTC", "USD", "BTCUSD"
DEPOSIT = 10**15  # units of 10^-8
LOT = 10**6
BATCH = 5_000
CONNECTIONS = 2_000
MIB = 1 << 20
GROWTH_MAX = 40 * MIB
HEAD = "user       asset            type       amount"
ROW = re.compile(r"(\d+) +(\S+) +(available|freeze) +([0-9.e-]+)")


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    bind = f"127.0.0.1:{free_ports(1)[0]}"
    with exchange(tmp_path_factory.mktemp("admin"), admin={"bind": bind}) as started, ExitStack() as stuck:
        yield started
        for _ in range(3):  # it stops in order in the middle of answers that nobody reads
            stuck.enter_context(admin(bind)).socket.sendall(b"balance list\n" * 100)
        started.pit("down")


@pytest.fixture
def client(running: Running) -> Iterator[AdminClient]:
    with admin(running.settings.admin.bind) as client:
        yield client


@pytest.fixture(scope="module")
def process(running: Running) -> psutil.Process:
    return psutil.Process(running.pid("admin"))


@pytest.fixture(autouse=True)
def unshaken(running: Running, process: psutil.Process) -> Iterator[None]:
    """The process is the same one afterwards, has logged nothing, and serves."""
    yield
    assert process.is_running()
    with admin(running.settings.admin.bind) as client:
        assert client.ask("help").count("\n") == 4
    assert not (running.settings.paths.logs_dir / "admin.log").read_text()


def wait_until(is_so: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(POLL_S)


def asset_numbers(running: Running) -> tuple[int, int]:
    names = [row["name"] for row in running.call("asset.list")]
    return names.index(BTC), names.index(USD)


def send(running: Running, commands: Records) -> None:
    """Have all of them carried out, over the bus."""
    with running.client() as bus:
        for start in range(0, len(commands), BATCH):
            bus.send(commands[start : start + BATCH])
            codes = bus.receive(int(PATIENCE_S * 1000)).records["code"]
            assert (codes == Code.OK).all(), codes


def deposits(first_user: int, count: int, assets: tuple[int, ...]) -> Records:
    commands = np.zeros(count * len(assets), COMMAND)
    commands["kind"] = CommandKind.UPDATE_BALANCE
    commands["user_id"] = np.repeat(np.arange(first_user, first_user + count), len(assets))
    commands["asset"] = np.tile(assets, count)
    commands["subject_id"] = 1
    commands["change_units"][:, 0] = DEPOSIT
    return commands


def trades(count: int) -> Records:
    """Orders of one lot at one price, a seller's and a buyer's in turn: each pair trades."""
    commands = np.zeros(2 * count, COMMAND)
    commands["kind"] = CommandKind.PUT_LIMIT
    commands["user_id"] = np.tile(TRADERS, count)
    commands["side"] = np.tile([Side.ASK, Side.BID], count)
    commands["amount_units"] = LOT
    commands["price_units"] = 100
    return commands


@pytest.fixture(scope="module")
def crowd(running: Running) -> None:
    """Two hundred thousand balances, and two users who can trade."""
    assets = asset_numbers(running)
    send(running, deposits(FIRST_USER, USER_COUNT, assets))
    send(running, deposits(TRADERS[0], 2, assets))


@pytest.fixture
def trading(running: Running, crowd: None) -> Iterator[list[int]]:
    """Two users trade without pause; the list has how many times they have."""
    is_over, failed, done = threading.Event(), list[BaseException](), [0]

    def trade() -> None:
        try:
            while not is_over.is_set():
                send(running, trades(100))
                done[0] += 100
        except BaseException as error:
            failed.append(error)

    thread = threading.Thread(target=trade)
    thread.start()
    yield done
    is_over.set()
    thread.join()
    assert not failed, failed


def memory_size(process: psutil.Process) -> int:
    """Bytes that are the process's alone: what it shares with others is theirs too."""
    return int(process.memory_full_info().uss)


def entries(text: str) -> dict[tuple[int, str, str], str]:
    """The rows of a list, each of which must be there once and whole."""
    head, *lines = text.splitlines()
    assert head == HEAD
    found = {}
    for line in lines:
        match = ROW.fullmatch(line)
        assert match, line
        user_id, asset, kind, amount = match.groups()
        assert (int(user_id), asset, kind) not in found, line
        found[int(user_id), asset, kind] = amount
    return found


def test_a_list_of_all_balances_while_there_is_trading(
    process: psutil.Process, client: AdminClient, trading: list[int]
) -> None:
    client.ask("balance list")
    before_size, before_count = memory_size(process), trading[0]
    wait_until(lambda: trading[0] > before_count)
    found = entries(client.ask("balance list"))
    wait_until(lambda: trading[0] > before_count + 100)
    crowd_amounts = {
        (user_id, asset): amount for (user_id, asset, kind), amount in found.items() if user_id not in TRADERS
    }
    assert len(crowd_amounts) == 2 * USER_COUNT
    assert set(crowd_amounts.values()) == {f"{DEPOSIT // 10**8}.{'0' * 20}"}
    for amount in (amount for (user_id, asset, _), amount in found.items() if user_id in TRADERS and asset == BTC):
        assert int(amount.replace(".", "")) % (LOT * 10**12) == 0, amount  # in whole lots: no row was half written
    assert memory_size(process) - before_size < GROWTH_MAX


def test_who_does_not_read_a_long_list_costs_next_to_nothing(
    running: Running, process: psutil.Process, client: AdminClient, crowd: None
) -> None:
    before_size = memory_size(process)
    with admin(running.settings.admin.bind) as stuck:
        stuck.socket.sendall(b"balance list\n" * 100)
        wait_until(lambda: bool(stuck.socket.recv(1, socket.MSG_PEEK)))
        assert client.ask("balance get 10").startswith(HEAD)
        assert memory_size(process) - before_size < GROWTH_MAX
        size = sum(1 for line in client.ask("balance list USD").splitlines())
        assert size > USER_COUNT
        while not stuck.socket.recv(1 << 20).count(b"\n10 "):
            pass


@pytest.mark.parametrize(
    "data",
    [
        b"x" * 10_000,
        b"balance list " * 10_000 + b"\n",
        bytes(range(256)) * 40,
        b"\0" * 5_000,
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        b"\n" * 100_000,
        b"\x16\x03\x01" + b"\xff" * 600 + b"\n",
        b"'" * 4_000 + b"\n",
        b'"\\' * 2_000 + b"\n",
        b"balance get " + b"9" * 4_000 + b"\n",
        b"balance get " + b"0x" + b"f" * 4_000 + b"\n",
        b"a " * 2_000 + b"\n",
    ],
    ids=lambda data: repr(data[:12]),
)
def test_nonsense_hurts_nobody(running: Running, client: AdminClient, data: bytes) -> None:
    with admin(running.settings.admin.bind) as foe:
        with suppress(OSError):  # it has ended the connection by now
            foe.socket.sendall(data)
            foe.socket.shutdown(socket.SHUT_WR)
        received = foe.rest()
        assert re.fullmatch(rb"(command not found\n|user .*\n|[0-9]+ .*\n)*", received), received[:300]
    assert client.ask("nope") == "command not found\n"


def test_quotes_that_are_not_closed_have_no_answer(client: AdminClient) -> None:
    assert client.ask("balance 'list") == ""
    assert client.ask('"balance" "get" "4294967295"') == HEAD + "\n"


def test_thousands_of_connections_leave_room_for_who_is_there(
    running: Running, process: psutil.Process, client: AdminClient
) -> None:
    assert client.ask("nope") == "command not found\n"
    opened = []
    try:
        for _ in range(CONNECTIONS):
            with suppress(OSError):
                host, _, port = running.settings.admin.bind.rpartition(":")
                opened.append(socket.create_connection((host, int(port)), timeout=PATIENCE_S))
        assert client.ask("nope") == "command not found\n"
        assert len(process.net_connections()) < 100
    finally:
        for connection in opened:
            connection.close()
    wait_until(lambda: is_served(running))


def is_served(running: Running) -> bool:
    try:
        with admin(running.settings.admin.bind) as client:
            return client.ask("help") != ""
    except (OSError, AssertionError):
        return False


def snapshots(running: Running) -> dict[str, int]:
    return {path.name: path.stat().st_mtime_ns for path in running.settings.paths.snapshots_dir.glob("*.snapshot")}


def test_makeslice_writes_a_snapshot_of_what_there_is(running: Running, client: AdminClient) -> None:
    for _ in range(2):  # the second one at once: it is only put off a little
        running.call("balance.update", 7, BTC, "deposit", time.monotonic_ns(), "1", {})
        sequence = int(client.ask("status").splitlines()[2].split()[-1]) + 1  # the listing is a command too
        assert client.ask("makeslice") == "OK\n"
        wait_until(lambda: f"{sequence:020d}.snapshot" in snapshots(running))  # noqa: B023  # done with in this turn


def test_an_idle_process_does_next_to_nothing(process: psutil.Process, client: AdminClient) -> None:
    before = sum(process.cpu_times()[:2])
    time.sleep(2.0)
    assert sum(process.cpu_times()[:2]) - before < 0.1


def test_it_outlives_the_matcher(running: Running, client: AdminClient) -> None:
    """A connection stays, and tells what is the case."""
    pid = running.pid("matcher")
    psutil.Process(pid).kill()
    wait_until(lambda: running.status()["matcher"]["state"] == "ready" and running.pid("matcher") != pid)
    wait_until(lambda: client.ask("status").startswith("order last ID: "))
    assert lock.is_held(running.settings.paths)
