"""Real servers that take alerts: a mail server (aiosmtpd) and a web server, in threads, on free ports of 127.0.0.1.

with mail_server() as server:
    ... f"smtp://127.0.0.1:{server.port}" ...
    server.wait(1)
"""

import json
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from email import message_from_bytes, policy
from email.message import EmailMessage
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session

from persist.alert_redis import LIST_KEY
from tests.market.sentinels import Group
from tests.process.exchange import free_ports

HOST = "127.0.0.1"
PATIENCE_S = 60.0
POLL_S = 0.01
USER, PASSWORD = "alerts@example.com", "p@ss:w/rd%"
REFUSED = "nobody@example.com"  # a receiver that is refused


def until(is_so: Callable[[], bool], told: Callable[[], object] = lambda: "") -> None:
    """Wait until it is so."""
    deadline = time.monotonic() + PATIENCE_S
    while not is_so():
        assert time.monotonic() < deadline, told()
        time.sleep(POLL_S)


class MailServer:
    """A server and what it has taken."""

    def __init__(self, port: int, folder: Path | None = None, *, is_tls: bool = False) -> None:
        """With a folder, it has a certificate in it and wants `USER` and `PASSWORD`; `is_tls`: from the first byte."""
        self.port = port
        self.messages: list[EmailMessage] = []
        self.receivers: list[list[str]] = []
        self.were_encrypted: list[bool] = []
        self.is_refusing = False
        self.answer_to_quit = "221 Bye"
        options: dict[str, Any] = {}
        if folder is not None:
            options = {"authenticator": self._check, "auth_required": True, "auth_require_tls": not is_tls}
            options |= {"ssl_context" if is_tls else "tls_context": _context(folder)}
        self._controller = Controller(self, hostname=HOST, port=port, **options)

    async def handle_RCPT(  # noqa: N802
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        if address == REFUSED:
            return "550 nobody of that name"
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:  # noqa: N802
        if self.is_refusing:
            return "451 try again later"
        assert isinstance(envelope.content, bytes)
        self.messages.append(message_from_bytes(envelope.content, policy=policy.default))
        self.receivers.append(list(envelope.rcpt_tos))
        self.were_encrypted.append(session.ssl is not None)
        return "250 OK"

    async def handle_QUIT(self, server: SMTP, session: Session, envelope: Envelope) -> str:  # noqa: N802
        return self.answer_to_quit

    def start(self) -> None:
        self._controller.start()

    def stop(self) -> None:
        self._controller.stop()

    def wait(self, count: int) -> None:
        """Wait until it has taken so many messages."""
        until(lambda: len(self.messages) >= count, lambda: self.messages)

    def _check(self, server: SMTP, session: Session, envelope: Envelope, mechanism: str, found: object) -> AuthResult:
        is_right = isinstance(found, LoginPassword) and found == LoginPassword(USER.encode(), PASSWORD.encode())
        return AuthResult(success=is_right, handled=False)


@contextmanager
def mail_server(folder: Path | None = None, *, is_tls: bool = False) -> Iterator[MailServer]:
    """Start one, stop it at the end."""
    server = MailServer(free_ports(1)[0], folder, is_tls=is_tls)
    server.start()
    try:
        yield server
    finally:
        server.stop()


def certificate(folder: Path) -> Path:
    """A new certificate of 127.0.0.1, which vouches for itself, with its key beside it."""
    command = [
        *("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=tests"),
        *("-addext", "subjectAltName=IP:127.0.0.1,DNS:localhost"),
        *("-keyout", str(folder / "key.pem"), "-out", str(folder / "cert.pem")),
    ]
    subprocess.run(command, check=True, capture_output=True)
    return folder / "cert.pem"


def _context(folder: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "cert.pem", folder / "key.pem")
    return context


class WebServer:
    """A server and the documents that were posted to it."""

    def __init__(self) -> None:
        self.documents: list[dict[str, Any]] = []
        self.paths: list[str] = []
        self.status = 200
        sink = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                assert self.headers["Content-Type"] == "application/json"
                document = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                if sink.status == 200:
                    sink.documents.append(document)
                    sink.paths.append(self.path)
                self.send_response(sink.status)
                if sink.status == 302:
                    self.send_header("Location", "/elsewhere")
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
                pass

        self._server = ThreadingHTTPServer((HOST, 0), Handler)
        self.port = int(self._server.server_address[1])
        self._thread = threading.Thread(target=self._server.serve_forever, args=(POLL_S,))

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def wait(self, count: int) -> None:
        """Wait until it has taken so many documents."""
        until(lambda: len(self.documents) >= count, lambda: self.documents)


def alert_list(group: Group) -> list[bytes]:
    """The list in Redis, the oldest first."""
    with group.master.client() as client:
        elements: Any = client.lrange(LIST_KEY, 0, -1)
    return list(elements)


@contextmanager
def web_server() -> Iterator[WebServer]:
    """Start one, stop it at the end."""
    server = WebServer()
    server.start()
    try:
        yield server
    finally:
        server.stop()
