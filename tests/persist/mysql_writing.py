"""A process that writes a history, for tests to kill: store, instance and a file of frames are its arguments.

It tells the number of the last event stored, at its start and after each write, one a line.
"""

import pickle
import sys
from contextlib import closing
from dataclasses import replace
from pathlib import Path

from bus.messages import unpack
from conf.settings import History, load
from persist.mysql_store import MySqlWriter

FRAMES_A_WRITE = 3


def main(store: str, instance: str, frames_file: Path) -> None:
    """Write what is not stored yet."""
    datas, catalog = pickle.loads(frames_file.read_bytes())
    settings = replace(load(None, frames_file.parent), instance=instance, history=History(store=store))
    with closing(MySqlWriter(settings)) as writer:
        number = writer.open()
        print(number, flush=True)
        frames = [frame for frame in map(unpack, datas) if frame.first > number]
        for place in range(0, len(frames), FRAMES_A_WRITE):
            part = frames[place : place + FRAMES_A_WRITE]
            writer.write(part, catalog)
            print(part[-1].first + len(part[-1].records) - 1, flush=True)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], Path(sys.argv[3]))
