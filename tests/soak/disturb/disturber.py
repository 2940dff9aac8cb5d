"""The thread that lets things go wrong, one at a time, with a quiet time between, and measures until all is right."""

import random
import threading
import time
from typing import NamedTuple, Self

from tests.soak.disturb.actions import Action, a_round
from tests.soak.disturb.probes import rows
from tests.soak.servers import Servers

QUIET_S = 2.0  # at least, between the end of one trouble and the next
QUIET_MORE_S = 2.0  # at most in addition
BACK_TIMEOUT_S = 90.0
POLL_S = 0.003


class Done(NamedTuple):
    """A trouble that was made."""

    kind: str
    target: str
    at_s: float  # since the beginning
    back_s: float  # until all was right again


class Disturber:
    """`done` is what has happened, `faults` what did not come back."""

    def __init__(self, servers: Servers, seed: int) -> None:
        self.done: list[Done] = []
        self.faults: list[str] = []
        self._servers = servers
        self._draw = random.Random(seed)
        self._began_s = time.monotonic()
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="soak-disturb")

    def __enter__(self) -> Self:
        """Begin."""
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Return when the last trouble is over."""
        self._is_over.set()
        self._thread.join()

    def _run(self) -> None:
        actions: list[Action] = []
        try:
            while not self._is_over.wait(QUIET_S + self._draw.random() * QUIET_MORE_S):
                actions = actions or a_round(self._servers, self._draw)
                self._take(actions.pop())
        except Exception as error:
            self.faults.append(f"the disturber ended: {type(error).__name__}: {error}")

    def _take(self, action: Action) -> None:
        began_s = time.monotonic()
        is_back = action.do()
        while not is_back():
            if time.monotonic() > began_s + BACK_TIMEOUT_S:
                self.faults.append(f"{action.kind} {action.target}: not back after {BACK_TIMEOUT_S:g} s")
                break
            time.sleep(POLL_S)
        back_s = time.monotonic() - began_s
        self.done.append(Done(action.kind, action.target, began_s - self._began_s, back_s))
        self._settle(action)

    def _settle(self, action: Action) -> None:
        """Wait until every process is ready: the next trouble is to come alone."""
        deadline_s = time.monotonic() + BACK_TIMEOUT_S
        while {row["state"] for row in rows(self._servers.running).values()} != {"ready"}:
            if time.monotonic() > deadline_s:
                self.faults.append(f"{action.kind} {action.target}: not all processes were ready again")
                return
            time.sleep(10 * POLL_S)
