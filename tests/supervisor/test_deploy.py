"""`pit deploy`: what it lays out, and what it does to what is there already."""

import json
import os
import shutil
import stat
import subprocess
import tomllib
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from conf.rules import BadSettings
from conf.settings import DEFAULT_MARKETS_FILE, Settings, load
from supervisor.cli import main
from supervisor.deploy.adopting import adopted, with_setting
from supervisor.deploy.forms import in_command, in_unit
from supervisor.deploy.layout import File, Place, names, unit
from supervisor.deploy.writing import LIST_FILE, Step, decide, digest

PROCESS_FILES = ("bin/NAME", "conf/config.toml", "log", "shell/restart.sh", "shell/check_alive.sh")


def deploy(directory: Path, *options: str | Path) -> Result:
    return CliRunner().invoke(main, ["deploy", str(directory), *map(str, options)])


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "my exchange"


def contents(directory: Path) -> dict[str, bytes]:
    return {str(path.relative_to(directory)): path.read_bytes() for path in directory.rglob("*") if path.is_file()}


def test_every_process_gets_the_folders_of_viabtc(directory: Path) -> None:
    result = deploy(directory)
    assert result.exit_code == 0, result.output
    settings = load(directory / "tradepit.toml")
    assert settings.data_dir == directory / "data"
    assert settings.paths.log_file("matcher") == directory / "matcher/log/matcher.log"
    for name in names(settings):
        assert [file for file in PROCESS_FILES if not (directory / name / file.replace("NAME", name)).exists()] == []
        assert settings.paths.conf_file(name) == directory / name / "conf/config.toml"
    for script in ("start", "stop", "restart", "check_alive"):
        assert os.access(directory / f"shell/{script}.sh", os.X_OK)
    assert stat.S_IMODE((directory / "tradepit.toml").stat().st_mode) == 0o600  # it may have a password
    assert json.loads((directory / "markets.json").read_text())["markets"]


def test_the_settings_are_the_defaults(directory: Path) -> None:
    deploy(directory)
    written = tomllib.loads((directory / "tradepit.toml").read_text())
    assert written.pop("supervisor") == {"processes_dir": "."}
    default = Settings()
    for key, value in written.items():
        for name, each in value.items() if isinstance(value, dict) else [(None, value)]:
            wanted = getattr(default, key) if name is None else getattr(getattr(default, key), name)
            assert each == (str(wanted) if isinstance(wanted, Path) else wanted), f"{key} {name}"


def test_a_second_call_changes_nothing(directory: Path) -> None:
    deploy(directory)
    before = contents(directory)
    result = deploy(directory)
    assert (result.exit_code, contents(directory)) == (0, before)
    assert ": 0 of " in result.output


def test_a_new_version_writes_what_it_has_written_and_keeps_what_was_edited(directory: Path) -> None:
    deploy(directory)
    script, edited = directory / "shell/stop.sh", directory / "http/shell/restart.sh"
    wanted = script.read_text()
    listed = json.loads((directory / LIST_FILE).read_text())
    script.write_text("of an older version\n")
    listed["files"]["shell/stop.sh"] = digest("of an older version\n")
    (directory / LIST_FILE).write_text(json.dumps(listed))
    edited.write_text("#!/bin/sh\n# ours\n")
    (directory / "http/conf/config.toml").write_text("[http]\nworkers = 2\n")
    settings = directory / "tradepit.toml"
    settings.write_text(settings.read_text() + "# ours\n")
    result = deploy(directory)
    assert script.read_text() == wanted
    assert edited.read_text() == "#!/bin/sh\n# ours\n"
    assert "kept, because it was edited: http/shell/restart.sh" in result.output
    assert ".toml" not in result.output  # settings are the operator's: nothing to be told
    assert settings.read_text().endswith("# ours\n")
    assert (directory / "http/conf/config.toml").read_text() == "[http]\nworkers = 2\n"


def test_force_puts_what_was_edited_aside(directory: Path) -> None:
    deploy(directory)
    script = directory / "shell/stop.sh"
    wanted = script.read_text()
    script.write_text("# ours\n")
    settings = directory / "tradepit.toml"
    settings.write_text(settings.read_text() + "# ours\n")
    assert deploy(directory, "--force").exit_code == 0
    assert script.read_text() == wanted
    assert script.with_name("stop.sh.replaced").read_text() == "# ours\n"
    assert settings.read_text().endswith("# ours\n")  # nobody has given other ones


def test_what_is_not_from_here_is_not_overwritten(directory: Path) -> None:
    (directory / "bin").mkdir(parents=True)
    (directory / "bin/pit").write_text("somebody's\n")
    result = deploy(directory)
    assert result.exit_code == 1
    assert "these are not from `pit deploy`: bin/pit; nothing was written" in result.output
    assert contents(directory) == {"bin/pit": b"somebody's\n"}


