"""Alerts by mail: one message for a digest, over SMTP."""

import ipaddress
import smtplib
import ssl
from email.message import EmailMessage
from email.utils import formatdate, make_msgid
from typing import NamedTuple, Self
from urllib.parse import unquote, urlsplit

from conf.alert import say
from conf.operations import Alert as Settings
from persist.alert_digest import Digest, body, subject
from persist.alert_files import START, Position
from persist.alert_targets import Undelivered

TIMEOUT_S = 20.0  # for each answer of the server
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
            with self._connected() as connection:
                refused = connection.send_message(message, self._sender, self._receivers)
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
                smtplib.SMTP_SSL(server.host, server.port, timeout=TIMEOUT_S, context=ssl.create_default_context())
            )
        connection = smtplib.SMTP(server.host, server.port, timeout=TIMEOUT_S)
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


def _reason(error: Exception) -> str:
    """What went wrong, without what a server may repeat of the password."""
    if isinstance(error, smtplib.SMTPAuthenticationError):
        return f"user and password are refused (code {error.smtp_code})"
    if isinstance(error, smtplib.SMTPRecipientsRefused):
        return f"all receivers are refused: {', '.join(error.recipients)}"
    return f"{type(error).__name__}: {error}"
