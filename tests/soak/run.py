"""A soak from the first server to the verdict.

servers up, users funded -> load, disturbed -> load, undisturbed (is memory flat?) -> load ends, stores catch up
-> what clients, exchange and stores hold is gathered -> the exchange ends -> the journal is replayed -> checks
"""

import random
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from bus import catalog
from bus.catalog import Catalog
from engine.audit_command import NotSound, report
from engine.journal_reader import Damaged
from engine.opening import capacity_of
from engine.recovery import Diverged
from tests.soak import gathering
from tests.soak.checks import alerts, back, balances, clients, flat, notifications, stores
from tests.soak.checks.finding import Finding, finding
from tests.soak.checks.flat import Growth
from tests.soak.disturb.disturber import Disturber, Done
from tests.soak.gathering import Gathered
from tests.soak.load.bot import FIRST_USER, USER_COUNT, Bot
from tests.soak.load.known import Known, joined
from tests.soak.load.saver import Saver
from tests.soak.load.trader import Trader
from tests.soak.load.ws import Client, Nuisance, Owner, Watcher, arrive, following
from tests.soak.samples import Sample, Sampler, growth, pids
from tests.soak.servers import Servers, servers
from tests.soak.wanted import market
from tests.soak.wanted.journal import Wanted, wanted_of

FIRST_TRADER, FIRST_SAVER = 101, 201
DRAIN_TIMEOUT_S = 300.0
END_TIMEOUT_S = 120.0  # of a client, after the load
CALM_PART = 1 / 3  # of the time, at the end
CALM_LEAST_S = 20.0

