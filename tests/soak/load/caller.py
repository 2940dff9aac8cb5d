"""One connection through nginx, with TLS, over which JSON-RPC is called; it is made anew when it breaks."""

import http.client
import json
import ssl
import time
from collections import Counter
from typing import Any

from tests.process.nginx import NAME, Front

HOST = "127.0.0.1"
TIMEOUT_S = 20.0  # longer than nginx waits for the gateway
IN_DOUBT = (2, 5)  # codes of errors that leave open whether it was done

Reply = dict[str, Any]


class Caller:
    """Times what it asks and counts what is not answered, in what it is given."""

    def __init__(self, front: Front, latencies_s: dict[str, list[float]], unanswered: Counter[str]) -> None:
        self._front = front
        self._latencies_s = latencies_s
        self._unanswered = unanswered
        self._connection: http.client.HTTPSConnection | None = None

    def call(self, method: str, *params: Any) -> Reply | None:
        """The whole reply; None when there is none, or one that leaves open what was done."""
        began_s = time.monotonic()
        reply = self.post(json.dumps({"id": 1, "method": method, "params": params}).encode())
        if reply is None or ((error := reply["error"]) is not None and error["code"] in IN_DOUBT):
            self._unanswered[method] += 1
            return None
        self._latencies_s[method].append(time.monotonic() - began_s)
        return reply

    def post(self, body: bytes) -> Reply | None:
        """The reply to any bytes, None for what is no reply of the exchange."""
        try:
            connection = self._connected()
            connection.request("POST", "/", body, {"Host": NAME})
            answer = connection.getresponse()
            text = answer.read()
            if answer.will_close:
                self.close()
        except (OSError, http.client.HTTPException):
            self.close()
            return None
        try:
            reply = json.loads(text)
        except ValueError:  # nothing, or a page of nginx
            return None
        return reply if isinstance(reply, dict) and "error" in reply else None

    def close(self) -> None:
        """Disconnect."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _connected(self) -> http.client.HTTPSConnection:
        if self._connection is None:
            context: ssl.SSLContext = self._front.tls
            self._connection = http.client.HTTPSConnection(HOST, self._front.port, context=context, timeout=TIMEOUT_S)
        return self._connection
