"""What is installed is this checkout, whole, under its own name.

PyPI has another distribution with a package `supervisor`; installed into the same environment it would shadow ours or
overwrite it, and nothing else would tell.
"""

import configparser
import fnmatch
import importlib
import importlib.metadata
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("bus", "conf", "engine", "gateways", "market", "persist", "supervisor")


def setup() -> configparser.ConfigParser:
    parser = configparser.ConfigParser()
    parser.read(ROOT / "setup.cfg")
    return parser


def names(requirements: str) -> set[str]:
    """The distributions that a list of requirements asks for, in the normal form of their names."""
    lines = (line.split("#")[0].strip() for line in requirements.splitlines())
    return {re.sub(r"[-_.]+", "-", re.split(r"[ ><=]", line)[0]).lower() for line in lines if line}


@pytest.mark.parametrize("name", PACKAGES)
def test_every_package_is_the_one_of_this_checkout(name: str) -> None:
    module = importlib.import_module(name)
    assert module.__file__ is not None
    assert Path(module.__file__).resolve() == ROOT / name / "__init__.py"
    assert (module.__doc__ or "").strip(), f"{name} does not say what it is"


@pytest.mark.parametrize("name", PACKAGES)
def test_from_another_folder_it_is_still_this_checkout(name: str, tmp_path: Path) -> None:
    code = f"import {name}; print({name}.__file__)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path)
    assert Path(done.stdout.strip()).resolve() == ROOT / name / "__init__.py"


def test_every_folder_with_code_is_declared() -> None:
    declared = set(setup()["options"]["packages"].split())
    folders = {path.parent.relative_to(ROOT) for name in PACKAGES for path in (ROOT / name).rglob("*.py")}
    assert declared == {".".join(folder.parts) for folder in folders}


def test_only_tradepit_brings_these_packages() -> None:
    owners = importlib.metadata.packages_distributions()
    for name in PACKAGES:
        assert set(owners.get(name, ["tradepit"])) == {"tradepit"}, f"{name} is installed by {owners[name]}"


def test_the_command_and_the_version(tmp_path: Path) -> None:
    pit = Path(sys.executable).with_name("pit")
    done = subprocess.run([pit, "--version"], capture_output=True, text=True, check=True, cwd=tmp_path)
    assert done.stdout.split()[-1] == setup()["metadata"]["version"] == importlib.metadata.version("tradepit")


def test_the_lock_holds_every_dependency_in_one_version() -> None:
    lock = (ROOT / "requirements.lock").read_text()
    lines = [line for line in lock.splitlines() if not line.startswith("#")]
    assert all(re.fullmatch(r"[\w.-]+==[\w.]+", line) for line in lines)
    wanted = setup()["options"]["install_requires"] + setup()["options.extras_require"]["dev"]
    assert names(wanted) <= names(lock)


def test_every_file_that_is_not_python_is_declared() -> None:
    declared = setup()["options.package_data"]
    for name in PACKAGES:
        for path in (ROOT / name).rglob("*.*"):
            if path.suffix in (".py", ".pyc"):
                continue
            package = ".".join(path.parent.relative_to(ROOT).parts)
            patterns = declared.get(package, "").split()
            assert any(fnmatch.fnmatch(path.name, pattern) for pattern in patterns), path
