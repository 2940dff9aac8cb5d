"""Frames of events that need no meaning, only their numbers."""

import numpy as np

from bus.messages import EVENT, EventKind, Frame, FrameKind, pack


def frame(first: int, count: int, *, blob: bytes = b"") -> bytes:
    """`count` events from number `first`; each carries its number a second time."""
    events = np.zeros(count, EVENT)
    events["number"] = events["order"]["id"] = np.arange(first, first + count)
    events["kind"] = EventKind.ORDER_PUT
    return pack(FrameKind.EVENTS, events, blob, first=first, time=float(first))


def numbers(frames: "list[Frame]") -> list[int]:
    """The numbers of all events, taken from both of their places."""
    found = [int(event["number"]) for each in frames for event in each.records]
    assert found == [int(event["order"]["id"]) for each in frames for event in each.records]
    assert all(each.first == each.records["number"][0] for each in frames)
    return found
