"""Where the sockets of the bus are, by the settings."""

from dataclasses import replace

import pytest

from bus.endpoints import place
from conf.settings import Bus, Settings

HOST = "tcp://10.0.0.1:7300"


@pytest.mark.parametrize(
    ("bus", "name", "index", "wanted"),
    [
        (Bus(bind=HOST), "commands", 0, "tcp://10.0.0.1:7300"),
        (Bus(bind=HOST), "market", 0, "tcp://10.0.0.1:7303"),
        (Bus(bind=HOST), "history", 2, "tcp://10.0.0.1:7306"),
        (Bus(bind=HOST, market="tcp://10.0.0.2:7400"), "market", 0, "tcp://10.0.0.2:7400"),
        (Bus(bind=HOST, market="tcp://10.0.0.2:7400"), "history", 0, "tcp://10.0.0.1:7304"),
        (Bus(bind=HOST, history="tcp://10.0.0.3:7400"), "history", 1, "tcp://10.0.0.3:7401"),
        (Bus(bind=HOST, history="tcp://10.0.0.3:7400"), "commands", 0, "tcp://10.0.0.1:7300"),
        (Bus(market="tcp://10.0.0.2:7400"), "market", 0, "tcp://10.0.0.2:7400"),
    ],
)
def test_where_a_process_answers(bus: Bus, name: str, index: int, wanted: str) -> None:
    assert place(replace(Settings(), bus=bus), name, index) == wanted


def test_beside_the_others_it_is_a_file() -> None:
    settings = Settings()
    assert place(settings, "history", 1) == f"ipc://{settings.paths.sockets_dir}/history1.sock"
