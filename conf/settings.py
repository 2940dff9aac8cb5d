"""The settings of an exchange: one TOML file, read into frozen dataclasses, one per section.

Every setting has a default, so an empty file is a working exchange; its type is its annotation, its range and its
meaning stand beside it (conf/rules.py). Errors and docs/configuration.md (conf/reference.py) are made from those, so
there is no second list of settings anywhere. Nothing here opens anything but the file itself.
"""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, is_dataclass, replace
from pathlib import Path
from typing import Any, get_type_hints

from conf.forms import (
    ADDRESS,
    BUS_PORT_MAX,
    FILE_OR_SENTINEL,
    OPTIONAL_ADDRESS,
    OTHER_BUS_ADDRESS,
    URL,
    is_bus_address,
    is_history_store,
    is_time_zone,
    matches,
)
from conf.operations import MIB, Admin, Alert, Kafka, Process, Supervisor
from conf.paths import Paths
from conf.rules import BadSettings, Section, named_section, parse, setting

DEFAULT_MARKETS_FILE = Path(__file__).with_name("markets.json")
CPU_LAST = -1
CPU_ANY = -2
AGREED_KEYS = (  # of which a process can't have its own
    *("instance", "data_dir", "markets_file", "bus", "supervisor"),
    *("http.bind", "ws.bind", "ws.workers", "history.processes"),
)

SEGMENT_SIZE_LEAST = 4 * MIB  # the largest batch of commands, or frame of events, fits it


@dataclass(frozen=True, kw_only=True)
class Journal(Section):
    """The journal: what makes an acknowledged command durable."""

    sync: str = setting(
        "always",
        "`always`: a reply leaves after its command is on disk. `interval`: the disk is asked every `interval_ms`, "
        "and a machine that loses power may forget that much of what it acknowledged",
        choices=("always", "interval"),
    )
    interval_ms: int = setting(10, 'how often the disk is asked with sync = "interval"', least=1, most=10_000)
    segment_size: int = setting(
        64 * MIB, "bytes of a segment file, preallocated", least=SEGMENT_SIZE_LEAST, most=1 << 32
    )


@dataclass(frozen=True, kw_only=True)
class Events(Section):
    """The event log, from which consumers fill gaps. It can be made again from the journal."""

    segment_size: int = setting(64 * MIB, "bytes of a segment file", least=SEGMENT_SIZE_LEAST, most=1 << 32)
    keep_segments_count: int = setting(
        64, "full segments that are kept in any case, for who asks for old events", least=1, most=1_000_000
    )
    backlog_segments_count: int = setting(
        1024,
        "full segments that are kept as long as history, market data or Kafka lack their events, because a store "
        "is down or slow; then the oldest go",
        least=1,
        most=1_000_000,
    )


@dataclass(frozen=True, kw_only=True)
class Snapshot(Section):
    """Snapshots of the state, from which a restart begins its replay."""

    keep_count: int = setting(3, "snapshots that are kept; the oldest go first", least=1, most=1_000)


@dataclass(frozen=True, kw_only=True)
class Http(Section):
    """The HTTP gateway: JSON-RPC by POST, the pages of market data, and /health."""

    bind: str = setting("127.0.0.1:8080", "address to listen on; there is no authentication behind it", **ADDRESS)
    workers: int = setting(1, "worker processes", least=1, most=256)
    body_max_size: int = setting(MIB, "bytes of a request's body; a larger one gets 413", least=1024, most=1 << 30)
    header_max_size: int = setting(
        80 * 1024, "bytes of a request's line and headers; larger ones get 431", least=1024, most=MIB
    )
    request_timeout_s: float = setting(
        10.0, "seconds in which a client must send a whole request, or take a whole reply", least=0.1, most=3600
    )
    keep_alive_s: float = setting(
        3600.0, "seconds that a connection may be silent between requests; 0 is for ever", least=0, most=86_400
    )
    cors_origins: tuple[str, ...] = setting(
        (), 'origins whose pages may read replies, like ["https://trade.example.com"], or ["*"]; [] is none'
    )
    exchange_name: str = setting(
        "tradepit",
        "the name of the exchange that charts show",
        form=matches(r"[^\x00-\x1f:]{1,40}"),
        form_text="1 to 40 characters without `:`",
    )
    depth_cache_ms: int = setting(
        450,
        "milliseconds that an answer to order.depth may be reused: ViaBTC's cache_timeout, so that the same questions "
        "get the same answers as from it; 0 makes each anew",
        least=0,
        most=10_000,
    )
    connection_count_max: int = setting(
        10_000, "connections that a worker holds; more wait to be accepted", least=1, most=1_000_000
    )
    drain_timeout_s: float = setting(
        5.0, "seconds that a stopping worker gives to requests that it has begun", least=0, most=600
    )


