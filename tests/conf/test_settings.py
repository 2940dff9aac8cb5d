"""Settings: an empty file works, every wrong value is refused with its file, its key and what is needed."""

import re
from pathlib import Path

import pytest

from conf import markets
from conf.forms import is_address
from conf.rules import BadSettings, accepts, parse, rules
from conf.settings import DEFAULT_MARKETS_FILE, Settings, every_section, load, load_for

DESIGN_FILE = """
instance = "main"
data_dir = "data"
markets_file = "markets.json"
[journal]
sync = "always"
[http]
bind = "127.0.0.1:8080"
workers = 1
[ws]
bind = "127.0.0.1:8090"
workers = 1
auth_url = "http://127.0.0.1:8000/internal/exchange/user/auth"
sign_url = "http://127.0.0.1:8000/internal/exchange/user/api/auth"
[bus]
bind = "ipc"
[history]
store = "sqlite"
[market]
store = "file"
[kafka]
brokers = ""
[alert]
store = "file"
"""

WEBHOOK = '"", or an http:// or https:// address without user and password'
MAIL_SERVER = '"", smtp://host:port or smtps://user:password@host:port (`@` in a password is %40)'
REFUSED = [
    ('instence = "x"', "instence: there is no such setting; the nearest is instance"),
    ('[jurnal]\nsync = "always"', "jurnal: there is no such setting; the nearest is journal"),
    ('[journal]\nsnyc = "always"', "journal.snyc: there is no such setting; the nearest is journal.sync"),
    ("[bus]\nqqq = 1", "bus.qqq: there is no such setting; there are bus.bind"),
    ('[journal]\nsync = "never"', "journal.sync: `always` or `interval` is needed, not 'never'"),
    ("journal = 1", "journal: a section is needed, [journal], not 1"),
    ('instance = "a/b"', "instance: 1 to 32 letters, digits, `_` and `-` is needed, not 'a/b'"),
    ("data_dir = 5", "data_dir: a path in quotes is needed, not 5"),
    ("[http]\nworkers = true", "http.workers: an integer from 1 to 256 is needed, not True"),
    ("[http]\nworkers = 0", "http.workers: an integer from 1 to 256 is needed, not 0"),
    ("[http]\nworkers = 1.0", "http.workers: an integer from 1 to 256 is needed, not 1.0"),
    ("[http]\nrequest_timeout_s = nan", "http.request_timeout_s: a number from 0.1 to 3600 is needed, not nan"),
    ('[http]\nbind = "8080"', "http.bind: host:port is needed, not '8080'"),
    ('[http]\ncors_origins = "*"', "http.cors_origins: a list of texts in quotes is needed, not '*'"),
    ("[http]\ncors_origins = [1]", "http.cors_origins: a list of texts in quotes is needed, not (1,)"),
    ('[bus]\nbind = "tcp://*"', "bus.bind: `ipc` or tcp://host:port, with a port up to 65000 is needed, not 'tcp://*'"),
    ('[bus]\nbind = "tcp://h:65001"', "bus.bind: `ipc` or tcp://host:port, with a port up to 65000 is needed"),
    ('[bus]\nmarket = "ipc"', "bus.market: \"\" or tcp://host:port, with a port up to 65000 is needed, not 'ipc'"),
    ('[kafka]\nevents_topic = "a b"', "kafka.events_topic: up to 200 letters, digits, `.`, `_` and `-` is needed"),
    ('[market]\nevents = "kafka"', 'market.events: "kafka" needs [kafka] brokers and [kafka] events_topic'),
    ('[ws]\nevents = "kafka"\n[kafka]\nbrokers = "a:1"', 'ws.events: "kafka" needs [kafka] brokers and'),
    ('[ws]\nevents = "kafka"\n[kafka]\nevents_topic = "e"', 'ws.events: "kafka" needs [kafka] brokers and'),
    ('[kafka]\nbrokers = "a:1,b"', "kafka.brokers: \"\" or host:port,host:port is needed, not 'a:1,b'"),
    (
        '[history]\nstore = "mysql://h"',
        "history.store: `sqlite`, or mysql://user:password@host:port/database (`@` in a password is %40) is needed",
    ),
    (
        '[history]\nstore = "mysql://u:s3cret@h:port"',
        "history.store: `sqlite`, or mysql://user:password@host:port/database (`@` in a password is %40) is needed, not 'mysql://...'",
    ),
    (
        '[history]\nstore = "mysql://u:p@h:65536/d"',
        "history.store: `sqlite`, or mysql://user:password@host:port/database",
    ),
    ('[alert]\nsmtp = "smtp://user:s3cret@h:port"', f"alert.smtp: {MAIL_SERVER} is needed, not what it is set to"),
    ('[alert]\nsmtp = "http://h"', "alert.smtp: "),
    ('[alert]\nsmtp = "smtp://h"', "alert.mail_from and mail_to: both are needed with smtp"),
    ('[alert]\nmail_to = ["a@b", "c"]', "alert.mail_to: a list of name@host in quotes is needed, not ('a@b', 'c')"),
    ('[alert]\nmail_from = "A <a@b>"', 'alert.mail_from: "" or name@host is needed'),
    (
        '[alert]\nwebhook_url = "hooks.example.com/s3cret"',
        f"alert.webhook_url: {WEBHOOK} is needed, not what it is set to",
    ),
    *(
        (f'[alert]\nwebhook_url = "{url}"', f"alert.webhook_url: {WEBHOOK} is needed, not what it is set to")
        for url in ("https://h:port/x", "https://h:99999/", "https://[::1/x", "https://:1/x", "https://user:pw@h/x")
    ),
    ('[alert]\nbind = "4444"', "alert.bind: \"\" or host:port is needed, not '4444'"),
    ('[market]\nstore = "sentinel://a:1,b:65536/m/0"', "market.store: `file`, or sentinel://host:port,host:port/"),
    ('[market]\ntime_zone = "Mars/Olympus"', "market.time_zone: a name of the IANA time zone database is needed"),
    ("[matcher]\ncpu = -3", "matcher.cpu: an integer from -2 to 4095 is needed, not -3"),
    ('markets_file = "gone.json"', "markets_file: "),
    ("x = ", "Invalid value"),
]


