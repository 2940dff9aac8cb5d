"""The settings of running an exchange: its supervisor, alerts, and the messages for other systems."""

from dataclasses import dataclass

from conf.forms import FILE_OR_SENTINEL, is_broker_list, matches
from conf.rules import Section, setting

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
    """Where alerts go. As yet always to alerts.jsonl, whatever is set here."""

    store: str = setting("file", "`file`: alerts.jsonl under `data_dir`. `sentinel://`: Redis", **FILE_OR_SENTINEL)


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
