"""The `market` process: k-lines, prices and deals from events, and answers about them."""

import time

from conf.ready import beat, ready
from conf.settings import Settings
from conf.stopping import Stopping


def main(settings: Settings) -> int:
    """Run until told to stop; the exit status."""
    stopping = Stopping()
    ready()
    while not stopping:
        beat()
        time.sleep(0.1)
    return 0
