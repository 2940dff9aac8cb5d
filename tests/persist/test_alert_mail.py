"""Alerts by mail, against a real mail server: plain, STARTTLS with a password, TLS; what goes wrong shows no secret."""

import socket
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from urllib.parse import quote

import pytest

from conf.alert_record import Alert
from conf.operations import Alert as Settings
from persist import alert_mail
from persist.alert_digest import of
from persist.alert_mail import Mail, Server
from persist.alert_targets import Undelivered
from tests.persist.alert_sinks import HOST, PASSWORD, REFUSED, USER, MailServer, certificate, mail_server

ALERT = Alert(time="2026-01-31T10:00:00+00:00", instance="main", process="matcher", text="die Platte ist voll: 1 €")
SENDER, RECEIVERS = "exchange@example.com", ("ops@example.com", "boss@example.com")


def mail(url: str, receivers: tuple[str, ...] = RECEIVERS) -> Mail:
    return Mail(Settings(smtp=url, mail_from=SENDER, mail_to=receivers), "main")


def with_user(scheme: str, port: int, host: str = HOST) -> str:
    return f"{scheme}://{quote(USER, safe='')}:{quote(PASSWORD, safe='')}@{host}:{port}"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return certificate(tmp_path_factory.mktemp("certificate")).parent


@pytest.fixture
def starttls(folder: Path) -> Iterator[MailServer]:
    with mail_server(folder) as server:
        yield server


@pytest.fixture
def _trusting(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(folder / "cert.pem"))


def test_a_mail() -> None:
    with mail_server() as server:
        mail(f"smtp://{HOST}:{server.port}").deliver(of([ALERT]))
    (message,) = server.messages
    assert message["Subject"] == "[main] matcher: die Platte ist voll: 1 €"
    assert (message["From"], message["To"]) == (SENDER, ", ".join(RECEIVERS))
    assert message["Date"]
    assert message["Message-ID"].endswith("@example.com>")
    assert message["Auto-Submitted"] == "auto-generated"
    assert "  matcher: die Platte ist voll: 1 €" in message.get_content()
    assert server.receivers == [list(RECEIVERS)]
    assert server.were_encrypted == [False]


@pytest.mark.parametrize("answer", ["421 too late", "250 OK", "500 what?"])
def test_what_is_said_after_a_mail_does_not_have_it_sent_again(answer: str) -> None:
    with mail_server() as server:
        server.answer_to_quit = answer
        mail(f"smtp://{HOST}:{server.port}").deliver(of([ALERT]))
    assert len(server.messages) == 1


def test_a_server_that_never_ends_its_answer_is_not_listened_to() -> None:
    listener = socket.create_server((HOST, 0))

    def talk() -> None:
        stream, _ = listener.accept()
        with stream, suppress(OSError):
            stream.sendall(b"220 hello\r\n")
            while True:
                stream.sendall(b"250-more\r\n" * 1_000)

    talker = threading.Thread(target=talk)
    talker.start()
    with pytest.raises(Undelivered, match="says too much"):
        mail(f"smtp://{HOST}:{listener.getsockname()[1]}").deliver(of([ALERT]))
    talker.join()
    listener.close()


def test_a_password_that_can_not_be_sent_is_not_shown() -> None:
    with mail_server() as server, pytest.raises(Undelivered) as found:
        mail(f"smtp://user:%E2%82%ACgeheim@{HOST}:{server.port}").deliver(of([ALERT]))
    assert "u20ac" not in str(found.value)
    assert "geheim" not in str(found.value)


@pytest.mark.usefixtures("_trusting")
def test_a_password_goes_through_starttls(starttls: MailServer) -> None:
    mail(with_user("smtp", starttls.port)).deliver(of([ALERT]))
    assert len(starttls.messages) == 1
    assert starttls.were_encrypted == [True]


@pytest.mark.usefixtures("_trusting")
@pytest.mark.filterwarnings("ignore:Requiring AUTH while not requiring TLS")  # the server does not see its own
def test_tls_from_the_first_byte(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with mail_server(folder, is_tls=True) as server:
        mail(with_user("smtps", server.port)).deliver(of([ALERT]))
        monkeypatch.setattr(alert_mail, "TIMEOUT_S", 0.2)
        with pytest.raises(Undelivered):  # it speaks nothing else
            mail(with_user("smtp", server.port)).deliver(of([ALERT]))
    assert len(server.messages) == 1


def test_a_password_is_not_given_to_who_can_not_prove_his_name(starttls: MailServer) -> None:
    with pytest.raises(Undelivered, match="CERTIFICATE_VERIFY_FAILED"):
        mail(with_user("smtp", starttls.port)).deliver(of([ALERT]))
    assert starttls.messages == []


def test_a_password_is_not_sent_unencrypted_to_another_machine() -> None:
    with mail_server() as server, pytest.raises(Undelivered, match="the server offers no STARTTLS"):
        mail(with_user("smtp", server.port, "127.1")).deliver(of([ALERT]))  # this machine, under a name that may be any
    assert server.messages == []


@pytest.mark.usefixtures("_trusting")
def test_a_wrong_password_is_not_shown(starttls: MailServer) -> None:
    with pytest.raises(Undelivered) as found:
        mail(f"smtp://user:geheim@{HOST}:{starttls.port}").deliver(of([ALERT]))
    assert str(found.value) == f"smtp://{HOST}:{starttls.port}: user and password are refused (code 535)"


def test_who_is_refused_does_not_keep_it_from_the_others() -> None:
    with mail_server() as server:
        mail(f"smtp://{HOST}:{server.port}", (REFUSED, *RECEIVERS)).deliver(of([ALERT]))
        assert server.receivers == [list(RECEIVERS)]
        with pytest.raises(Undelivered, match=f"all receivers are refused: {REFUSED}"):
            mail(f"smtp://{HOST}:{server.port}", (REFUSED,)).deliver(of([ALERT]))


def test_a_server_that_takes_none_or_is_not_there() -> None:
    with mail_server() as server:
        server.is_refusing = True
        with pytest.raises(Undelivered, match="try again later"):
            mail(f"smtp://{HOST}:{server.port}").deliver(of([ALERT]))
    with pytest.raises(Undelivered, match="ConnectionRefusedError"):
        mail(f"smtp://{HOST}:{server.port}").deliver(of([ALERT]))


def test_a_server_that_says_nothing_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(alert_mail, "TIMEOUT_S", 0.2)
    with socket.create_server((HOST, 0)) as silent, pytest.raises(Undelivered, match="timed out"):
        mail(f"smtp://{HOST}:{silent.getsockname()[1]}").deliver(of([ALERT]))


@pytest.mark.parametrize(
    ("url", "server"),
    [
        ("smtp://mail.example.com", Server(False, "mail.example.com", 25, "", "")),
        ("smtps://mail.example.com", Server(True, "mail.example.com", 465, "", "")),
        ("smtp://a%40b:c%3Ad@mail:587", Server(False, "mail", 587, "a@b", "c:d")),
        ("smtp://[::1]:2525", Server(False, "::1", 2525, "", "")),
    ],
)
def test_addresses(url: str, server: Server) -> None:
    assert Settings(smtp=url, mail_from=SENDER, mail_to=RECEIVERS).smtp == url
    assert Server.parse(url) == server
