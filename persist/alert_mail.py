"""Alerts by mail: one message for a digest, over SMTP."""

import ipaddress
import smtplib
import ssl
from contextlib import suppress
from email.message import EmailMessage
from email.utils import formatdate, make_msgid
from typing import Any, NamedTuple, Self
from urllib.parse import unquote, urlsplit

from conf.alert import say
from conf.operations import Alert as Settings
from persist.alert_digest import Digest, body, subject
from persist.alert_files import START, Position
from persist.alert_targets import Undelivered

TIMEOUT_S = 20.0  # for each answer of the server
REPLIES_MAX_SIZE = 64 * 1024  # bytes of all answers for one mail
PORTS = {"smtp": 25, "smtps": 465}


class Server(NamedTuple):
    """A mail server, as `[alert] smtp` names it."""

    is_tls: bool  # from the first byte on
    host: str
    port: int
    user: str
    password: str

    @classmethod
    def parse(cls, url: str) -> Self:
        """Take the setting apart; its form has been checked."""
        parts = urlsplit(url)
        return cls(
            parts.scheme == "smtps",
            parts.hostname or "",
            parts.port or PORTS[parts.scheme],
            unquote(parts.username or ""),
            unquote(parts.password or ""),
        )

    @property
    def is_here(self) -> bool:
        """Whether it is on this machine."""
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return self.host == "localhost"

    def __str__(self) -> str:
        return f"{'smtps' if self.is_tls else 'smtp'}://{self.host}:{self.port}"


class _Replies:
    """What a server says over one connection, which may not go on for ever: smtplib collects whole answers."""

    def __init__(self, file: Any) -> None:
        self._file = file
        self._left_size = REPLIES_MAX_SIZE

    def readline(self, size: int) -> bytes:
        line: bytes = self._file.readline(size)
        self._left_size -= len(line)
        if self._left_size < 0:
            raise OSError("the server says too much")
        return line

    def close(self) -> None:
        self._file.close()


class _Bounded(smtplib.SMTP):
    file: Any

    def getreply(self) -> tuple[int, bytes]:
        if self.file is None and self.sock is not None:  # at first, and anew with STARTTLS
            self.file = _Replies(self.sock.makefile("rb"))
        return super().getreply()


class _BoundedTls(_Bounded, smtplib.SMTP_SSL):
    pass


class Mail:
    """A mailbox, behind a server."""

    name = "mail"

    def __init__(self, settings: Settings, instance: str) -> None:
        self._server = Server.parse(settings.smtp)
        self._sender = settings.mail_from
        self._receivers = settings.mail_to
        self._instance = instance

    def make_outbox(self) -> Digest:
        """An empty one."""
        return Digest()

    def deliver(self, outbox: Digest, follower: str = "", begin: Position = START, end: Position = START) -> None:
        """Send it as one mail. Raises Undelivered.

        When some of the receivers are refused, the others have it, and that is a delivery.
        """
        message = self._message(outbox)
        try:
            connection = self._connected()
            try:
                refused = connection.send_message(message, self._sender, self._receivers)
                _say_goodbye(connection)
            finally:
                connection.close()
        except (smtplib.SMTPException, OSError, ValueError) as error:
            raise Undelivered(f"{self._server}: {_reason(error)}") from None
        if refused:
            say(f"{self._server} refuses mail for {', '.join(refused)}")

    def close(self) -> None:
        """Nothing is open between two mails."""

    def _message(self, digest: Digest) -> EmailMessage:
        message = EmailMessage()
        message["From"] = self._sender
        message["To"] = ", ".join(self._receivers)
        message["Subject"] = subject(digest, self._instance)
        message["Date"] = formatdate()
        message["Message-ID"] = make_msgid(domain=self._sender.rpartition("@")[2])
        message["Auto-Submitted"] = "auto-generated"  # so that no absence assistant answers
        message.set_content(body(digest))
        return message

    def _connected(self) -> smtplib.SMTP:
        server = self._server
        if server.is_tls:
            return self._logged_in(
                _BoundedTls(server.host, server.port, timeout=TIMEOUT_S, context=ssl.create_default_context())
            )
        connection = _Bounded(server.host, server.port, timeout=TIMEOUT_S)
        try:
            connection.ehlo()
            if connection.has_extn("starttls"):
                connection.starttls(context=self._context())
            elif server.password and not server.is_here:
                raise smtplib.SMTPNotSupportedError(
                    "the server offers no STARTTLS; the password is not sent unencrypted"
                )
        except BaseException:
            connection.close()
            raise
        return self._logged_in(connection)

    def _logged_in(self, connection: smtplib.SMTP) -> smtplib.SMTP:
        try:
            if self._server.password:
                connection.login(self._server.user, self._server.password)
        except BaseException:
            connection.close()
            raise
        return connection

    def _context(self) -> ssl.SSLContext:
        """With a password the server must prove who it is; without one, mail servers seldom can."""
        context = ssl.create_default_context()
        if not self._server.password:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        return context


def _say_goodbye(connection: smtplib.SMTP) -> None:
    """The mail is taken: whatever the server says to QUIT must not have it sent again."""
    with suppress(smtplib.SMTPException, OSError):
        connection.quit()


def _reason(error: Exception) -> str:
    """What went wrong, without what a server may repeat of the password."""
    if isinstance(error, smtplib.SMTPAuthenticationError):
        return f"user and password are refused (code {error.smtp_code})"
    if isinstance(error, smtplib.SMTPRecipientsRefused):
        return f"all receivers are refused: {', '.join(error.recipients)}"
    if isinstance(error, UnicodeError):  # its text has a part of the password
        return "user and password must be ASCII"
    return f"{type(error).__name__}: {error}"
