"""What a forked copy of the supervisor does to become a process of its own: limits, CPUs, user, output, name.

`refuse_impossible` tells beforehand, and in words, what the kernel would refuse here.
"""

import ctypes
import grp
import os
import pwd
import resource
import signal
from collections.abc import Iterable
from dataclasses import fields, replace
from pathlib import Path

from setproctitle import setproctitle

from conf.operations import Process
from conf.paths import Paths
from conf.ready import READY_FD
from conf.rules import BadSettings
from conf.settings import Settings
from supervisor.table import Wanted

PR_SET_PDEATHSIG = 1
HANDLED_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD)
NOT_INHERITED = ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID")  # systemd talks with the supervisor only
SHARED_UMASK = 0o007  # processes of several users: what one makes, the others of the group may use
NO_LIMIT = -1
NR_OPEN = Path("/proc/sys/fs/nr_open")


def become(wanted: Wanted, settings: Settings, parent_pid: int, tell_fd: int) -> None:
    """Turn the forked copy of the supervisor into a process of its own. Raises OSError."""
    signal.set_wakeup_fd(-1)
    for number in HANDLED_SIGNALS:
        signal.signal(number, signal.SIG_DFL)
    os.setsid()
    own = special(settings, wanted)
    _redirect(settings.paths.log_file(wanted.name))  # from here on its log has the reason of what fails
    prepare(own, wanted.nice)
    _change_user(own.user, settings.supervisor.group)
    _die_with_parent(parent_pid)  # after the user: the kernel forgets it with a change of that
    setproctitle(f"pit: {wanted.name} [{settings.instance}]")
    os.environ[READY_FD] = str(tell_fd)


def prepare(own: Process, nice: int) -> None:
    """Set limits, CPUs, priority and environment of this process. Raises OSError."""
    _limit(resource.RLIMIT_NOFILE, own.file_limit)
    _limit(resource.RLIMIT_CORE, own.core_limit)
    if own.cpus:
        os.sched_setaffinity(0, own.cpus)
    os.nice(nice + own.nice)
    for name in NOT_INHERITED:
        os.environ.pop(name, None)
    os.environ.update(own.environment)


def special(settings: Settings, wanted: Wanted) -> Process:
    """What [process.NAME] says for a process: the section of its kind, and over it the one of its own name."""
    of_kind = settings.process.get(wanted.kind, Process())
    of_name = settings.process.get(wanted.name, Process())
    default = Process()
    names = [field.name for field in fields(Process)]
    told = {name: getattr(of_name, name) for name in names if getattr(of_name, name) != getattr(default, name)}
    return replace(of_kind, **told)


def refuse_impossible(settings: Settings, table: Iterable[Wanted]) -> None:
    """See that the machine can do what [process.NAME] and [supervisor] group ask for. Raises BadSettings."""
    is_root, allowed = os.geteuid() == 0, os.sched_getaffinity(0)
    group = settings.supervisor.group
    if group and not is_root:
        raise BadSettings("supervisor.group: only a supervisor that runs as root can share with a group")
    if group and not _is_known(grp.getgrnam, group):
        raise BadSettings(f"supervisor.group: there is no group {group}; `groupadd {group}` makes it")
    for wanted in table:
        own, key = special(settings, wanted), f"process.{wanted.name}"
        if own.user and not _is_known(pwd.getpwnam, own.user):
            raise BadSettings(f"{key}.user: there is no user {own.user}; `useradd {own.user}` makes it")
        if own.user and not is_root:
            raise BadSettings(f"{key}.user: only a supervisor that runs as root can change the user")
        if own.user and not group:
            raise BadSettings(
                f"{key}.user: the others' sockets and memory are closed to {own.user}: set [supervisor] group"
            )
        if not set(own.cpus) <= allowed:
            raise BadSettings(f"{key}.cpus: this process may use {sorted(allowed)} only, not {list(own.cpus)}")
        if wanted.nice + own.nice < 0 and not is_root:
            raise BadSettings(f"{key}.nice: to step forward, the supervisor must run as root")
        for name, kind in (("file_limit", resource.RLIMIT_NOFILE), ("core_limit", resource.RLIMIT_CORE)):
            _refuse_limit(f"{key}.{name}", getattr(own, name), resource.getrlimit(kind)[1], is_root=is_root)


def share(paths: Paths, group: str) -> None:
    """Give the data folder and all in it to a group, and what this process and others make in it later. Raises OSError.

    Only the supervisor writes names into the folder of logs, and what is in the data folder is moved by its owner only:
    where a member could put a link, root would write where it leads.
    """
    folder = paths.data_dir
    os.umask(SHARED_UMASK)
    gid = grp.getgrnam(group).gr_gid
    for path in (folder, *folder.rglob("*"), paths.sockets_dir):
        if path.is_symlink():
            continue
        os.chown(path, -1, gid)
        mode = path.stat().st_mode & 0o777
        path.chmod(mode & 0o770 | (0o2070 if path.is_dir() else (mode & 0o600) >> 3))
    folder.chmod(0o3770)
    paths.logs_dir.chmod(0o2750)


def _is_known(look_up: object, name: str) -> bool:
    try:
        look_up(name)  # type: ignore[operator]  # of pwd or grp
    except KeyError:
        return False
    return True


def _refuse_limit(key: str, wanted: int, most: int, *, is_root: bool) -> None:
    if key.endswith("file_limit") and wanted > (system := int(NR_OPEN.read_text())):
        raise BadSettings(f"{key}: the limit of this machine is {system}; `sysctl fs.nr_open` raises it")
    is_too_much = most != resource.RLIM_INFINITY and (wanted == NO_LIMIT or wanted > most)
    if is_too_much and not is_root:
        raise BadSettings(f"{key}: the limit of this process is {most}; `ulimit -H` or systemd's Limit... raises it")


def _limit(kind: int, wanted: int) -> None:
    if not wanted:
        return
    soft = resource.RLIM_INFINITY if wanted == NO_LIMIT else wanted
    _, hard = resource.getrlimit(kind)
    is_within = hard == resource.RLIM_INFINITY or (soft != resource.RLIM_INFINITY and soft <= hard)
    resource.setrlimit(kind, (soft, hard if is_within else soft))


def _change_user(user: str, group: str) -> None:
    """Become `user`, and a member of `group` and of nothing else that the supervisor was."""
    if group:
        os.umask(SHARED_UMASK)
        os.setegid(grp.getgrnam(group).gr_gid)  # what is made in /dev/shm belongs to it, too
    if not user:
        return
    found = pwd.getpwnam(user)
    gid = grp.getgrnam(group).gr_gid
    os.initgroups(user, gid)
    os.setgid(gid)
    os.setuid(found.pw_uid)
    os.environ.update(HOME=found.pw_dir, USER=user, LOGNAME=user)


def _die_with_parent(parent_pid: int) -> None:
    """Have the kernel send SIGTERM when the supervisor is gone, however it went."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
    if os.getppid() != parent_pid:
        os._exit(1)  # it went before the kernel was asked


def _redirect(log_file: Path) -> None:
    """No input; output and errors go to the end of `log_file`."""
    log_file.parent.mkdir(parents=True, exist_ok=True)
    null_fd = os.open(os.devnull, os.O_RDONLY)
    log_fd = os.open(log_file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    for fd, place in ((null_fd, 0), (log_fd, 1), (log_fd, 2)):
        os.dup2(fd, place)
    os.close(null_fd)
    os.close(log_fd)
