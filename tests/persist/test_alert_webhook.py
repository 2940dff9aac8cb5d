"""Alerts to a webhook, against a real web server; its address, which may be a secret, is in no error."""

import socket

import pytest

from conf.alert_record import Alert
from persist import alert_webhook
from persist.alert_digest import of
from persist.alert_targets import Undelivered
from persist.alert_webhook import Webhook
from tests.persist.alert_sinks import HOST, web_server

ALERT = Alert(
    time="2026-01-31T10:00:00+00:00",
    instance="main",
    process="matcher",
    text="full \udcff",
    where="engine/matcher.py:1(look)",
    origin="udp 10.0.0.7",
)
SECRET = "geheim-4711"


def webhook(port: int, name: str = HOST) -> Webhook:
    return Webhook(f"http://{name}:{port}/services/{SECRET}?key={SECRET}", "main")


def test_a_document() -> None:
    with web_server() as server:
        webhook(server.port).deliver(of([ALERT, ALERT]))
    assert server.paths == [f"/services/{SECRET}?key={SECRET}"]
    (document,) = server.documents
    assert document.pop("text").startswith("[main] matcher: full")
    assert document == {
        "instance": "main",
        "alerts": [
            {
                "time": "2026-01-31T10:00:00+00:00",
                "last_time": "2026-01-31T10:00:00+00:00",
                "count": 2,
                "instance": "main",
                "process": "matcher",
                "text": "full ?",
                "where": "engine/matcher.py:1(look)",
                "from": "udp 10.0.0.7",
            }
        ],
        "more": 0,
        "dropped": 0,
    }


@pytest.mark.parametrize("status", [302, 400, 404, 500, 503])
def test_any_other_status_is_a_failure(status: int) -> None:
    with web_server() as server:
        server.status = status
        with pytest.raises(Undelivered) as found:
            webhook(server.port).deliver(of([ALERT]))
        assert str(found.value) == f"http://{HOST}:{server.port}: it answers with status {status}"
        server.status = 200
        webhook(server.port).deliver(of([ALERT]))
    assert len(server.documents) == 1


def test_nobody_is_there() -> None:
    with web_server() as server:
        port = server.port
    for name, why in ((HOST, "Connection refused"), ("nowhere.invalid", "")):
        with pytest.raises(Undelivered) as found:
            webhook(port, name).deliver(of([ALERT]))
        assert f"http://{name}:{port}: " in str(found.value)
        assert why in str(found.value)
        assert SECRET not in str(found.value)


def test_a_server_that_says_nothing_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(alert_webhook, "ANSWER_TIMEOUT_S", 0.2)
    with socket.create_server((HOST, 0)) as silent, pytest.raises(Undelivered) as found:
        webhook(silent.getsockname()[1]).deliver(of([ALERT]))
    assert SECRET not in str(found.value)