def test_more_processes_get_folders_and_fewer_are_told(directory: Path) -> None:
    deploy(directory)
    conf_file = directory / "tradepit.toml"
    text = conf_file.read_text()
    conf_file.write_text(text.replace("processes = 1", "processes = 2"))
    assert deploy(directory).exit_code == 0
    assert (directory / "history-1/shell/restart.sh").exists()
    conf_file.write_text(text)
    assert "no process of these settings: history-1" in deploy(directory).output
    assert (directory / "history-1").exists()


def test_settings_that_are_there_must_say_where_logs_go(directory: Path) -> None:
    directory.mkdir()
    (directory / "tradepit.toml").write_text('instance = "x"\n')
    result = deploy(directory)
    assert result.exit_code == 1
    assert 'set `processes_dir = "."` in [supervisor]' in result.output


def test_a_configuration_is_taken_over_with_its_markets(directory: Path, tmp_path: Path) -> None:
    source = tmp_path / "old"
    source.mkdir()
    listing = json.loads(DEFAULT_MARKETS_FILE.read_text())
    # a configuration of matchengine will do, but its passwords are nobody's business
    (source / "coins.json").write_text(json.dumps(listing | {"db_log": {"user": "root", "pass": "secret"}}))
    conf_file = source / "exchange.toml"
    conf_file.write_text('# ours\nmarkets_file = "coins.json"\ndata_dir = "state"\n[history]\nprocesses = 2\n')
    result = deploy(directory, "--conf", conf_file)
    assert result.exit_code == 0, result.output
    settings = load(directory / "tradepit.toml")
    assert (settings.data_dir, settings.history.processes) == (directory / "state", 2)
    assert settings.markets_file == directory / "markets.json"
    assert json.loads(settings.markets_file.read_text()) == listing
    assert (directory / "tradepit.toml").read_text().startswith("# ours\n")
    assert (directory / "state").is_dir()
    assert (directory / "history-1/log").is_dir()


def test_markets_in_toml_stay_in_toml_and_bad_ones_are_refused(directory: Path, tmp_path: Path) -> None:
    rows = [f'[[assets]]\nname = "{name}"\nprec_save = 12\n' for name in ("BTC", "USD")]
    market = '[[markets]]\nname = "BTCUSD"\nstock = {name = "BTC", prec = 4}\nmoney = {name = "USD", prec = 4}\n'
    coins = tmp_path / "coins.toml"
    coins.write_text(f"# ours\n{rows[0]}{market}")
    conf_file = tmp_path / "exchange.toml"
    conf_file.write_text('markets_file = "coins.toml"\n')
    result = deploy(directory, "--conf", conf_file)
    assert result.exit_code == 1
    assert "USD" in result.output
    assert not directory.exists()
    coins.write_text(f"# ours\n{''.join(rows)}{market}")
    assert deploy(directory, "--conf", conf_file).exit_code == 0
    assert load(directory / "tradepit.toml").markets_file == directory / "markets.toml"
    assert (directory / "markets.toml").read_text().startswith("# ours\n")


@pytest.mark.parametrize(
    ("there", "listed", "force", "step"),
    [
        (None, None, False, Step.WRITE),
        (None, "old", False, Step.WRITE),  # removed: made again
        ("new", None, False, Step.LEAVE),
        ("old", "old", False, Step.WRITE),
        ("edited", "old", False, Step.KEEP),
        ("edited", "old", True, Step.WRITE),
        ("foreign", None, False, Step.REFUSE),
        ("foreign", None, True, Step.WRITE),
    ],
)
def test_what_is_done_with_a_file(there: str | None, listed: str | None, force: bool, step: Step) -> None:
    digests = [None if text is None else digest(text) for text in (there, listed)]
    assert decide(File("name", "new", 0o644), *digests, force=force) is step
    once = Step.WRITE if there is None else Step.LEAVE
    assert decide(File("name", "new", 0o644, is_once=True), *digests, force=force) is once


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("", '\n[supervisor]\nprocesses_dir = "."\n'),
        ("[supervisor] # x\nlog_keep_count = 2\n", '[supervisor] # x\nprocesses_dir = "."\nlog_keep_count = 2\n'),
        ('[supervisor]\nprocesses_dir = "p"\n[ws]\n', '[supervisor]\nprocesses_dir = "."\n[ws]\n'),
        ("[ws]\nworkers = 2", '[ws]\nworkers = 2\n\n[supervisor]\nprocesses_dir = "."\n'),
    ],
)
def test_a_setting_is_put_where_it_belongs(text: str, wanted: str) -> None:
    assert with_setting(text, "supervisor", "processes_dir", ".") == wanted


def test_a_form_of_toml_that_is_not_understood_is_refused() -> None:
    with pytest.raises(BadSettings, match="write `processes_dir"):
        adopted("supervisor.log_keep_count = 2\n", "markets.json")