def write(folder: Path, text: str) -> Path:
    path = folder / "exchange.toml"
    path.write_text(text)
    return path


def test_no_file_and_an_empty_file_are_the_same_working_exchange(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert load(None) == load(write(tmp_path, ""))
    settings = load(None)
    assert settings.data_dir == tmp_path / "data"
    assert len(markets.load(settings.markets_file).markets) == 3


def test_the_keys_of_the_design_are_taken(tmp_path: Path) -> None:
    (tmp_path / "markets.json").write_text("{}")
    settings = load(write(tmp_path, DESIGN_FILE))
    assert settings.markets_file == tmp_path / "markets.json"
    assert settings == load(write(tmp_path, ""))  # they are all defaults


@pytest.mark.parametrize(("text", "why"), REFUSED)
def test_what_is_wrong_is_refused_with_file_key_and_need(tmp_path: Path, text: str, why: str) -> None:
    path = write(tmp_path, text)
    with pytest.raises(BadSettings) as caught:
        load(path)
    assert str(caught.value).startswith(f"{path}: {why}")


def test_values_are_checked_in_code_too() -> None:
    with pytest.raises(BadSettings, match="workers"):
        type(Settings().http)(workers=0)


def test_relative_paths_start_at_the_file_and_the_option_goes_first(tmp_path: Path) -> None:
    (tmp_path / "conf").mkdir()
    path = write(tmp_path / "conf", 'data_dir = "../there"\n')
    assert load(path).data_dir.resolve() == tmp_path / "there"
    assert load(path, tmp_path / "here").data_dir == tmp_path / "here"


def test_markets_file_falls_back_only_when_it_is_not_set(tmp_path: Path) -> None:
    assert load(write(tmp_path, "")).markets_file == DEFAULT_MARKETS_FILE
    (tmp_path / "markets.json").write_text("{}")
    assert load(write(tmp_path, "")).markets_file == tmp_path / "markets.json"


def test_who_takes_events_from_kafka_needs_none_of_the_event_log(tmp_path: Path) -> None:
    kafka = '[kafka]\nbrokers = "a:1"\nevents_topic = "e"\n'
    assert "market" in load(write(tmp_path, kafka)).consumers
    assert "market" not in load(write(tmp_path, f'{kafka}[market]\nevents = "kafka"')).consumers


def test_integers_are_taken_for_numbers_but_not_the_other_way_round() -> None:
    assert parse(Settings, {"http": {"keep_alive_s": 5}}).http.keep_alive_s == 5


@pytest.mark.parametrize("address", ["127.0.0.1:80", "localhost:8080", "[::1]:65535", "0.0.0.0:1"])
def test_addresses(address: str) -> None:
    assert is_address(address)


@pytest.mark.parametrize("address", ["", ":80", "a:0", "a:65536", "a:1:2", "a b:1", "http://a:1", "a:+1", "a:٣"])
def test_what_is_no_address(address: str) -> None:
    assert not is_address(address)


def test_every_default_keeps_its_own_rule() -> None:
    for section in every_section():
        for name, kind, rule in rules(section):
            assert accepts(kind, rule, getattr(section(), name)), f"{section.__name__}.{name}"


def process_dir(tmp_path: Path, name: str, text: str) -> Path:
    """A configuration file, and a process of it with settings of its own."""
    own = tmp_path / "there" / name / "conf" / "config.toml"
    own.parent.mkdir(parents=True)
    own.write_text(text)
    return write(tmp_path, '[supervisor]\nprocesses_dir = "there"\n[http]\nworkers = 3\nkeep_alive_s = 7\n')


def test_a_process_may_have_settings_of_its_own(tmp_path: Path) -> None:
    path = process_dir(tmp_path, "http", "[http]\nworkers = 2\n[process.http]\nnice = 1\n")
    own, others = load_for("http", path), load_for("ws-0", path)
    assert (own.http.workers, own.http.keep_alive_s, own.process["http"].nice) == (2, 7, 1)
    assert others == load(path)
    assert own.paths == others.paths
    assert own.paths.log_file("http") == tmp_path / "there" / "http" / "log" / "http.log"
    assert load_for("http") == load()


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ('data_dir = "elsewhere"', "data_dir: all processes must agree on it; set it in "),
        ("[supervisor]\nlog_keep_count = 2", "supervisor: all processes must agree"),
        ("[http]\nworker = 2", "there/http/conf/config.toml: http.worker: there is no such setting; the nearest is"),
        ("[http", "there/http/conf/config.toml: "),
    ],
)
def test_what_is_wrong_in_it_is_refused_with_its_file(tmp_path: Path, text: str, why: str) -> None:
    path = process_dir(tmp_path, "http", text)
    with pytest.raises(BadSettings, match=re.escape(why)):
        load_for("http", path)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("process = 3", r"process: sections are needed, \[process.NAME\], not 3"),
        ("[process]\nhttp = 3", r"process.http: a section is needed"),
        ("[process.http]\nnice = 99", "process.http.nice: an integer from -40 to 39 is needed, not 99"),
        ("[process.http]\nenvironment = { A = 1 }", "process.http.environment: a table of texts in quotes is needed"),
    ],
)
def test_sections_of_processes_are_checked_like_others(tmp_path: Path, text: str, why: str) -> None:
    with pytest.raises(BadSettings, match=why):
        load(write(tmp_path, text))
