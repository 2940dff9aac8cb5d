"""Alerts of processes on other machines, over the bus: a line of JSON for each, to the alertcenter.

    with AlertSender(address(bind, sockets_dir, "alerts"), "main", "replica-2") as sender:
        sender.alert("the journal differs")

On the exchange's own machine conf.alert does it: it loses nothing while the alertcenter is down. Here up to some
hundred alerts wait in memory for it.
"""

import sys
import time
from typing import Any, Self

import zmq

from bus.endpoints import ENDPOINTS
from conf.alert import place, say
from conf.alert_record import Alert, packed, time_text

CLOSE_LINGER_MS = 1_000  # for what has not left yet


class AlertSender:
    """One PUSH socket. Not for several threads at once."""

    def __init__(self, address: str, instance: str, process: str, context: "zmq.Context[Any] | None" = None) -> None:
        """Never fails for want of an alertcenter."""
        self._instance = instance
        self._process = process
        self._socket: Any = (context or zmq.Context.instance()).socket(zmq.PUSH)
        self._socket.setsockopt(zmq.LINGER, CLOSE_LINGER_MS)
        self._socket.set_hwm(ENDPOINTS["alerts"].high_water_count)
        self._socket.connect(address)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def alert(self, text: str) -> bool:
        """Send an alert, and write it on stderr; return whether it was taken (False: too many wait)."""
        say(f"ALERT {self._process}: {text}")
        alert = Alert(
            time=time_text(time.time()),
            instance=self._instance,
            process=self._process,
            text=text,
            where=place(sys._getframe(1)),
        )
        try:
            self._socket.send(packed(alert), zmq.NOBLOCK)
        except zmq.Again:
            say(f"ALERT {self._process}: this alert was dropped, too many wait")
            return False
        return True

    def close(self) -> None:
        """Close the socket; what has not left has CLOSE_LINGER_MS for it."""
        self._socket.close()