BUS, KAFKA = EVENTS_SOURCES = ("bus", "kafka")


def _events(who: str) -> Any:
    return setting(
        "bus",
        f"where {who} events come from. `bus`: the event log and sockets of the matcher's machine. `kafka`: `[kafka] "
        "events_topic`, for a host that reaches Kafka only (docs/hosts.md)",
        choices=EVENTS_SOURCES,
    )


def _interval_ms(what: str) -> Any:
    return setting(100, f"milliseconds from one look at what each {what} tells to the next", least=1, most=60_000)


@dataclass(frozen=True, kw_only=True)
class Ws(Section):
    """The WebSocket gateway."""

    bind: str = setting("127.0.0.1:8090", "address to listen on", **ADDRESS)
    workers: int = setting(1, "processes, which share the address; limits are of each process", least=1, most=256)
    events: str = _events("its")
    auth_url: str = setting(
        "http://127.0.0.1:8000/internal/exchange/user/auth", "who checks the token of server.auth", **URL
    )
    sign_url: str = setting(
        "http://127.0.0.1:8000/internal/exchange/user/api/auth", "who checks the signature of server.sign", **URL
    )
    auth_timeout_s: float = setting(1.0, "seconds that those two have for an answer", least=0.1, most=60)
    subprotocol: str = setting(
        "chat",
        "the subprotocol that a client must offer if it offers any",
        form=matches(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,64}"),
        form_text="a name without spaces",
    )
    origins: tuple[str, ...] = setting(
        (),
        'origins whose pages may connect, like "https://trade.example.com", or "*.example.com" for a domain\'s '
        "subdomains; programs that send none always may. [] is every origin",
    )
    proxies: tuple[str, ...] = setting(
        ("127.0.0.1", "::1"), "addresses of proxies, whose X-Real-IP header tells the client's address"
    )
    compression: bool = setting(False, "whether permessage-deflate is agreed to when a client offers it")
    price_interval_ms: int = _interval_ms("price.update")
    state_interval_ms: int = _interval_ms("state.update")
    today_interval_ms: int = _interval_ms("today.update")
    kline_interval_ms: int = _interval_ms("kline.update")
    depth_interval_ms: int = _interval_ms("depth.update")
    book_interval_ms: int = _interval_ms("book.update")
    depth_limits: tuple[int, ...] = setting((1, 5, 10, 20, 30, 50, 100), "what depth.subscribe takes as its limit")
    depth_merges: tuple[str, ...] = setting(
        ("0", "0.00000001", "0.0000001", "0.000001", "0.00001", "0.0001", "0.001", "0.01", "0.1"),
        "what depth.subscribe takes as its interval",
    )
    query_cache_ms: int = setting(
        500,
        "milliseconds that the answer to one of the six public queries may be reused: ViaBTC's cache_timeout; 0 makes "
        "each anew",
        least=0,
        most=60_000,
    )
    replay_event_max: int = setting(
        1_000_000,
        "how many events back a client may go on from, with `after`; to look through them takes 0.1 s and more",
        least=0,
        most=1_000_000_000,
    )
    connection_count_max: int = setting(
        20_000, "connections that a process holds; more wait to be accepted", least=1, most=1_000_000
    )
    connection_per_address_max: int = setting(
        1_000,
        "connections from one address, of IPv6 from a /64 network; more get 429. Those that come from a proxy which "
        "does not tell the client's address are not counted",
        least=1,
        most=1_000_000,
    )
    subscription_count_max: int = setting(
        1_000, "subscriptions of a connection, each market and asset counted", least=1, most=1_000_000
    )
    message_max_size: int = setting(102_400, "bytes of a client's message", least=1024, most=1 << 26)
    request_rate_max: int = setting(
        100,
        "requests a second of one connection, ten times as many at once, each KiB of one counted as one more; more "
        "get code 22, and the connection is closed when it does not stop",
        least=1,
        most=1_000_000,
    )
    handshake_timeout_s: float = setting(10.0, "seconds that a client has for its handshake", least=0.1, most=600)
    idle_timeout_s: float = setting(
        3600.0, "seconds without anything from a client, pongs too, after which it is closed", least=1, most=86_400
    )
    ping_interval_s: float = setting(
        30.0, "seconds of silence after which a client is sent a ping; 0 is never", least=0, most=86_400
    )
    send_buffer_max_size: int = setting(
        1 << 20,
        "bytes that may wait for a client that does not read, beside those in the system's buffers; then it is closed",
        least=1 << 16,
        most=1 << 30,
    )
    slow_timeout_s: float = setting(
        30.0, "seconds in which a client must read some of what waits for it", least=1, most=3600
    )
    drain_timeout_s: float = setting(
        2.0,
        "seconds that a stopping process gives to clients to take what was sent to them, if `[supervisor] "
        "stop_timeout_s` is longer",
        least=0,
        most=600,
    )
    metrics_bind: str = setting(
        "",
        'where the first process serves its metrics to Prometheus, each further one on the port after it; "" is '
        "nowhere",
        **OPTIONAL_ADDRESS,
    )


