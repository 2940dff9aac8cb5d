"""Telling systemd how the exchange is (sd_notify(3)): ready, alive, stopping. Without systemd nobody is told."""

import contextlib
import os
import socket

WATCHDOG_SHARE = 3  # heartbeats in the time after which systemd takes the supervisor for dead


def tell(**state: str | int) -> None:
    """Send lines like READY=1. What can't be sent is not sent: systemd has its own time limits."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address.startswith(("/", "@")):
        return
    place = "\0" + address[1:] if address.startswith("@") else address
    lines = "\n".join(f"{name}={value}" for name, value in state.items())
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.setblocking(False)
        systemd.connect(place)
        systemd.send(lines.encode())


class Watchdog:
    """The heartbeat that `WatchdogSec=` of the unit asks for; call `turn` in the loop."""

    def __init__(self) -> None:
        is_ours = os.environ.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
        time_us = int(os.environ.get("WATCHDOG_USEC", "0")) if is_ours else 0
        self._interval_s = time_us / 1e6 / WATCHDOG_SHARE
        self._due_at = 0.0

    def turn(self, now: float) -> None:
        """Beat, if it is time to."""
        if self._interval_s and now >= self._due_at:
            self._due_at = now + self._interval_s
            tell(WATCHDOG=1)
