"""`pit deploy DIR`: lay an exchange out for operation, or bring what it laid out before up to date."""

import grp
import os
import pwd
import stat
import subprocess
import sys
import tomllib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import click

from conf import markets
from conf.rules import BadSettings
from conf.settings import DEFAULT_MARKETS_FILE, Settings, load
from supervisor.deploy import adopting, writing
from supervisor.deploy.forms import filled, in_shell
from supervisor.deploy.layout import PRIVATE, READABLE, SETTINGS_FILE, SUPERVISOR, File, Place, files, folders
from supervisor.deploy.writing import Listed, Owner, Planned, Step

FIRST_PERSON_UID = 1000  # logind removes the shared memory of such users when they log out
MARKETS_FILE = "markets.json"


@click.command()
@click.argument("directory", type=click.Path(path_type=Path, file_okay=False))
@click.option(
    "--conf",
    "conf_file",
    type=click.Path(path_type=Path, dir_okay=False, exists=True),
    metavar="FILE",
    help="Take settings and markets from this configuration file; without it, those in DIRECTORY, or the defaults.",
)
@click.option(
    "--user", "user_name", metavar="NAME", help="Who the exchange runs as; at first who calls this, then as before."
)
@click.option("--force", is_flag=True, help="Replace files that were edited or are not from here; NAME.replaced stays.")
def command(directory: Path, conf_file: Path | None, user_name: str | None, force: bool) -> None:
    """Lay an exchange out in DIRECTORY: bin, log, conf and shell for each process, a systemd unit.

    Called again, it writes what has changed in a new version and keeps what was edited.
    """
    directory = _whole(directory)
    try:
        listed = writing.read_list(directory)
        place = _place(directory, user_name or listed.user)
        settings, settings_files = _settings(directory, conf_file)
        planned = writing.plan(directory, [*settings_files, *files(place, settings)], listed.digests, force=force)
        _refuse_foreign(directory, planned)
        owner = _owner(place.user)
        if os.getuid() == 0:
            _refuse_traps(directory, planned)
        writing.make_folder(directory)
        writing.write(directory, planned, Listed(place.user or "root", listed.digests), owner)
        settings = load(place.directory / SETTINGS_FILE)
        writing.make_folders(folders(place, settings), settings.data_dir, owner)
    except (BadSettings, OSError, ValueError) as error:
        raise click.ClickException(str(error)) from None
    _report(place, settings, planned, listed.digests)
    if listed.user not in ("", place.user or "root"):
        click.echo(
            f"note: files of {listed.user} stay so: chown -R {place.user or 'root'} {SETTINGS_FILE} data cache */log "
            "*/conf/config.toml"
        )


def _whole(directory: Path) -> Path:
    directory = Path(os.path.abspath(directory))  # noqa: PTH100  # links stay, `..` goes
    if not str(directory).isprintable():
        raise click.UsageError("DIRECTORY: its path has a character that can't be printed")
    return directory


def _place(directory: Path, user_name: str) -> Place:
    user_name = user_name or pwd.getpwuid(os.getuid()).pw_name
    try:
        user = pwd.getpwnam(user_name)
    except KeyError:
        raise click.UsageError(
            f"--user: there is no user {user_name}; `useradd --system {user_name}` makes one"
        ) from None
    if os.getuid() not in (0, user.pw_uid):
        raise click.UsageError("--user: only root can deploy for another user")
    is_root = user.pw_uid == 0
    group = grp.getgrgid(user.pw_gid).gr_name
    # Not resolved: in a virtual environment python is a link, and knows by its place where packages are.
    python = Path(sys.executable)
    return Place(directory=directory, python=python, user="" if is_root else user_name, group="" if is_root else group)


def _owner(user: str) -> Owner | None:
    if os.getuid() != 0 or not user:
        return None
    entry = pwd.getpwnam(user)
    return Owner(entry.pw_uid, entry.pw_gid)


def _settings(directory: Path, conf_file: Path | None) -> tuple[Settings, list[File]]:
    """The settings by which it is laid out, and the files that are written for them. Raises BadSettings, OSError."""
    there = directory / SETTINGS_FILE
    if conf_file is not None:
        return _adopted(directory, conf_file)
    if not there.exists():
        text = DEFAULT_MARKETS_FILE.read_text(encoding="utf-8")
        listing = [] if (directory / MARKETS_FILE).exists() else [File(MARKETS_FILE, text, READABLE)]
        return Settings(data_dir=directory / "data"), [File(SETTINGS_FILE, filled(SETTINGS_FILE), PRIVATE), *listing]
    settings = load(there)
    if settings.paths.processes_dir != directory:
        raise BadSettings(
            f'{there}: set `processes_dir = "."` in [supervisor], so that logs go where they are laid out'
        )
    return settings, []