@dataclass(frozen=True, kw_only=True)
class Bus(Section):
    """The ZeroMQ sockets of the matcher, the market and the history processes, and of the alertcenter."""

    bind: str = setting(
        "ipc",
        "`ipc`: sockets under `data_dir` for this user only. `tcp://host:port`: that port and the three after it, and "
        "one more for each of `[history] processes`, and the 68th after it for alerts; there is no authentication",
        form=is_bus_address,
        form_text=f"`ipc` or tcp://host:port, with a port up to {BUS_PORT_MAX}",
    )
    market: str = setting(
        "",
        "where the market process answers and is asked, if it runs on another machine than the matcher: "
        'tcp://host:port of that machine, the same in the settings of all; "" is beside the others',
        **OTHER_BUS_ADDRESS,
    )
    history: str = setting(
        "",
        "the same for history: the port of its first process, each further one on the port after it",
        **OTHER_BUS_ADDRESS,
    )


@dataclass(frozen=True, kw_only=True)
class Matcher(Section):
    """The matcher. Capacities cost address space; memory is used as slots are used for the first time."""

    cpu: int = setting(
        CPU_LAST,
        f"the CPU that the matcher is pinned to; {CPU_LAST} is the last of those that it may use (not pinned when "
        f"there is one only), {CPU_ANY} is not pinned",
        least=CPU_ANY,
        most=4095,
    )
    spin_us: int = setting(
        200,
        "how long the matcher looks for the next command without sleeping, after one that came alone; a wake-up takes "
        "longer than to match it. 0 saves the CPU time",
        least=0,
        most=100_000,
    )
    order_capacity: int = setting(1 << 20, "open orders of all markets together", least=1024, most=1 << 28)
    level_capacity: int = setting(1 << 18, "price levels of all markets together", least=1024, most=1 << 26)
    balance_capacity: int = setting(
        1 << 20, "pairs of a user and an asset that ever had a balance", least=1024, most=1 << 28
    )
    user_market_capacity: int = setting(
        1 << 19, "pairs of a user and a market that ever had an open order", least=1024, most=1 << 28
    )
    update_capacity: int = setting(
        1 << 20, "balance updates of the last 24 hours, remembered so that none counts twice", least=1024, most=1 << 28
    )


