"""The settings of running an exchange: its supervisor, alerts, and the messages for other systems."""

from dataclasses import dataclass

from conf.forms import (
    FILE_OR_SENTINEL,
    OPTIONAL_ADDRESS,
    OPTIONAL_URL,
    is_broker_list,
    is_mail_address,
    is_mail_server,
    matches,
)
from conf.rules import BadSettings, Section, setting

MIB = 1 << 20


@dataclass(frozen=True, kw_only=True)
class Kafka(Section):
    """Messages for other systems, in ViaBTC's form: the topics deals, orders and balances."""

    brokers: str = setting(
        "", 'addresses with commas between them; "" is off', form=is_broker_list, form_text='"" or host:port,host:port'
    )
    start: str = setting(
        "first",
        "where a topic begins that was never sent to: `first` is the exchange's first event, `now` sends what comes",
        choices=("first", "now"),
    )
    backlog_alert_count: int = setting(
        1_000_000, "events that are not in Kafka yet at which an alert goes out", least=1_000, most=1 << 40
    )
    events_topic: str = setting(
        "",
        "the topic of every event, for `[market] events` and `[ws] events` of hosts that reach Kafka only; what is "
        'listed is in NAME-catalog. "" is none',
        form=matches(r"[A-Za-z0-9._-]{0,200}"),
        form_text="up to 200 letters, digits, `.`, `_` and `-`",
    )


@dataclass(frozen=True, kw_only=True)
class Alert(Section):
    """Where alerts go, beside alerts.jsonl under `data_dir`, which has them all; and who may send some."""

    store: str = setting(
        "file",
        "`file`: alerts.jsonl only. `sentinel://`: also the list `alert:message` in Redis, in ViaBTC's form",
        **FILE_OR_SENTINEL,
    )
    list_max: int = setting(
        100_000, "alerts that the list in Redis may hold; of more the oldest go", least=1, most=10_000_000
    )
    bind: str = setting(
        "127.0.0.1:4444",
        'where alerts of other processes are taken, by UDP and TCP in ViaBTC\'s form; "" is nowhere',
        **OPTIONAL_ADDRESS,
    )
    foreign_rate_max: int = setting(
        100,
        "alerts a second that are taken from outside, by UDP, by TCP and by the bus each; more are counted and told",
        least=1,
        most=100_000,
    )
    smtp: str = setting(
        "",
        "the mail server: smtp:// (STARTTLS when it is offered; with a password it must be, except on this machine) or "
        'smtps://; what has a special meaning in an address is written %XX. "" is no mail',
        form=is_mail_server,
        form_text='"", smtp://host:port or smtps://user:password@host:port (`@` in a password is %40)',
        is_secret=True,
    )
    mail_from: str = setting(
        "", "the sender of mails", form=lambda text: text == "" or is_mail_address(text), form_text='"" or name@host'
    )
    mail_to: tuple[str, ...] = setting(
        (), 'who gets mails, like ["ops@example.com"]', form=is_mail_address, form_text="a list of name@host in quotes"
    )
    webhook_url: str = setting(
        "",
        'an address that gets alerts as JSON by POST; "" is none',
        **OPTIONAL_URL,
        is_secret=True,
    )
    digest_interval_s: float = setting(
        60.0,
        "seconds between two mails, and between two calls of the webhook: the first alert goes out at once, what comes "
        "in between goes out together",
        least=1,
        most=86_400,
    )
    file_max_size: int = setting(
        16 * MIB,
        "bytes of alerts.jsonl at which it becomes alerts.jsonl.1 and a new one begins",
        least=64 * 1024,
        most=1 << 40,
    )
    file_keep_count: int = setting(4, "old files of alerts that are kept", least=1, most=1000)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.smtp and not (self.mail_from and self.mail_to):
            raise BadSettings("mail_from and mail_to: both are needed with smtp")


@dataclass(frozen=True, kw_only=True)
class Supervisor(Section):
    """How processes are watched, restarted and stopped."""

    start_timeout_s: float = setting(
        600.0, "seconds in which a process must be ready (a long replay belongs to it)", least=1, most=86_400
    )
    heartbeat_timeout_s: float = setting(
        10.0, "seconds without a heartbeat after which a ready process is killed and started again", least=2, most=3600
    )
    stop_timeout_s: float = setting(
        15.0, "seconds from asking a process to end (SIGTERM) to ending it (SIGKILL)", least=0.1, most=3600
    )
    restart_count_max: int = setting(
        6, "restarts in a row after which a process has failed and stays down", least=0, most=1000
    )
    restart_window_s: float = setting(
        60.0, "seconds that a process must be ready for its restarts to be counted anew", least=1, most=86_400
    )
    log_max_size: int = setting(
        64 * MIB,
        "bytes of a log file at which it becomes NAME.log.1 and a new one begins",
        least=64 * 1024,
        most=1 << 40,
    )
    log_keep_count: int = setting(4, "old log files that are kept for each process", least=1, most=1000)