def _adopted(directory: Path, conf_file: Path) -> tuple[Settings, list[File]]:
    settings = load(conf_file)
    markets.load(settings.markets_file)  # what can't be used is told now
    is_json = settings.markets_file.suffix != ".toml"
    markets_name = MARKETS_FILE if is_json else "markets.toml"
    text = adopting.adopted(conf_file.read_text(encoding="utf-8"), markets_name)
    data_dir = directory / tomllib.loads(text).get("data_dir", Settings().data_dir)
    if settings.data_dir.exists() and data_dir != settings.data_dir:
        click.echo(
            f"note: {settings.data_dir} stays where it is; to go on with it, `pit down` and move it to {data_dir}"
        )
    markets_text = settings.markets_file.read_text(encoding="utf-8")
    if is_json:
        markets_text = adopting.markets_only(markets_text)
    written = [File(SETTINGS_FILE, text, PRIVATE), File(markets_name, markets_text, READABLE)]
    return replace(settings, data_dir=data_dir), written


def _refuse_foreign(directory: Path, planned: list[Planned]) -> None:
    foreign = [file.name for file, step, _ in planned if step is Step.REFUSE]
    if foreign:
        raise click.ClickException(
            f"in {directory}, these are not from `pit deploy`: {', '.join(foreign)}; nothing was written. "
            "Name another folder, or replace them with --force"
        )


def _refuse_traps(directory: Path, planned: list[Planned]) -> None:
    """What root writes and calls must lie where nobody else can put something else: a link, another script."""
    parents = {(directory / file.name).parent for file, _, _ in planned}
    for folder in sorted({directory, *parents, *(each.parent for each in parents if each != directory)}):
        if folder.is_symlink() and folder != directory:
            raise click.ClickException(f"{folder} is a link, and root would write where it leads; nothing was written")
        if folder.is_dir() and (folder.stat().st_uid != 0 or folder.stat().st_mode & stat.S_IWOTH):
            raise click.ClickException(
                f"{folder} belongs to {_name_of(folder.stat().st_uid)} or everybody may write to it, so root must not "
                f"call scripts in it; nothing was written. Either `chown root {in_shell(folder)}` and `chmod o-w`, or "
                "deploy as that user"
            )


def _name_of(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def _report(place: Place, settings: Settings, planned: list[Planned], digests: Mapping[str, str]) -> None:
    count = sum(step is Step.WRITE for _, step, _ in planned)
    click.echo(f"{place.directory}: {count} of {len(planned)} files written")
    for file, step, is_replaced in planned:
        if step is Step.KEEP:
            click.echo(f"kept, because it was edited: {file.name}; --force replaces it")
        if is_replaced:
            click.echo(f"replaced: {file.name}; what was there is {file.name}.replaced")
    known = {file.name.split("/")[0] for file in files(place, settings)} | {"bin", "shell"}
    gone = sorted({name.split("/")[0] for name in digests if "/" in name} - known - {SUPERVISOR})
    for name in gone:
        click.echo(f"no process of these settings: {name}; its folder stays until you remove it")
    if place.user and pwd.getpwnam(place.user).pw_uid >= FIRST_PERSON_UID:
        click.echo(
            f"note: when {place.user} logs out, systemd-logind takes away the shared memory of the exchange; let it "
            "run as a system user (--user), or set RemoveIPC=no in /etc/systemd/logind.conf"
        )
    if place.user and not settings.data_dir.is_relative_to(place.directory):
        click.echo(f"note: {place.user} must be able to write to {settings.data_dir}, which is not made here")
    if place.user and not _can_run(place):
        click.echo(f"note: {place.user} can't run {place.python}: install tradepit where all may read it, like /opt")
    click.echo(f"start it: {in_shell(place.directory / 'shell/start.sh')}")
    click.echo(f"or let systemd: {in_shell(place.directory / 'tradepit.service')} says how")


def _can_run(place: Place) -> bool:
    """Whether the user of the exchange can use this installation; nobody but root can tell of another user."""
    if os.getuid() != 0:
        return True
    command = [str(place.python), "-P", "-c", "import supervisor.cli"]
    try:
        done = subprocess.run(
            command, user=place.user, group=place.group, extra_groups=[], cwd="/", capture_output=True, check=False
        )
    except OSError:
        return False
    return done.returncode == 0