@dataclass(frozen=True, kw_only=True)
class History(Section):
    """The history of orders, deals and balances: where it is kept, and who answers questions about it."""

    store: str = setting(
        "sqlite",
        "`sqlite`: history.db under `data_dir`. `mysql://`: ViaBTC's tables in MySQL or MariaDB, in the database that "
        "is named, or trade_history; what has a special meaning in an address is written %XX",
        form=is_history_store,
        form_text="`sqlite`, or mysql://user:password@host:port/database (`@` in a password is %40)",
    )
    processes: int = setting(1, "processes that answer questions", least=1, most=64)
    query_timeout_s: float = setting(
        5.0,
        "seconds after which a question that the store has not answered gets code 2; at most half of "
        "`heartbeat_timeout_s` counts",
        least=0.1,
        most=600,
    )
    backlog_alert_count: int = setting(
        1_000_000, "events that are not stored yet at which an alert goes out", least=1_000, most=1 << 40
    )


@dataclass(frozen=True, kw_only=True)
class MarketData(Section):
    """K-lines, last prices and recent deals: where they are kept, how long, and in which time zone days begin."""

    store: str = setting(
        "file", "`file`: market.db under `data_dir`. `sentinel://`: ViaBTC's keys in Redis", **FILE_OR_SENTINEL
    )
    events: str = _events("its")
    time_zone: str = setting(
        "UTC",
        "whose midnight begins days, weeks and months, like Europe/London; days that are stored are not made anew",
        form=is_time_zone,
        form_text="a name of the IANA time zone database",
    )
    flush_interval_s: float = setting(
        1.0,
        "seconds from one write to the store to the next; after a crash the events say what was not written",
        least=0.05,
        most=3600,
    )
    sec_max: int = setting(604_800, "seconds that k-lines of a second are kept", least=60, most=100_000_000)
    min_max: int = setting(525_600, "minutes that k-lines of a minute are kept", least=60, most=100_000_000)
    hour_max: int = setting(87_600, "hours that k-lines of an hour are kept", least=24, most=10_000_000)
    skip_first_deal: bool = setting(
        False,
        "leave the very first deal of the exchange out, as ViaBTC's marketprice does when it starts with an empty "
        "store: for comparing the two side by side",
    )
    kline_row_max: int = setting(
        10_000, "rows that market.kline gives; of a longer time the newest", least=100, most=100_000
    )

    @property
    def skipped_deal_id(self) -> int:
        """The id of the deal that market data leaves out; 0: none."""
        return 1 if self.skip_first_deal else 0


@dataclass(frozen=True, kw_only=True)
class Settings(Section):
    """All settings of one exchange."""

    instance: str = setting(
        "main",
        "names shared memory and processes, so that several exchanges can share a machine",
        form=matches(r"[A-Za-z0-9_-]{1,32}"),
        form_text="1 to 32 letters, digits, `_` and `-`",
    )
    data_dir: Path = setting(
        Path("data"),
        "the folder of all that is kept; like every relative path, seen from the configuration file's folder",
    )
    markets_file: Path = setting(
        Path("markets.json"),
        "assets and markets in ViaBTC's JSON form, or the same in TOML; if this is not set and the file is not there: "
        "BTCUSD, ETHUSD and ETHBTC",
    )
    journal: Journal = field(default=Journal())
    events: Events = field(default=Events())
    snapshot: Snapshot = field(default=Snapshot())
    http: Http = field(default=Http())
    ws: Ws = field(default=Ws())
    bus: Bus = field(default=Bus())
    matcher: Matcher = field(default=Matcher())
    history: History = field(default=History())
    market: MarketData = field(default=MarketData())
    kafka: Kafka = field(default=Kafka())
    alert: Alert = field(default=Alert())
    admin: Admin = field(default=Admin())
    supervisor: Supervisor = field(default=Supervisor())
    process: dict[str, Process] = field(default_factory=dict)

    @property
    def consumers(self) -> tuple[str, ...]:
        """The processes that store what they make of events: the event log keeps what these have not stored yet."""
        market = ("market",) if self.market.events == BUS else ()
        courier = ("courier",) if self.kafka.brokers else ()
        return ("recorder", *market, *courier)

    @property
    def holds_secrets(self) -> bool:
        """Whether something in them is nobody else's business."""
        return bool("@" in self.history.store or "@" in self.alert.smtp or self.alert.webhook_url)

    @property
    def paths(self) -> Paths:
        """The places of this exchange."""
        processes_dir = self.supervisor.processes_dir
        return Paths(self.data_dir, self.instance, Path(processes_dir) if processes_dir else None)


