"""Sentinels and servers that are none: whatever they answer is a RedisError, which who asks can try again after."""

import socket
import threading
from collections.abc import Iterator

import pytest
from redis.exceptions import RedisError

from bus.sentinels import Address, connect

MASTER = (b"name", b"m", b"ip", b"127.0.0.1", b"flags", b"master", b"num-other-sentinels", b"1")
NONSENSE = {
    "an integer": b":1\r\n",
    "nothing": b"$-1\r\n",
    "no list": b"+OK\r\n",
    "a list of something else": b"*1\r\n:1\r\n",
    "a list of lists": b"*1\r\n*1\r\n$1\r\na\r\n",
    "another protocol": b"HTTP/1.1 400 Bad Request\r\n\r\n",
    "bytes that are no text": b"*1\r\n$1\r\n\xff\r\n",
    "a length that is none": b"$abc\r\n",
}


class Liar:
    """A server that answers every question alike, but for what a client tells of itself."""

    def __init__(self, answer: bytes) -> None:
        self._answer = answer
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            try:
                stream, _ = self._listener.accept()
            except OSError:
                return
            with stream:
                while asked := stream.recv(65_536):
                    told_count = asked.upper().count(b"SETINFO")
                    stream.sendall(b"+OK\r\n" * told_count or self._answer)

    def stop(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join()


def entry(*words: bytes) -> bytes:
    """What a Sentinel says of one master."""
    return b"*1\r\n*%d\r\n" % len(words) + b"".join(b"$%d\r\n%b\r\n" % (len(word), word) for word in words)


@pytest.fixture
def liars() -> Iterator[list[Liar]]:
    found: list[Liar] = []
    yield found
    for liar in found:
        liar.stop()


def ask(liars: list[Liar], answer: bytes) -> None:
    liars.append(Liar(answer))
    connect(Address((("127.0.0.1", liars[-1].port),), "m", 0))


@pytest.mark.parametrize("answer", NONSENSE.values(), ids=list(NONSENSE))
def test_a_sentinel_that_is_none(liars: list[Liar], answer: bytes) -> None:
    with pytest.raises(RedisError):
        ask(liars, answer)


@pytest.mark.parametrize(
    "more",
    [
        (),
        (b"port", b"abc"),
        (b"port", b"99999999"),
        (b"port", b"1", b"ip", b"a" * 100),
        (b"port", b"1", b"ip", b"\xff"),
    ],
)
def test_a_master_that_can_not_be(liars: list[Liar], more: tuple[bytes, ...]) -> None:
    with pytest.raises(RedisError):
        ask(liars, entry(*MASTER, *more))


@pytest.mark.parametrize("answer", NONSENSE.values(), ids=list(NONSENSE))
def test_a_master_that_is_no_redis(liars: list[Liar], answer: bytes) -> None:
    liars.append(Liar(answer))
    with pytest.raises(RedisError):
        ask(liars, entry(*MASTER, b"port", b"%d" % liars[0].port))
