"""Waiting for the thread that speaks to a store, without being taken for a process that hangs."""

from concurrent.futures import Future, wait
from typing import TypeVar

from conf.ready import BEAT_INTERVAL_S, beat

Result = TypeVar("Result")


def waited(future: "Future[Result]") -> Result:
    """The result, and heartbeats until it is there. Raises what the thread raised."""
    while not wait([future], BEAT_INTERVAL_S).done:
        beat()
    return future.result()