Tell = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How long, how much."""

    seconds: float
    seed: int
    trader_count: int = 5
    trader_interval_s: float = 0.1
    saver_count: int = 2
    saver_interval_s: float = 0.3
    bot_interval_s: float = 0.1
    owner_count: int = 4

    def times(self, factor: float) -> "Plan":
        """The same with so many times the load."""
        return replace(
            self,
            trader_interval_s=self.trader_interval_s / factor,
            saver_interval_s=self.saver_interval_s / factor,
            bot_interval_s=self.bot_interval_s / factor,
        )

    @property
    def calm_s(self) -> float:
        """How long nothing is disturbed, at the end."""
        return max(CALM_LEAST_S, self.seconds * CALM_PART)


@dataclass
class Outcome:
    """All that a report tells."""

    plan: Plan
    known: Known = field(default_factory=Known)
    done: Sequence[Done] = ()
    samples: dict[str, list[Sample]] = field(default_factory=dict)
    grown: list[Growth] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    told_count: int = 0  # WebSocket messages
    connection_count: int = 0
    command_count: int = 0
    event_count: int = 0
    load_s: float = 0.0
    drain_s: float = 0.0
    replay_s: float = 0.0

    @property
    def agrees(self) -> bool:
        """The verdict."""
        return all(each.agrees for each in self.findings)


def soak(plan: Plan, folder: Path, tell: Tell) -> Outcome:
    """Do all of it in a folder that is not there yet."""
    tell("servers start")
    with servers(folder) as everything:
        return Soak(plan, everything, tell).run()


class Soak:
    """The parts of one soak, while its servers run."""

    def __init__(self, plan: Plan, everything: Servers, tell: Tell) -> None:
        self._plan = plan
        self._servers = everything
        self._tell = tell
        self._outcome = Outcome(plan)
        self._is_over = threading.Event()
        draw = random.Random(plan.seed)
        with everything.running.client() as client:
            self._catalog: Catalog = catalog.ask(client)
        front = everything.front
        self._traders = [
            *(
                Trader(front, FIRST_TRADER + i, draw.getrandbits(32), plan.trader_interval_s)
                for i in range(plan.trader_count)
            ),
            *(
                Saver(front, FIRST_SAVER + i, draw.getrandbits(32), plan.saver_interval_s)
                for i in range(plan.saver_count)
            ),
        ]
        self._bot = Bot(everything.running.client, self._catalog, draw.getrandbits(32), plan.bot_interval_s)
        self._owners = [Owner(front, user) for user in self._followed(plan.owner_count)]
        self._watcher = Watcher(front)
        self._nuisance = Nuisance(front, draw.getrandbits(32))
        self._disturber = Disturber(everything, draw.getrandbits(32))
        self._sampler = Sampler(partial(pids, everything))

    def run(self) -> Outcome:
        """Load, trouble, and what came of it."""
        followers: list[Client] = [*self._owners, self._watcher, self._nuisance]
        with self._sampler:
            with following(followers) as loop:
                calm_since_s = self._load()
                gathered = self._gather()
            self._outcome.findings.append(finding("followers", f"{len(followers)} over WebSocket", loop.trouble))
            for follower in followers:
                self._outcome.told_count += follower.message_count
                self._outcome.connection_count += follower.connection_count
        self._outcome.samples = self._sampler.samples
        self._outcome.done = self._disturber.done
        found = (growth(name, samples, calm_since_s) for name, samples in self._sampler.samples.items())
        self._outcome.grown = [each for each in found if each is not None]
        self._outcome.known = joined([*(trader.known for trader in self._traders), self._bot.known])
        gathering.of_stores(self._servers, gathered)
        self._tell("the exchange ends")
        self._servers.running.pit("down")
        self._reconcile(gathered)
        return self._outcome

    def _followed(self, count: int) -> list[int]:
        """Users of both kinds, in turn."""
        pairs = zip(range(FIRST_USER, FIRST_USER + count), range(FIRST_TRADER, FIRST_TRADER + count), strict=True)
        return [user for pair in pairs for user in pair][:count]

    def _load(self) -> float:
        """Everybody asks; in the end nothing is disturbed: since when, of the monotonic clock."""
        plan, began_s = self._plan, time.monotonic()
        self._bot.fund()
        for trader in self._traders:
            trader.fund(self._is_over.is_set)
        with self._clients():
            began_s = time.monotonic()
            with self._disturber:
                self._wait(began_s + plan.seconds - plan.calm_s, "disturbed")
            calm_since_s = time.monotonic()
            self._wait(max(began_s + plan.seconds, calm_since_s + plan.calm_s), "undisturbed")
        self._outcome.load_s = time.monotonic() - began_s
        return calm_since_s

    @contextmanager
    def _clients(self) -> Iterator[None]:
        """Each in a thread of its own; whatever ends one of them early is a fault."""
        failed: list[str] = []

        def run(work: Callable[[Callable[[], bool]], None]) -> None:
            try:
                work(self._is_over.is_set)
            except Exception as error:
                failed.append(f"a client ended: {type(error).__name__}: {error}")

        works = [self._bot.run, *(trader.run for trader in self._traders)]
        threads = [threading.Thread(target=run, args=(work,), name="soak-client") for work in works]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            self._is_over.set()
            for thread in threads:
                thread.join(END_TIMEOUT_S)
        failed += [f"a client has not ended after {END_TIMEOUT_S:g} s" for thread in threads if thread.is_alive()]
        self._outcome.findings.append(finding("clients", f"{len(threads)} on the bus and over HTTP", failed))

    def _wait(self, until_s: float, phase: str) -> None:
        while (left_s := until_s - time.monotonic()) > 0:
            answered = self._bot.known.answered.total() + sum(t.known.answered.total() for t in self._traders)
            done = f"{len(self._disturber.done)} troubles over"
            self._tell(f"load, {phase}: {left_s:.0f} s left, {answered:,} answers, {done}")
            time.sleep(min(left_s, 1.0))

    def _gather(self) -> Gathered:
        self._tell("stores catch up")
        number, self._outcome.drain_s, late = gathering.drain(self._servers.running, DRAIN_TIMEOUT_S)
        late += arrive(self._owners, number, DRAIN_TIMEOUT_S)
        self._outcome.findings.append(finding("all is stored and told", f"{number:,} events", late))
        users = [*range(FIRST_USER, FIRST_USER + USER_COUNT), *(trader.user_id for trader in self._traders)]
        return gathering.of_exchange(self._servers, self._catalog, users, self._watcher, number)

    def _reconcile(self, gathered: Gathered) -> None:
        settings, outcome = self._servers.running.settings, self._outcome
        self._tell("the journal is replayed")
        began_s = time.monotonic()
        outcome.findings.append(finding("journal", *_audit(self._servers)))
        try:
            wanted = wanted_of(settings, self._catalog, frozenset(owner.user_id for owner in self._owners))
        except (Damaged, Diverged, AssertionError) as error:  # the last: the twin of the history contradicts an event
            outcome.findings.append(finding("replay", "nothing can be compared", [f"{type(error).__name__}: {error}"]))
            return
        outcome.command_count, outcome.event_count = wanted.command_count, wanted.event_count
        outcome.replay_s = time.monotonic() - began_s
        outcome.findings += self._compare(gathered, wanted)

    def _compare(self, gathered: Gathered, wanted: Wanted) -> list[Finding]:
        known = self._outcome.known
        nuisances = self._nuisance.refused_count + known.refused["hostile"]
        return [
            clients.check_orders(known, wanted.commands),
            clients.check_cancels(known, wanted.commands),
            clients.check_updates(known, wanted.commands),
            clients.check_answers([*known.wrong, *self._nuisance.wrong], known.answered.total(), nuisances),
            stores.check_history(wanted.rows.tables, gathered.tables),
            stores.check_topics(wanted.messages.topics, gathered.topics),
            stores.check_redis(
                wanted.market.keys(), market.stored(gathered.redis), gathered.last_number, gathered.position
            ),
            balances.check_balances(wanted.balances, gathered.bus, gathered.shown, self._catalog),
            balances.check_sums(wanted.sums, gathered.bus, self._catalog),
            notifications.check_own(self._owners, wanted.own.told, gathered.shown),
            notifications.check_deals(self._watcher.deals, wanted.market.ids, wanted.market.digests),
            notifications.check_public(
                [*self._watcher.wrong, *gathered.book_faults],
                self._watcher.prices,
                gathered.last_prices,
                list(self._watcher.books),
            ),
            alerts.check_alerts(gathered.alerts, gathered.alert_list),
            back.check_back(self._disturber.done, self._disturber.faults),
            flat.check_flat([each for each in self._outcome.grown if is_ours(each.name)], self._sampler.trouble),
        ]


def is_ours(name: str) -> bool:
    """Whether it is a process of the exchange."""
    return not name.startswith(("mariadb", "redis", "nginx", "kafka"))


def _audit(everything: Servers) -> tuple[str, list[str]]:
    """What `pit audit --from-start` says."""
    settings = everything.running.settings
    try:
        lines = {
            line[:20].strip(): line[20:] for line in report(settings.paths, capacity_of(settings), from_start=True)
        }
    except NotSound as error:
        return "replayed from its first command", [str(error)]
    text = f"{lines['commands replayed']} commands replayed, the state is sound; events: {lines['events']}"
    is_whole = lines["events"].endswith("they make these balances")
    return text, [] if is_whole else [f"the event log: {lines['events']}"]
