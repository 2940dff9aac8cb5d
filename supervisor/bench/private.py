"""A private exchange for a benchmark: its own instance, ports and folder, gone when the benchmark ends."""

import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from random import SystemRandom
from typing import Any

import click

from conf.settings import Settings, load

START_TIMEOUT_S = 120  # kernels may have to be compiled
STOP_TIMEOUT_S = 60
PORTS = range(12_000, 32_000)  # below those that connections get (net.ipv4.ip_local_port_range)
_random = SystemRandom()


@contextmanager
def exchange(
    folder: Path | None,
    conf_file: Path | None,
    *,
    ws: Mapping[str, Any] | None = None,
    sections: str = "",
    commands: Sequence[tuple[str, ...]] = (),
) -> Iterator[Settings]:
    """Start one in a new folder under `folder`, yield its settings, stop it and remove what it kept.

    `ws` are settings of that section; `sections`, in TOML, are further ones; `commands` of `pit` come before `up`. With
    `conf_file`, take the one that runs with it, and leave it running.
    """
    if conf_file is not None:
        yield load(conf_file, None)
        return
    data_dir = Path(tempfile.mkdtemp(prefix="tradepit-bench-", dir=folder))
    try:
        conf = data_dir / "tradepit.toml"
        ws_settings = {"bind": f"127.0.0.1:{free_port()}", **(ws or {})}
        ws_lines = "".join(f"{name} = {json.dumps(value)}\n" for name, value in ws_settings.items())
        conf.write_text(
            f'instance = "bench-{os.getpid()}"\ndata_dir = "data"\n'
            f'[http]\nbind = "127.0.0.1:{free_port()}"\n[ws]\n{ws_lines}'
            f'[admin]\nbind = ""\n[alert]\nbind = ""\n{sections}\n',
            encoding="utf-8",
        )
        for command in commands:
            _pit(*command, "--conf", str(conf), timeout_s=START_TIMEOUT_S)
        _pit("up", "--detach", "--conf", str(conf), timeout_s=START_TIMEOUT_S)
        try:
            yield load(conf, None)
        finally:
            _pit("down", "--conf", str(conf), timeout_s=STOP_TIMEOUT_S)
    finally:
        shutil.rmtree(data_dir, ignore_errors=True)


def _pit(*arguments: str, timeout_s: float) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "supervisor.cli", *arguments],
        timeout=timeout_s,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise click.ClickException(f"`pit {' '.join(arguments)}` failed: {(done.stderr or done.stdout).strip()}")


def free_port() -> int:
    """A port of this machine that nobody listens on, and that the system gives to nobody who connects somewhere."""
    while True:
        port = _random.choice(PORTS)
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
