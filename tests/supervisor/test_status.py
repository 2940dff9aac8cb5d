"""What `pit status` makes of the supervisor's answer and of what the processes have told."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from bus.eventlog import Writer
from bus.positions import Position
from conf.settings import Http, Settings, load
from supervisor import control, status
from tests.bus.making import frame
from tests.process.exchange import free_ports
from tests.supervisor.test_act import run


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Nobody answers on its port."""
    return replace(load(None, tmp_path), http=Http(bind=f"127.0.0.1:{free_ports(1)[0]}"))


def tell(settings: Settings, name: str, number: int) -> None:
    position = Position(settings.paths.positions_dir, name)
    position.tell(number)
    position.close()


def row(name: str) -> status.Document:
    return {"name": name, "state": "ready", "pid": 0, "uptime_s": 3.0, "restart_count": 0, "changed_settings": []}


def answer(event_number: int, *names: str) -> status.Document:
    """What a supervisor may say."""
    head = {"ok": True, "instance": "test", "state": "up", "uptime_s": 5.0, "event_number": event_number}
    return head | {"processes": [row(name) for name in names]}


def test_who_stores_events_shows_how_many_are_left(settings: Settings) -> None:
    tell(settings, "recorder", 1_766)
    tell(settings, "market", 3_005)  # it went on after the supervisor had looked
    facts = status.gather(settings, answer(3_000, "matcher", "recorder", "market"))
    assert {row["name"]: row["behind_count"] for row in facts["processes"]} == {
        "matcher": None,
        "recorder": 1_234,
        "market": 0,
    }
    assert facts["event_number"] == 3_000
    assert facts["sequence"] is None
    json.dumps(facts)
    head, *lines = status.table(facts).splitlines()[1:]
    assert head.split()[-1] == "behind"
    assert [line.split()[-1] for line in lines] == ["-", "1,234", "0"]


def test_the_supervisor_tells_how_far_the_event_log_is(tmp_path: Path) -> None:
    with run(tmp_path, "a=steady") as running:
        running.wait_ready()
        assert control.ask(running.paths, {"do": "status"})["event_number"] == 0
        log = Writer(running.paths.events_dir, segment_size=1 << 20)
        log.append(frame(1, 7))
        log.mark_durable(5)
        assert control.ask(running.paths, {"do": "status"})["event_number"] == 5
        log.close()
