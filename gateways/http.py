"""The `http` process: gunicorn with our worker class and our application, configured by our settings."""

import logging
import os
import sys
from typing import Any

from gunicorn.app.base import BaseApplication
from gunicorn.arbiter import Arbiter

from conf import ready
from conf.settings import Settings
from gateways.app import Gateway

BACKLOG = 2048  # connections that the kernel holds until a worker takes them
WORKER_TIMEOUT_S = 10  # a worker whose loop stands still so long is killed


class Application(BaseApplication):  # type: ignore[misc]  # gunicorn has no types
    """Gunicorn's view of the gateway: what to serve, and how."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        super().__init__()

    def load_config(self) -> None:
        http = self._settings.http
        options: dict[str, Any] = {
            "bind": http.bind,
            "workers": http.workers,
            "worker_class": "gateways.worker.Worker",
            "backlog": BACKLOG,
            "timeout": WORKER_TIMEOUT_S,
            "graceful_timeout": int(http.drain_timeout_s) + 1,
            "control_socket_disable": True,
            "proc_name": f"tradepit {self._settings.instance}: http",
            "errorlog": "-",
            "loglevel": "warning",
            "user": os.geteuid(),  # gunicorn's own defaults are those of when it was imported, before a change of user
            "group": os.getegid(),
        }
        for name, value in options.items():
            self.cfg.set(name, value)

    def load(self) -> Gateway:
        return Gateway(self._settings)


class BeatingArbiter(Arbiter):  # type: ignore[misc]  # gunicorn has no types
    """Tells the supervisor that its loop turns, once in each round of looking after the workers."""

    def murder_workers(self) -> None:
        super().murder_workers()
        ready.beat()


def main(settings: Settings) -> int:
    """Serve until told to stop; the exit status."""
    logging.basicConfig(stream=sys.stderr, level=logging.INFO)
    try:
        BeatingArbiter(Application(settings)).run()
    except SystemExit as stop:
        return int(stop.code or 0)
    return 0