def load(path: Path | None = None, data_dir: Path | None = None) -> Settings:
    """Read settings from a TOML file (None: the defaults); `data_dir`, when given, goes before the file's.

    Relative paths of the file start at its folder, the others at the current one; the result holds absolute ones,
    and `markets_file` is a file that exists. Raises BadSettings, OSError.
    """
    return _made({} if path is None else _read(path), path, data_dir)


def load_for(name: str, path: Path | None = None, data_dir: Path | None = None) -> Settings:
    """The settings of one process: those of `load`, with what its own file says over them.

    That is NAME/conf/config.toml in `[supervisor] processes_dir`, if there is one. It can't change what all processes
    must agree on: where things are and what is traded. Raises BadSettings, OSError.
    """
    settings = load(path, data_dir)
    own_file = settings.paths.conf_file(name)
    if path is None or own_file is None or not own_file.exists():
        return settings
    own_document = _read(own_file)
    for key in AGREED_KEYS:
        section, _, name = key.rpartition(".")
        if name in (own_document.get(section, {}) if section else own_document):
            raise BadSettings(f"{own_file}: {key}: all processes must agree on it; set it in {path}")
    try:
        parse(Settings, own_document)
    except BadSettings as error:
        raise BadSettings(f"{own_file}: {error}") from None
    return _made(_laid_over(own_document, _read(path)), path, data_dir)


def _read(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise BadSettings(f"{path}: {error}") from None


def _laid_over(upper: Mapping[str, Any], lower: Mapping[str, Any]) -> dict[str, Any]:
    """Both documents in one; where both have a value, the upper one's."""
    both = {
        key: _laid_over(upper[key], lower[key])
        for key in upper.keys() & lower.keys()
        if isinstance(upper[key], Mapping) and isinstance(lower[key], Mapping)
    }
    return {**lower, **upper, **both}


def _made(document: Mapping[str, Any], path: Path | None, data_dir: Path | None) -> Settings:
    base = (path.parent if path else Path()).absolute()
    try:
        settings = parse(Settings, document)
        _see_together(settings)
        markets_file = _markets_file(base / settings.markets_file, is_set="markets_file" in document)
    except BadSettings as error:
        raise BadSettings(f"{path}: {error}" if path else str(error)) from None
    supervisor = settings.supervisor
    if supervisor.processes_dir:
        supervisor = replace(supervisor, processes_dir=str(base / supervisor.processes_dir))
    chosen = data_dir.absolute() if data_dir else base / settings.data_dir
    return replace(settings, data_dir=chosen, markets_file=markets_file, supervisor=supervisor)


def _see_together(settings: Settings) -> None:
    """Check what one setting needs of another. Raises BadSettings."""
    kafka = settings.kafka
    for name, source in (("market", settings.market.events), ("ws", settings.ws.events)):
        if source == KAFKA and not (kafka.brokers and kafka.events_topic):
            raise BadSettings(
                f'{name}.events: "{KAFKA}" needs [kafka] brokers and [kafka] events_topic, the same as where the '
                f'matcher runs; or leave it "{BUS}"'
            )


def every_section() -> list[type[Section]]:
    """The top of the file, which is a section too, and all the others."""
    return [Settings, *(section for _, section in sections())]


def sections() -> list[tuple[str, type[Section]]]:
    """Name and class of every section, in the order of the reference."""
    kinds = get_type_hints(Settings)
    found = [(f.name, kinds[f.name]) for f in fields(Settings) if is_dataclass(kinds[f.name])]
    named = [(f"{f.name}.NAME", named_section(kinds[f.name])) for f in fields(Settings)]
    return found + [(name, section) for name, section in named if section is not None]


def _markets_file(wanted: Path, *, is_set: bool) -> Path:
    if wanted.is_file():
        return wanted
    if is_set:
        raise BadSettings(f"markets_file: {wanted} does not exist; name a file that does, or leave the setting out")
    return DEFAULT_MARKETS_FILE
