"""The command `pit`, as far as it needs no running exchange: what it says and its exit codes."""

import importlib
import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result

from supervisor.cli import COMMANDS, main


def pit(*arguments: str | Path) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


@pytest.fixture
def conf_file(tmp_path: Path) -> Path:
    path = tmp_path / "exchange.toml"
    path.write_text('instance = "test-cli"\n')
    return path


@pytest.mark.parametrize("name", list(COMMANDS))
def test_every_command_is_where_the_list_says(name: str) -> None:
    module, _, attribute = COMMANDS[name].target.partition(":")
    assert isinstance(getattr(importlib.import_module(module), attribute), click.Command)


def test_help_lists_every_command_without_importing_any() -> None:
    code = (
        "import sys; from click.testing import CliRunner; from supervisor.cli import main;"
        "print(CliRunner().invoke(main, ['--help']).output);"
        "print([name for name in ('numba', 'zmq', 'falcon', 'rich', 'supervisor.commands') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    *_, imported = done.stdout.splitlines()
    assert imported == "[]"
    assert all(f"  {name} " in done.stdout for name in COMMANDS)


def test_status_imports_nothing_slow() -> None:
    slow = {"numba", "numpy", "zmq"}
    code = f"import sys, supervisor.commands, supervisor.status; print(sorted({slow} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_interrupted_is_exit_code_130(monkeypatch: pytest.MonkeyPatch, conf_file: Path) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("supervisor.control.ask", interrupt)
    result = pit("status", "--conf", conf_file)
    assert (result.exit_code, result.output) == (130, "")


@pytest.mark.parametrize("command", [("status",), ("down",), ("restart", "http"), ("snapshot",)])
def test_where_nothing_runs_the_exit_code_is_3(conf_file: Path, command: tuple[str, ...]) -> None:
    result = pit(*command, "--conf", conf_file)
    assert result.exit_code == 3
    assert "no exchange answers in" in result.output
    assert "`pit up` starts one" in result.output


@pytest.mark.parametrize("command", ["up", "down", "status", "check-conf", "snapshot"])
def test_wrong_settings_are_exit_code_2_with_the_key(conf_file: Path, command: str) -> None:
    conf_file.write_text("[http]\nbnid = 1\n")
    result = pit(command, "--conf", conf_file)
    assert result.exit_code == 2
    assert "exchange.toml: http.bnid: there is no such setting; the nearest is http.bind" in result.output


def test_a_password_that_everybody_can_read_is_told(conf_file: Path) -> None:
    warning = "holds a password, and everybody on this machine can read it"
    conf_file.chmod(0o644)
    assert warning not in pit("check-conf", "--conf", conf_file).output
    conf_file.write_text('[history]\nstore = "mysql://user:s3cret@h/d"\n')
    result = pit("check-conf", "--conf", conf_file)
    assert (result.exit_code, warning in result.output, "s3cret" in result.output) == (0, True, False)
    conf_file.chmod(0o640)
    assert warning not in pit("check-conf", "--conf", conf_file).output


def test_alerts_of_an_exchange_that_never_ran(conf_file: Path) -> None:
    result = pit("alerts", "--conf", conf_file)
    assert (result.exit_code, "there are no alerts in" in result.output) == (0, True)
    result = pit("alerts", "--conf", conf_file, "test")
    assert (result.exit_code, "--conf and --data come after test" in result.output) == (2, True)
    result = pit("alerts", "test", "--conf", conf_file)  # there is not even a folder
    assert (result.exit_code, "file: failed" in result.output) == (1, True)


def test_alerts_are_tested_with_the_settings_that_the_environment_names(
    conf_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRADEPIT_CONF", str(conf_file))  # as bin/pit of a deployment does
    result = pit("alerts", "test")
    assert (result.exit_code, "file: failed" in result.output) == (1, True)


def test_alerts_that_can_not_be_read_are_told_in_a_line(tmp_path: Path) -> None:
    (tmp_path / "alerts.jsonl").mkdir()
    result = pit("alerts", "--data", tmp_path)
    assert (result.exit_code, "Error: [Errno 21] Is a directory" in result.output) == (1, True)


def test_a_missing_file_is_exit_code_2(tmp_path: Path) -> None:
    result = pit("check-conf", "--conf", tmp_path / "gone.toml")
    assert result.exit_code == 2
    assert "gone.toml" in result.output


def test_check_conf_reads_the_markets_too(conf_file: Path) -> None:
    assert "3 assets, 3 markets" in pit("check-conf", "--conf", conf_file).output
    conf_file.with_name("markets.json").write_text('{"assets": []}')
    result = pit("check-conf", "--conf", conf_file)
    assert result.exit_code == 2
    assert "markets.json: 'assets'" in result.output


def test_up_refuses_bad_markets_before_it_touches_anything(conf_file: Path) -> None:
    conf_file.with_name("markets.json").write_text("[]")
    result = pit("up", "--conf", conf_file)
    assert result.exit_code == 1
    assert "'assets' and 'markets'" in result.output
    assert not (conf_file.parent / "data").exists()


def test_logs_of_nobody(conf_file: Path) -> None:
    result = pit("logs", "nobody", "--conf", conf_file)
    assert result.exit_code == 1
    assert "there is no log of nobody" in result.output


def test_logs_show_the_end(conf_file: Path) -> None:
    folder = conf_file.parent / "data" / "logs"
    folder.mkdir(parents=True)
    (folder / "http.log").write_text("one\ntwo\nthree\n")
    assert pit("logs", "http", "-n", "2", "--conf", conf_file).output == "two\nthree\n"


def test_the_environment_names_the_settings_and_the_command_line_goes_before_it(
    conf_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRADEPIT_CONF", str(conf_file))
    assert 'instance "test-cli"' in pit("check-conf").output
    other = tmp_path / "other.toml"
    other.write_text('instance = "other"\n')
    assert 'instance "other"' in pit("check-conf", "--conf", other).output