def test_the_scripts_are_sound(directory: Path) -> None:
    program = shutil.which("shellcheck")
    if program is None:
        pytest.skip("shellcheck is not installed")
    deploy(directory)
    scripts = [path for path in directory.rglob("*") if path.is_file() and os.access(path, os.X_OK)]
    assert len(scripts) == 6 + 3 * len(names(load(directory / "tradepit.toml")))
    done = subprocess.run([program, "-s", "sh", *scripts], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("name", ["my exchange", 'it\'s 100% $HOME "x"'])
def test_systemd_takes_the_unit(tmp_path: Path, name: str) -> None:
    program = shutil.which("systemd-analyze")
    if program is None:
        pytest.skip("systemd is not installed")
    deploy(tmp_path / name)
    done = subprocess.run(
        [program, "verify", tmp_path / name / "tradepit.service"], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_the_unit_knows_the_users_and_the_times_of_the_settings(directory: Path) -> None:
    place = Place(directory=Path("/opt/x y"), python=Path("/usr/bin/python3"), user="trade", group="traders")
    text = unit(place, Settings(data_dir=Path("/srv/data")))
    lines = text.splitlines()
    for line in ("User=trade", "Group=traders", "TimeoutStopSec=60", "TimeoutStartSec=900", "PrivateTmp=yes"):
        assert line in lines, line
    assert 'ReadWritePaths="/opt/x y" "/srv/data"' in lines
    assert 'ExecStart=/bin/sh "/opt/x y/bin/pit" up' in lines
    far = unit(place, Settings(data_dir=Path("/srv") / ("long" * 30)))
    assert "PrivateTmp=no" in far.splitlines()  # sockets are in /tmp then


def test_words_of_a_unit() -> None:
    assert in_unit('a b%"\\$') == '"a b%%\\"\\\\$"'
    assert in_command("$HOME") == '"$$HOME"'


@pytest.mark.skipif(os.getuid() != 0, reason="only root can deploy for another user")
def test_what_the_exchange_writes_belongs_to_its_user(directory: Path) -> None:
    result = deploy(directory, "--user", "nobody")
    assert result.exit_code == 0, result.output
    owners = {str(path.relative_to(directory)): path.owner() for path in [directory, *directory.rglob("*")]}
    for name in ("data", "cache", "http/log", "supervisor/log", "tradepit.toml", "http/conf/config.toml"):
        assert owners[name] == "nobody", name
    for name in (".", "bin/pit", "shell/stop.sh", "http/conf", "http/shell/restart.sh"):
        assert owners[name] == "root", name  # what root calls, the exchange can't change
    assert "user=nobody\n" in (directory / "bin/pit").read_text()
    assert ": 0 of " in deploy(directory).output  # it stays so
    deploy(directory, "--user", "root")
    assert "user=''\n" in (directory / "bin/pit").read_text()


@pytest.mark.skipif(os.getuid() != 0, reason="only root can give files away")
@pytest.mark.parametrize("umask", [0o077, 0o000])
def test_the_umask_of_who_deploys_does_not_matter(directory: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        assert deploy(directory, "--user", "nobody").exit_code == 0
    finally:
        os.umask(before)
    modes = {path: stat.S_IMODE(path.stat().st_mode) for path in [directory, *directory.rglob("*")] if path.is_dir()}
    assert modes.pop(directory / "data") == 0o750
    assert set(modes.values()) == {0o755}


@pytest.mark.skipif(os.getuid() != 0, reason="only root can be led astray")
def test_root_writes_nothing_where_another_user_can_put_something_else(directory: Path, tmp_path: Path) -> None:
    assert deploy(directory, "--user", "nobody").exit_code == 0
    before, elsewhere = contents(directory), tmp_path / "elsewhere"
    elsewhere.mkdir()
    (directory / "matcher").rename(tmp_path / "matcher")
    (directory / "matcher").mkdir()
    (directory / "matcher/shell").symlink_to(elsewhere)
    result = deploy(directory)
    assert (result.exit_code, "matcher/shell is a link" in result.output) == (1, True)
    (directory / "matcher/shell").unlink()
    for owned in ("matcher", "."):
        shutil.chown(directory / owned, "nobody")
        result = deploy(directory)
        assert (result.exit_code, "belongs to nobody" in result.output) == (1, True), result.output
        shutil.chown(directory / owned, "root")
    assert list(elsewhere.iterdir()) == []
    (directory / "matcher").rmdir()
    (tmp_path / "matcher").rename(directory / "matcher")
    assert contents(directory) == before
    assert deploy(directory).exit_code == 0


def test_users_that_there_are_not_and_strange_folders_are_refused(tmp_path: Path) -> None:
    assert deploy(tmp_path / "x", "--user", "no-such-user").exit_code == 2
    assert deploy(tmp_path / "x\ny").exit_code == 2
    assert list(tmp_path.iterdir()) == []
