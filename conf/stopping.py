"""Whether this process has been told to end: a flag that its loop looks at."""

import signal


class Stopping:
    """True once TERM or INT has come. Make it in the main thread, before the loop."""

    def __init__(self) -> None:
        self._told = False
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._tell)

    def __bool__(self) -> bool:
        return self._told

    def _tell(self, *_: object) -> None:
        self._told = True
