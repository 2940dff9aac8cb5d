"""The processes of an exchange: one row each. The supervisor knows no more about them than this.

A process is a module with `main(settings) -> int`, or `main(settings, index)` if it is one among equals. The
supervisor imports it at run time only (no outer package imports another). `[supervisor] run` may name some of them.
"""

from collections.abc import Iterable, Set
from dataclasses import dataclass, replace

from conf.rules import BadSettings
from conf.settings import Settings


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """A process that is to run, and the ones that must be ready before it starts."""

    name: str
    module: str
    after: tuple[str, ...] = ()
    index: int | None = None  # of one among equals: the second argument of their `main`
    nice: int = 0  # how far it steps back for the others when CPUs are short
    reads: tuple[str, ...] = ()  # the settings that it goes by: whole sections, or keys
    counted_by: str = ""  # the setting that says how many equals there are; it does not concern each of them
    ends_last: bool = False  # when all are stopped, it stays until the others have ended
    may_be_missing: bool = False  # the exchange starts without it, when it can't be started

    @property
    def kind(self) -> str:
        """What it and its equals are called together: `ws` for ws-0, ws-1."""
        return self.name if self.index is None else self.name.removesuffix(f"-{self.index}")


BEHIND_TRADING = 5  # what may wait a moment, while nobody waits for it to trade
KINDS = ("alertcenter", "matcher", "recorder", "history", "courier", "market", "http", "ws", "admin")
RETELLING = ("bus", "matcher")  # events that are gone are made again, in memory of the matcher's capacities


def processes(settings: Settings) -> tuple[Wanted, ...]:
    """The processes that this machine runs; who must be ready first stands first.

    Raises BadSettings when the settings name one that there is not.
    """
    table = _everything(settings)
    known = {wanted.name for wanted in table} | set(KINDS)
    _refuse_unknown("supervisor.run", settings.supervisor.run, known)
    _refuse_unknown("process", settings.process, known)
    chosen = settings.supervisor.run
    here = [wanted for wanted in table if not chosen or wanted.name in chosen or wanted.kind in chosen]
    names = {wanted.name for wanted in here}
    return tuple(replace(wanted, after=tuple(name for name in wanted.after if name in names)) for wanted in here)


def _everything(settings: Settings) -> list[Wanted]:
    matcher = ("matcher",)
    return [
        Wanted(
            name="alertcenter",
            module="persist.alertcenter",
            nice=BEHIND_TRADING,
            ends_last=True,
            may_be_missing=True,
            reads=("alert", "bus"),
        ),
        Wanted(
            name="matcher",
            module="engine.matcher",
            reads=("markets_file", "journal", "events", "snapshot", "bus", "matcher"),
        ),
        Wanted(
            name="recorder",
            module="persist.recorder",
            after=matcher,
            nice=BEHIND_TRADING,
            reads=("history", *RETELLING),
        ),
        *_equals(
            settings.history.processes,
            Wanted(
                name="history",
                module="persist.history",
                after=matcher,
                nice=BEHIND_TRADING,
                reads=("history", "bus", "supervisor.heartbeat_timeout_s"),
                counted_by="history.processes",
            ),
        ),
        *_if(
            settings.kafka.brokers,
            Wanted(
                name="courier",
                module="persist.courier",
                after=matcher,
                nice=BEHIND_TRADING,
                reads=("kafka", *RETELLING),
            ),
        ),
        Wanted(
            name="market",
            module="market.service",
            after=matcher,
            nice=BEHIND_TRADING,
            reads=("market", "kafka", *RETELLING),
        ),
        Wanted(name="http", module="gateways.http", after=matcher, reads=("http", "bus", "history", "market")),
        *_equals(
            settings.ws.workers,
            Wanted(
                name="ws",
                module="gateways.ws.process",
                after=matcher,
                reads=("ws", "kafka", "bus", "history", "market", "supervisor.stop_timeout_s"),
                counted_by="ws.workers",
            ),
        ),
        *_if(
            settings.admin.bind,
            Wanted(
                name="admin",
                module="gateways.admin.process",
                after=matcher,
                nice=BEHIND_TRADING,
                reads=("admin", "kafka"),
            ),
        ),
    ]


def _if(setting: str, one: Wanted) -> list[Wanted]:
    """A process that runs only when a setting is not empty."""
    return [one] if setting else []


def _equals(count: int, one: Wanted) -> list[Wanted]:
    """So many of a kind, numbered from 0."""
    return [replace(one, name=f"{one.name}-{index}", index=index) for index in range(count)]


def _refuse_unknown(key: str, names: Iterable[str], known: Set[str]) -> None:
    for name in names:
        if name not in known:
            raise BadSettings(f"{key}: there is no process {name}; there are {', '.join(sorted(known))}")
