"""What can go wrong: each action is done, and says how to see that all is right again."""

import os
import random
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import NamedTuple

import psutil

from supervisor import control
from supervisor.control import NotRunning, Refused
from tests.soak.disturb.probes import Probe, answers, is_ready, pid_of, pings, probe_of, rows
from tests.soak.disturb.proxy import Proxy
from tests.soak.servers import Servers

HANGS_A_ROUND, RESTARTS_A_ROUND = 2, 3
CRASH_TIMEOUT_S = 30.0
DOWN_S = 2.0  # of MariaDB, in addition to its start
CUT_OFF_S, PAUSE_S = 1.0, 3.0  # of Kafka
HISTORY_QUESTION = ("order.finished_detail", 1)


class Action(NamedTuple):
    """`do` returns the probe that says when it is over; it is done in one thread, one at a time."""

    kind: str  # what the report counts together
    target: str
    do: Callable[[], Probe]


def a_round(servers: Servers, draw: random.Random) -> list[Action]:
    """Every kill and every trouble of a server once, some hangs and restarts, in any order."""
    names = list(rows(servers.running))
    actions = [
        *(Action("kill", name, partial(kill, servers, name)) for name in names),
        *(Action("hang", name, partial(hang, servers, name)) for name in draw.sample(names, HANGS_A_ROUND)),
        *(Action("restart", name, partial(restart, servers, name)) for name in draw.sample(names, RESTARTS_A_ROUND)),
        Action("kill", "http worker", partial(kill_worker, servers)),
        Action("restart", "supervisor", partial(restart_supervisor, servers)),
        Action("crash", "everything", partial(crash, servers)),
        Action("restart", "MariaDB", partial(restart_mariadb, servers)),
        Action("kill", "MariaDB", partial(kill_mariadb, servers)),
        Action("failover", "Redis", partial(fail_over, servers)),
        *_broker_actions(servers),
        Action("reload", "nginx", partial(reload_nginx, servers)),
        Action("snapshot", "matcher", partial(snapshot, servers)),
    ]
    draw.shuffle(actions)
    return actions


def kill(servers: Servers, name: str) -> Probe:
    """SIGKILL, with the processes that it has started."""
    pid = pid_of(servers.running, name)
    with suppress(ProcessLookupError):
        os.killpg(pid, signal.SIGKILL)
    return probe_of(servers.running, name, pid)


def kill_worker(servers: Servers) -> Probe:
    """SIGKILL for what serves HTTP, while what starts it lives."""
    for worker in psutil.Process(pid_of(servers.running, "http")).children():
        with suppress(psutil.NoSuchProcess):
            worker.kill()
    return probe_of(servers.running, "http", 0)


def hang(servers: Servers, name: str) -> Probe:
    """SIGSTOP: it is there, and does nothing, until the supervisor finds that out."""
    pid = pid_of(servers.running, name)
    with suppress(ProcessLookupError):
        os.killpg(pid, signal.SIGSTOP)
    return lambda: is_ready(servers.running, name, pid)


def restart(servers: Servers, name: str) -> Probe:
    """In order, as `pit restart` does."""
    pid = pid_of(servers.running, name)
    with suppress(NotRunning, Refused):
        control.ask(servers.running.settings.paths, {"do": "restart", "name": name})
    return lambda: is_ready(servers.running, name, pid)


def restart_supervisor(servers: Servers) -> Probe:
    """It becomes another program, and nothing else stops."""
    servers.running.pit("restart", "supervisor")
    return lambda: True


def crash(servers: Servers) -> Probe:
    """The whole exchange is killed, its supervisor first, and started again."""
    found = rows(servers.running)
    supervisor = psutil.Process(pid_of(servers.running, "matcher")).parent()
    assert supervisor is not None
    supervisor.kill()
    for row in found.values():
        with suppress(ProcessLookupError):
            os.killpg(int(row["pid"]), signal.SIGKILL)
    supervisor.wait(CRASH_TIMEOUT_S)
    servers.running.pit("up", "--detach")
    return lambda: pings(servers.running)


def restart_mariadb(servers: Servers) -> Probe:
    """The history's store goes in order, and comes back."""
    servers.mariadb.stop()
    time.sleep(DOWN_S)
    servers.mariadb.start()
    return lambda: answers(servers.running.settings.http.bind, *HISTORY_QUESTION)


def kill_mariadb(servers: Servers) -> Probe:
    """It crashes, and recovers."""
    servers.mariadb.kill()
    time.sleep(DOWN_S)
    servers.mariadb.start()
    return lambda: answers(servers.running.settings.http.bind, *HISTORY_QUESTION)


def fail_over(servers: Servers) -> Probe:
    """The master of Redis dies: the Sentinels choose the other one, which the first then follows."""
    dead = servers.redis.kill_master()
    servers.redis.mend(dead)
    return lambda: True


def _broker_actions(servers: Servers) -> list[Action]:
    """One that is killed forgets all messages, and one that is not ours is left alone: then there is nothing to do."""
    tansu = servers.kafka.broker.private
    if servers.kafka.proxy is None or tansu is None:
        return []
    return [
        Action("cut off", "Kafka", partial(cut_off, servers.kafka.proxy)),
        Action("pause", "Kafka", partial(pause, tansu.pid)),
    ]


def cut_off(proxy: Proxy) -> Probe:
    """All its connections break, and none is taken for a while."""
    proxy.cut(CUT_OFF_S)
    return lambda: True


def pause(pid: int) -> Probe:
    """It is there, and does nothing for a while."""
    os.kill(pid, signal.SIGSTOP)
    time.sleep(PAUSE_S)
    os.kill(pid, signal.SIGCONT)
    return lambda: True


def reload_nginx(servers: Servers) -> Probe:
    """New workers take over; the old ones stay until their clients are gone."""
    os.kill(servers.front.pid, signal.SIGHUP)
    return lambda: True


def snapshot(servers: Servers) -> Probe:
    """What the next replay begins with."""
    with suppress(NotRunning, Refused):
        control.ask(servers.running.settings.paths, {"do": "snapshot"})
    return lambda: True
