"""A WSGI application's answer to a parsed request, for what is not JSON-RPC: small, whole, not streamed."""

import io
import sys
from collections.abc import Callable, Iterable
from typing import Any

from gateways.requests import Head

Application = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]
_OWN_HEADERS = ("content-length", "date", "server", "connection", "transfer-encoding")  # the connection's business


def answer(application: Application, address: tuple[str, int], head: Head, body: bytes) -> tuple[int, bytes, bytes]:
    """Status, header lines and body that `application` gives."""
    started: list[Any] = []

    def start_response(status: str, headers: list[tuple[str, str]], exc_info: object = None) -> Callable[[bytes], None]:
        started[:] = [status, headers]
        return parts.append

    parts: list[bytes] = []
    result = application(_environ(head, body, address), start_response)
    try:
        parts.extend(result)
    finally:
        close = getattr(result, "close", None)
        if close is not None:
            close()
    status, headers = started
    text = b"".join(parts)
    dropped = _OWN_HEADERS if text else (*_OWN_HEADERS, "content-type")
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers if name.lower() not in dropped)
    return int(status[:3]), lines.encode("latin-1"), text


def _environ(head: Head, body: bytes, address: tuple[str, int]) -> dict[str, Any]:
    path, _, query = head.url.partition(b"?")
    environ: dict[str, Any] = {
        "REQUEST_METHOD": head.method.decode("latin-1"),
        "SCRIPT_NAME": "",
        "PATH_INFO": path.decode("latin-1"),
        "QUERY_STRING": query.decode("latin-1"),
        "SERVER_NAME": address[0],
        "SERVER_PORT": str(address[1]),
        "SERVER_PROTOCOL": f"HTTP/{head.version}",
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": "http",
        "wsgi.input": io.BytesIO(body),
        "wsgi.errors": sys.stderr,
        "wsgi.multithread": False,
        "wsgi.multiprocess": True,
        "wsgi.run_once": False,
        "CONTENT_LENGTH": str(len(body)),
    }
    for name, value in head.headers:
        if b"_" in name:
            continue  # it would pass for the one with "-"
        key = name.decode("latin-1").upper().replace("-", "_")
        key = key if key in ("CONTENT_TYPE", "CONTENT_LENGTH") else f"HTTP_{key}"
        text = value.decode("latin-1")
        environ[key] = f"{environ[key]},{text}" if key in environ and key.startswith("HTTP_") else text
    return environ
