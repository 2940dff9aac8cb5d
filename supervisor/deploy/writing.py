"""Writing a deployment over what is there, without losing what an operator has changed.

DIR/.deployed lists the digest of each file as it was written. A file that still has it is ours to replace; one that
has another was edited and stays; one that is not in the list is somebody else's, and then nothing is written at all.
"""

import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from enum import Enum, auto
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

from supervisor.deploy.layout import PRIVATE, File

LIST_FILE = ".deployed"
LIST_VERSION = 1


class Step(Enum):
    """What is done with a file."""

    WRITE = auto()
    LEAVE = auto()  # it is what it should be, or is the operator's since it was first written
    KEEP = auto()  # it was edited
    REFUSE = auto()  # it is not ours


class Planned(NamedTuple):
    """A file and what is done with it. `is_replaced`: what was there is put aside."""

    file: File
    step: Step
    is_replaced: bool = False


class Listed(NamedTuple):
    """What an earlier call has noted ("": there was none): whom the exchange runs as, and the digest of each file."""

    user: str = ""
    digests: Mapping[str, str] = MappingProxyType({})


class Owner(NamedTuple):
    """Who gets what the exchange itself reads or writes; None where it stays with who writes it."""

    uid: int
    gid: int


def decide(file: File, there: str | None, listed: str | None, *, force: bool) -> Step:
    """What to do with a file; `there` and `listed` are digests: of what is there, and of what we wrote."""
    if there is None:
        return Step.WRITE
    if there == digest(file.text) or file.is_once:
        return Step.LEAVE
    if force or there == listed:
        return Step.WRITE
    return Step.REFUSE if listed is None else Step.KEEP


def plan(directory: Path, files: Iterable[File], digests: Mapping[str, str], *, force: bool) -> list[Planned]:
    """What to do with each file; `digests` are of what was written before. Raises OSError."""
    planned = []
    for file in files:
        there, known = _digest_there(directory / file.name), digests.get(file.name)
        step = decide(file, there, known, force=force)
        planned.append(Planned(file, step, step is Step.WRITE and there is not None and there != known))
    return planned


def write(directory: Path, planned: Iterable[Planned], listed: Listed, owner: Owner | None) -> None:
    """Do what is planned, and note it in the list. Raises OSError."""
    digests = dict(listed.digests)
    for file, step, is_replaced in planned:
        path = directory / file.name
        if step is Step.WRITE:
            make_folder(path.parent)
            if is_replaced:
                path.replace(path.with_name(f"{path.name}.replaced"))
            _put(path, file.text, file.mode, owner if file.mode == PRIVATE else None)
        if step is Step.WRITE or _digest_there(path) == digest(file.text):
            digests[file.name] = digest(file.text)
    document = {"version": LIST_VERSION, "user": listed.user, "files": digests}
    _put(directory / LIST_FILE, json.dumps(document, indent=1, sort_keys=True) + "\n", 0o644, None)


def make_folders(folders: Iterable[Path], private: Path, owner: Owner | None) -> None:
    """Make the folders that are missing, for the exchange to write to. Raises OSError.

    What is in `private` tells everybody's balances and orders, and is for its user and group only.
    """
    for folder in folders:
        if not folder.is_dir():
            make_folder(folder, 0o750 if folder == private else 0o755)
            if owner is not None:
                os.chown(folder, *owner, follow_symlinks=False)


def make_folder(folder: Path, mode: int = 0o755) -> None:
    """Make it if it is missing, and those above it: whatever the umask of who calls this, others may pass."""
    missing = [each for each in (folder, *folder.parents) if not each.is_dir()]
    for each in reversed(missing):
        each.mkdir()
        each.chmod(mode if each == folder else 0o755)


def read_list(directory: Path) -> Listed:
    """What an earlier call has noted. Raises ValueError, OSError."""
    path = directory / LIST_FILE
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return Listed()
    if not isinstance(document, dict) or document.get("version") != LIST_VERSION:
        raise ValueError(f"{path} is of another version of `pit deploy`")
    return Listed(document["user"], document["files"])


def digest(text: str) -> str:
    """Of a file's text."""
    return hashlib.sha256(text.encode()).hexdigest()


def _digest_there(path: Path) -> str | None:
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except FileNotFoundError:
        return None


def _put(path: Path, text: str, mode: int, owner: Owner | None) -> None:
    """Write a file in one step: a script that runs meanwhile goes on with the old one."""
    new = path.with_name(f".{path.name}.new")
    new.unlink(missing_ok=True)
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        os.fchmod(descriptor, mode)
        if owner is not None:
            os.fchown(descriptor, *owner)
        file.write(text)
        file.flush()
        os.fsync(descriptor)
    new.replace(path)
