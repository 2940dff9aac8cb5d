"""What must hold when the supervisor is asked to start anew, and something else happens in that moment."""

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from conf.settings import Settings
from supervisor import desk
from supervisor.main import Supervisor
from supervisor.table import Wanted


@pytest.fixture
def supervisor(tmp_path: Path) -> Iterator[Supervisor]:
    settings = Settings(data_dir=tmp_path, instance=f"handover-{os.getpid()}")
    settings.paths.make()
    table = [Wanted(name="a", module="nothing")]
    made = Supervisor(settings, lambda _: settings, lambda _: None, lambda: None, lambda _: table)
    made.is_up = True
    yield made
    made._close()


def test_who_is_told_to_stop_does_not_start_anew(supervisor: Supervisor) -> None:
    desk.answer(supervisor, {"do": "again", "form": 1})
    desk.answer(supervisor, {"do": "stop"})
    assert not supervisor.is_again_due


def test_a_signal_in_that_moment_is_not_lost(supervisor: Supervisor) -> None:
    before = {
        number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD)
    }
    try:
        supervisor._catch_signals()
        desk.answer(supervisor, {"do": "again", "form": 1})
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(0)
        assert not supervisor._is_leaving()
        assert supervisor.is_stopping
    finally:
        signal.set_wakeup_fd(-1)
        for number, handler in before.items():
            signal.signal(number, handler)
