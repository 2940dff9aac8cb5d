"""The `history` processes: answers from the store of the history."""

import time

from conf.ready import beat, ready
from conf.settings import Settings
from conf.stopping import Stopping


def main(settings: Settings, index: int) -> int:
    """Run until told to stop; the exit status."""
    stopping = Stopping()
    ready()
    while not stopping:
        beat()
        time.sleep(0.1)
    return 0
