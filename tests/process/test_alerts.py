"""A whole exchange that tells its operator: a process dies, and that is in Redis as the original writes it, in the
mailbox and at the webhook; other machines' alerts too; `pit alerts` shows them.
"""

import json
import os
import re
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from bus.alerts import AlertSender
from bus.endpoints import address
from conf.operations import MIB
from persist.alert_wire import MAGIC
from supervisor.cli import EXIT_INTERRUPTED
from tests.market.sentinels import Group, sentinels
from tests.persist.alert_sinks import HOST, MailServer, WebServer, alert_list, mail_server, until, web_server
from tests.process.exchange import PIT, Running, exchange, free_ports

FLOOD_COUNT = 10_000
KILLED = "history-0 ended: killed by SIGKILL; it is started again"


@pytest.fixture(scope="module")
def group(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Group]:
    with sentinels(tmp_path_factory.mktemp("redis")) as running:
        yield running


@pytest.fixture(scope="module")
def mailbox() -> Iterator[MailServer]:
    with mail_server() as server:
        yield server


@pytest.fixture(scope="module")
def webhook() -> Iterator[WebServer]:
    with web_server() as server:
        yield server


@pytest.fixture(scope="module")
def running(
    tmp_path_factory: pytest.TempPathFactory, group: Group, mailbox: MailServer, webhook: WebServer
) -> Iterator[Running]:
    settings = {
        "bind": f"{HOST}:{free_ports(1)[0]}",
        "store": group.address(),
        "smtp": f"smtp://{HOST}:{mailbox.port}",
        "mail_from": "exchange@example.com",
        "mail_to": ["ops@example.com"],
        "webhook_url": f"http://{HOST}:{webhook.port}/hook",
        "digest_interval_s": 1,
    }
    with exchange(tmp_path_factory.mktemp("alerts"), alert=settings) as found:
        yield found


def elements(group: Group) -> list[str]:
    return [element.decode(errors="replace") for element in alert_list(group)]


def rows(webhook: WebServer) -> list[dict[str, Any]]:
    return [row for document in list(webhook.documents) for row in document["alerts"]]


def mails(mailbox: MailServer) -> str:
    return "\n".join(f"{message['Subject']}\n{message.get_content()}" for message in list(mailbox.messages))


def place(running: Running) -> tuple[str, int]:
    return HOST, int(running.settings.alert.bind.rpartition(":")[2])


def test_a_process_that_dies_is_told_everywhere(
    running: Running, group: Group, mailbox: MailServer, webhook: WebServer
) -> None:
    os.kill(running.pid("history-0"), signal.SIGKILL)
    until(lambda: any(KILLED in element for element in elements(group)), running.logs)
    (element,) = [element for element in elements(group) if KILLED in element]
    assert re.fullmatch(
        rf"supervisor: \[fatal\]supervisor/main\.py:\d+\(_report_failure\): {re.escape(KILLED)}", element
    )
    until(lambda: KILLED in mails(mailbox), running.logs)
    until(lambda: any(row["text"] == KILLED for row in rows(webhook)), running.logs)
    assert sum(row["count"] for row in rows(webhook) if row["text"] == KILLED) == 1


def test_the_alertcenter_itself_may_die_and_nothing_is_lost_or_doubled(
    running: Running, group: Group, mailbox: MailServer, webhook: WebServer
) -> None:
    text = "alertcenter ended: killed by SIGKILL; it is started again"
    os.kill(running.pid("alertcenter"), signal.SIGKILL)
    until(lambda: text in mails(mailbox), running.logs)
    until(lambda: any(row["text"] == text for row in rows(webhook)), running.logs)
    until(lambda: any(text in element for element in elements(group)), running.logs)
    for what in (text, KILLED):
        assert sum(what in element for element in elements(group)) == (running.alerts().count(what))
    assert running.alerts().count(text) == 1


def test_an_old_process_and_another_machine_are_heard(running: Running, group: Group, webhook: WebServer) -> None:
    text = b"matchengine: [fatal]me_server.c:900(svr_on_recv_pkg): service unavailable, code: 3 \xff"
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.sendto(MAGIC + text + b"\n", place(running))
    with socket.create_connection(place(running), timeout=60) as stream:
        stream.sendall(MAGIC + b"accessws: [fatal]aw_http.c:1(f): by tcp\r\n")
        settings = running.settings
        with AlertSender(address(settings.bus.bind, settings.paths.sockets_dir, "alerts"), "main", "replica-2") as bus:
            bus.alert("by the bus")
            until(lambda: any(row["text"] == "by the bus" for row in rows(webhook)), running.logs)
    until(lambda: text in alert_list(group), running.logs)
    assert b"accessws: [fatal]aw_http.c:1(f): by tcp" in alert_list(group)


