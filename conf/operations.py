"""The settings of running an exchange: its supervisor, alerts, and the messages for other systems."""

from dataclasses import dataclass

from conf.forms import (
    FILE_OR_SENTINEL,
    OPTIONAL_ADDRESS,
    WEBHOOK,
    is_broker_list,
    is_environment,
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
        **WEBHOOK,
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
class Admin(Section):
    """The admin port: lines of text for operators, as ViaBTC's matchengine has them. See [admin.md](admin.md)."""

    bind: str = setting(
        "127.0.0.1:7317",
        'address to listen on; "" is off. Whoever reaches it sees all balances: there is no authentication',
        **OPTIONAL_ADDRESS,
    )


@dataclass(frozen=True, kw_only=True)
class Supervisor(Section):
    """Which processes run, and how they are watched, restarted and stopped."""

    run: tuple[str, ...] = setting(
        (), 'the processes that this machine runs, like ["market", "ws"], "ws" being all of that kind; [] is all'
    )
    processes_dir: str = setting(
        "",
        "the folder in which each process has one of its name: its log is NAME/log/NAME.log, and what is in "
        'NAME/conf/config.toml goes for that process before what is here (`pit deploy` makes it). "": logs are in '
        "`data_dir`, and this file is the only one",
    )
    group: str = setting(
        "",
        "the group whose members may use the sockets and the memory of the exchange: needed when processes run as "
        'different users ([process.NAME] user). "": this user only',
    )
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
        20, "restarts in a row after which a process has failed and stays down: some minutes", least=0, most=1000
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
    log_max_age_h: float = setting(
        24.0, "hours after which that happens to a smaller one, too; 0 is never", least=0, most=100_000
    )
    log_keep_count: int = setting(14, "old log files that are kept for each process", least=1, most=1000)
    log_keep_days: float = setting(
        30.0, "days after which an old log file is removed; 0 is never", least=0, most=100_000
    )


@dataclass(frozen=True, kw_only=True)
class Process(Section):
    """What is special about one process, like [process.matcher], or all of a kind, like [process.ws]."""

    cpus: tuple[int, ...] = setting(
        (), "the CPUs that it may use; [] is all. The matcher pins itself to one of them ([matcher] cpu)"
    )
    nice: int = setting(
        0,
        "how much further it steps back for others when CPUs are short; below 0 it steps forward, which needs "
        "privileges",
        least=-40,
        most=39,
    )
    user: str = setting("", 'the user that it runs as; needs a supervisor that runs as root. "" is the supervisor\'s')
    file_limit: int = setting(0, "open files and connections; 0 leaves the limit as it is", least=0, most=1 << 30)
    core_limit: int = setting(
        0, "bytes of a core dump; 0 leaves the limit as it is, -1 is no limit", least=-1, most=1 << 50
    )
    environment: dict[str, str] = setting(
        {},
        "variables of its environment, over those of the supervisor, as far as they are looked at while it runs: it is "
        "forked, so what counts when a program is loaded (LD_PRELOAD, MALLOC_ARENA_MAX) must be set for `pit up`",
        form=is_environment,
        form_text="a table of texts in quotes",
    )
