"""Asking the HTTP gateway how it is, as any monitor does: GET /health."""

import http.client
from typing import NamedTuple

TIMEOUT_S = 2.0


class Health(NamedTuple):
    """The status of the reply, or what went wrong instead; and the body."""

    status: str
    body: bytes = b""


def fetch_health(bind: str) -> Health:
    """Ask the gateway that is bound to an address."""
    connection = http.client.HTTPConnection(reachable(bind), timeout=TIMEOUT_S)
    try:
        connection.request("GET", "/health")
        reply = connection.getresponse()
        return Health(str(reply.status), reply.read())
    except (OSError, http.client.HTTPException) as error:
        return Health(str(error))
    finally:
        connection.close()


def reachable(bind: str) -> str:
    """An address that can be connected to, for one that may mean all of the machine's."""
    host, _, port = bind.rpartition(":")
    return {"0.0.0.0": "127.0.0.1", "[::]": "[::1]"}.get(host, host) + f":{port}"
