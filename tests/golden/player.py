"""Plays conversations recorded from ViaBTC Exchange Server and compares the replies byte for byte.

Each `<name>-<seed>.jsonl` here was recorded from the original C system over HTTP, from a fresh start: no users, no
orders, ids from 1, the assets and markets of its first line. Each further line is a raw request with the status and
the raw text of its reply, or a wait. Only wall-clock times are masked. Whoever records more puts the file here.
"""

import http.client
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

FOLDER = Path(__file__).parent
TIMEOUT_S = 10.0
_TIME = re.compile(r"\b1[5-9]\d{8}(\.\d+)?\b")


class Answer(NamedTuple):
    """An HTTP reply, times masked."""

    status: int
    text: str


class Call(NamedTuple):
    """One recorded request, what the original answered and what was answered now."""

    number: int
    body: str
    wanted: Answer
    got: Answer

    @property
    def method(self) -> str:
        """The method that was called, or "" when the body is no proper call."""
        try:
            return str(json.loads(self.body)["method"])
        except (ValueError, KeyError, TypeError):
            return ""

    @property
    def agrees(self) -> bool:
        return self.wanted == self.got

    def __str__(self) -> str:
        return f"call {self.number}: {self.body[:300]}\n  want {self.wanted}\n  got  {self.got}"


def files(*names: str) -> list[Path]:
    """The recordings of these kinds."""
    return [path for name in names for path in sorted(FOLDER.glob(f"{name}-*.jsonl"))]


def listing(path: Path) -> dict[str, Any]:
    """The assets and markets that a recording needs, in ViaBTC's form."""
    with path.open(encoding="utf-8") as file:
        config: dict[str, Any] = json.loads(file.readline())["config"]
    return config


def play(path: Path, host: str, port: int, wait: Callable[[], object]) -> Iterator[Call]:
    """Play a recording against a fresh server.

    A wait gave the original's writers their time; `wait` is called instead, and returns when ours have caught up.
    """
    server = Server(host, port)
    with path.open(encoding="utf-8") as file:
        rows = list(map(json.loads, file))[1:]
    number = 0
    for row in rows:
        if "wait" in row:
            wait()
            continue
        number += 1
        yield Call(number, row["body"], Answer(row["status"], masked(row["reply"])), server.post(row["body"]))
    server.close()


class Server:
    """A keep-alive connection, made anew when the server has closed it: after a refusal it does so without a word."""

    def __init__(self, host: str, port: int) -> None:
        self._address = host, port
        self._connection: http.client.HTTPConnection | None = None

    def post(self, body: str) -> Answer:
        """POST a body, once more on a new connection if a used one was found closed."""
        if self._connection is None:
            return self._post(body)
        try:
            return self._post(body)
        except (http.client.RemoteDisconnected, ConnectionError):
            self.close()
            return self._post(body)

    def close(self) -> None:
        """Close the connection, if there is one."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _post(self, body: str) -> Answer:
        self._connection = self._connection or http.client.HTTPConnection(*self._address, timeout=TIMEOUT_S)
        self._connection.request("POST", "/", body.encode(), {"Content-Type": "application/json"})
        reply = self._connection.getresponse()
        answer = Answer(reply.status, masked(reply.read().decode()))
        if reply.will_close:
            self.close()
        return answer


def masked(text: str) -> str:
    return _TIME.sub("T", text)
