"""What lies where in a deployed exchange: a pure function of its settings.

DIR/tradepit.toml  markets.json  tradepit.service
DIR/bin/pit
DIR/shell/start.sh  stop.sh  restart.sh  check_alive.sh
DIR/data/  cache/
DIR/NAME/bin/NAME  conf/config.toml  log/  shell/restart.sh  shell/check_alive.sh     for each process
DIR/supervisor/log/  shell/restart.sh
"""

from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from conf.settings import Settings
from supervisor.deploy.forms import filled, in_command, in_shell, in_unit
from supervisor.table import processes

SETTINGS_FILE = "tradepit.toml"
SUPERVISOR = "supervisor"  # a log and a script like the others, but no process of the table
KERNELS_S = 300  # a slow machine compiles them in this time
STOP_MARGIN_S = 15
PRIVATE = 0o600  # settings have passwords
READABLE = 0o644
PROGRAM = 0o755


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where an exchange is deployed, what runs it, and as whom ("" for both: as root)."""

    directory: Path
    python: Path
    user: str
    group: str

    @property
    def pit(self) -> Path:
        return self.directory / "bin" / "pit"


class File(NamedTuple):
    """A file to be written, named from the directory. With `is_once` it is the operator's from then on."""

    name: str
    text: str
    mode: int
    is_once: bool = False


def names(settings: Settings) -> list[str]:
    """The processes that get a folder."""
    return [wanted.name for wanted in processes(settings)]


def files(place: Place, settings: Settings) -> list[File]:
    """All files of a deployment, beside the settings and the markets."""
    found = [
        File("bin/pit", _pit(place), PROGRAM),
        File("tradepit.service", unit(place, settings), READABLE),
        _script(place, f"{SUPERVISOR}/shell/restart.sh", "restart.sh", SUPERVISOR),
    ]
    for name, form in (("restart", "restart_all.sh"), ("check_alive", "check_alive_all.sh")):
        found.append(_script(place, f"shell/{name}.sh", form))
    found += [_script(place, f"shell/{name}.sh", f"{name}.sh") for name in ("start", "stop")]
    for name in names(settings):
        found += [
            _script(place, f"{name}/bin/{name}", "process", name),
            File(f"{name}/conf/config.toml", filled("config.toml", name=name), PRIVATE, is_once=True),
            _script(place, f"{name}/shell/restart.sh", "restart.sh", name),
            _script(place, f"{name}/shell/check_alive.sh", "check_alive.sh", name),
        ]
    return found


def folders(place: Place, settings: Settings) -> list[Path]:
    """The folders that the exchange writes to, as far as they are in the directory."""
    logs = [place.directory / name / "log" for name in (SUPERVISOR, *names(settings))]
    wanted = [place.directory / "cache", settings.data_dir, *logs]
    return [folder for folder in wanted if folder.is_relative_to(place.directory)]


def unit(place: Place, settings: Settings) -> str:
    """The service of systemd."""
    limits = settings.supervisor
    why_shared = _why_shared(place, settings)
    return filled(
        "tradepit.service",
        directory=str(place.directory),
        instance=settings.instance,
        unit_file=in_shell(place.directory / "tradepit.service"),
        executable=in_command(place.pit),
        user_lines=f"User={place.user}\nGroup={place.group}\nCapabilityBoundingSet=" if place.user else "User=root",
        start_timeout_s=str(int(limits.start_timeout_s) + KERNELS_S),
        stop_timeout_s=str(int(3 * limits.stop_timeout_s) + STOP_MARGIN_S),
        writable=" ".join(in_unit(folder) for folder in _writable(place, settings)),
        private_tmp="no" if why_shared else "yes",
        private_tmp_why=why_shared or "It uses nothing there.",
    )


def _why_shared(place: Place, settings: Settings) -> str:
    """Why /tmp has to be the one of all others, too; "" when it has not."""
    if not settings.paths.sockets_dir.is_relative_to(settings.data_dir):
        return "The path of data_dir is too long for sockets: they are in /tmp, where `pit` looks for them."
    if any(folder.is_relative_to(shared) for folder in _writable(place, settings) for shared in ("/tmp", "/var/tmp")):
        return "The exchange itself is in a folder for temporary files."
    return ""


def _writable(place: Place, settings: Settings) -> list[Path]:
    """What a service may write to: the directory, and a data folder elsewhere."""
    is_inside = settings.data_dir.is_relative_to(place.directory)
    return [place.directory] if is_inside else [place.directory, settings.data_dir]


def _pit(place: Place) -> str:
    return filled(
        "pit",
        directory=in_shell(place.directory),
        python=in_shell(place.python),
        user=in_shell(place.user),
        group=in_shell(place.group),
    )


def _script(place: Place, file: str, form: str, name: str = "") -> File:
    return File(file, filled(form, pit=in_shell(place.pit), name=name), PROGRAM)