def test_a_flood_costs_little_and_is_told_by_its_number(running: Running, webhook: WebServer) -> None:
    process, where = psutil.Process(running.pid("alertcenter")), place(running)
    before = process.memory_info().rss
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        for _ in range(FLOOD_COUNT):
            sender.sendto(MAGIC + b"marketprice: [fatal]mp.c:1(f): flood\n", where)

    def told() -> int:
        taken: int = sum(row["count"] for row in rows(webhook) if row["text"] == "flood")
        dropped: int = sum(document["dropped"] for document in list(webhook.documents))
        return taken + dropped

    until(lambda: told() == FLOOD_COUNT, lambda: (told(), running.logs()))
    assert process.memory_info().rss - before < 20 * MIB
    assert psutil.Process(running.pid("alertcenter")) == process


def say(running: Running, line: bytes) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.sendto(MAGIC + line + b"\n", place(running))


def test_pit_alerts_shows_them(running: Running) -> None:
    for _ in range(5):
        say(running, b"marketprice: [fatal]mp.c:1(f): shown")
    until(lambda: running.alerts().count("): shown") + running.alerts().count('"shown"') >= 5, running.logs)
    shown = running.pit("alerts").stdout
    assert re.search(r"marketprice +5 +shown", shown)
    lines = [json.loads(line) for line in running.pit("alerts", "--json", "-n", "5").stdout.splitlines()]
    assert len(lines) == 5
    assert all({"time", "instance", "process", "text", "where"} <= line.keys() for line in lines)


def test_pit_alerts_follows_them(running: Running) -> None:
    say(running, b"accesshttp: [fatal]ah.c:1(f): one of before")
    until(lambda: "one of before" in running.alerts(), running.logs)
    command = [*PIT, "alerts", "--follow", "--conf", str(running.conf_file)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            while "one of before" not in process.stdout.readline():
                pass
            say(running, b"accesshttp: [fatal]ah.c:1(f): \x1b[2J now")
            while "accesshttp: \N{REPLACEMENT CHARACTER}[2J now\n" not in process.stdout.readline():
                pass
            process.send_signal(signal.SIGINT)
            assert process.wait(60) == EXIT_INTERRUPTED
        finally:
            process.kill()


def test_pit_alerts_test_says_what_arrives(
    running: Running, group: Group, mailbox: MailServer, webhook: WebServer
) -> None:
    done = running.pit("alerts", "test")
    said = dict(line.split(": ", 1) for line in done.stdout.splitlines())
    assert said.keys() == {"file", "alertcenter", "redis", "mail", "webhook"}
    assert said["alertcenter"] == "runs"
    assert said["mail"] == "sent to ops@example.com"
    assert sum("this is a test of alerts" in element for element in elements(group)) == 1
    assert "this is a test of alerts" in mails(mailbox)
    assert any("this is a test" in row["text"] for row in rows(webhook))
    webhook.status = 500
    try:
        done = running.pit("alerts", "test", check=False)
    finally:
        webhook.status = 200
    assert done.returncode == 1
    assert f"webhook: failed: http://{HOST}:{webhook.port}: it answers with status 500" in done.stdout


def test_an_exchange_whose_alerts_arrive_nowhere_starts_and_trades(tmp_path: Path) -> None:
    silent = free_ports(3)
    settings = {
        "store": f"sentinel://{HOST}:{silent[0]}/mymaster/0",
        "smtp": f"smtp://{HOST}:{silent[1]}",
        "mail_from": "exchange@example.com",
        "mail_to": ["ops@example.com"],
        "webhook_url": f"http://{HOST}:{silent[2]}/hook",
    }
    with exchange(tmp_path, alert=settings) as running:
        os.kill(running.pid("history-0"), signal.SIGKILL)
        until(lambda: "do not arrive (mail)" in running.alerts(), running.logs)
        running.call("balance.update", 1, "BTC", "deposit", 1, "10", {})
        assert running.status()["alertcenter"]["restart_count"] == 0
        assert "alertcenter: runs" in running.pit("alerts", "test", check=False).stdout
        running.pit("down")
        said = running.pit("logs", "supervisor", "-n", "1000").stdout
        assert said.index("matcher: ended") < said.index("alertcenter: stopping") < said.index("alertcenter: ended")
