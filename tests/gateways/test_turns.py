"""Taking turns."""

import socket

import gevent

from gateways.turns import give_way

READABLE = 1


def test_what_has_come_for_others_is_seen_before_it_goes_on() -> None:
    mine, others = socket.socketpair()
    with mine, others, gevent.get_hub().loop.io(mine.fileno(), READABLE) as watcher:
        seen: list[bytes] = []
        watcher.start(lambda: seen.append(mine.recv(1)))
        others.send(b"x")
        give_way()
        give_way()  # the first may be in the round that has looked already
        assert seen == [b"x"]
