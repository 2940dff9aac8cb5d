"""kill -9 of a writer, again and again: every command that was said to be synced is there, and none is twice."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.disk.making import SEGMENT_SIZE, batch, open_journal, sequences

ROUNDS = 8


def write_for_ever(directory: Path) -> None:
    """Append batches of all sizes, synced now and then, and print every sequence that is synced."""
    shape = random.Random(os.getpid())
    with open_journal(directory, segment_size=SEGMENT_SIZE) as journal:
        while True:
            for _ in range(shape.choice([1, 1, 5])):
                frame = batch(journal.appended + 1, shape.choice([1, 2, 50, 200]), unsynced=journal.unsynced_count)
                while not journal.has_room(len(frame)):
                    pass
                journal.append(frame)
            if shape.random() < 0.5:
                journal.sync_now()
            else:
                journal.sync_soon()
            os.write(1, b"%d\n" % journal.synced)


@pytest.mark.timeout(120)
def test_every_acknowledged_command_survives(tmp_path: Path) -> None:
    directory = tmp_path / "journal"
    directory.mkdir()
    acknowledged = 0
    for number in range(ROUNDS):
        output = tmp_path / f"output-{number}"
        with output.open("wb") as stream:
            command = [sys.executable, "-c", f"{IMPORTS}; write_for_ever(Path({str(directory)!r}))"]
            writer = subprocess.Popen(command, stdout=stream)
        while output.stat().st_size < 800 and writer.poll() is None:
            time.sleep(0.005)
        time.sleep(random.Random(number).random() / 20)
        writer.send_signal(signal.SIGKILL)
        assert writer.wait() == -signal.SIGKILL
        tickets = [int(line) for line in output.read_bytes().splitlines()[:-1]]
        assert tickets == sorted(tickets)
        acknowledged = max(acknowledged, *tickets)
        found = sequences(directory)
        assert found == list(range(1, len(found) + 1))
        assert len(found) >= acknowledged > 0


IMPORTS = f"from pathlib import Path; from {__name__} import write_for_ever"
