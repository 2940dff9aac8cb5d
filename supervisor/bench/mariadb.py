"""A private MariaDB, for a benchmark or for tests: its own folder, port and account, as durable as it comes.

    with private(folder) as server:
        pymysql.connect(**server.account)

Nothing of the machine's own MariaDB is read or touched.
"""

import os
import pwd
import secrets
import shutil
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
import pymysql

from supervisor.bench.private import free_port

START_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 30.0
POLL_S = 0.02
SEARCH_PATH = os.pathsep.join((os.environ.get("PATH", os.defpath), "/usr/sbin", "/usr/local/sbin"))
USER = "tradepit"


class NoMariaDb(click.ClickException):
    """It is not installed, or does not start: the text says which."""


@contextmanager
def private(folder: Path, options: Sequence[str] = ()) -> Iterator["MariaDb"]:
    """Make one in `folder`, which is not there yet, start it, and stop it at the end; the folder stays."""
    server = MariaDb(folder, options)
    server.install()
    server.start()
    try:
        yield server
    finally:
        server.stop()


class MariaDb:
    """A server of its own. Raises NoMariaDb from what it does."""

    def __init__(self, folder: Path, options: Sequence[str] = ()) -> None:
        """`options` are mariadbd's, like "--innodb-buffer-pool-size=64M"."""
        self.folder = folder
        self.host = "127.0.0.1"
        self.port = free_port()
        self.password = secrets.token_hex(16)
        self._options = options
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def account(self) -> dict[str, Any]:
        """What pymysql.connect wants to know: a user who may do everything."""
        return {"host": self.host, "port": self.port, "user": USER, "password": self.password}

    def address(self, database: str = "trade_history") -> str:
        """The setting [history] store that names it."""
        return f"mysql://{USER}:{self.password}@{self.host}:{self.port}/{database}"

    @property
    def version(self) -> str:
        """What it calls itself."""
        with pymysql.connect(**self.account) as connection, connection.cursor() as cursor:
            cursor.execute("SELECT VERSION()")
            return f"MariaDB {cursor.fetchall()[0][0]}"

    @property
    def pid(self) -> int:
        """Of the running server, 0 when it does not run."""
        process = self._process
        return 0 if process is None else process.pid

    def install(self) -> None:
        """Make its folder: system tables, and the account."""
        self.folder.mkdir(mode=0o700, parents=True)
        command = [
            *(_program("mariadb-install-db"), "--no-defaults", f"--datadir={self.folder / 'data'}"),
            *(f"--user={_own_name()}", "--auth-root-authentication-method=socket", "--skip-test-db"),
        ]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise NoMariaDb(f"mariadb-install-db failed: {(done.stderr or done.stdout).strip()[-1000:]}")
        account = f"'{USER}'@'{self.host}'"
        self._init_file.write_text(
            f"CREATE USER IF NOT EXISTS {account} IDENTIFIED BY '{self.password}';\n"
            f"GRANT ALL ON *.* TO {account} WITH GRANT OPTION;\n",
            encoding="utf-8",
        )

    def start(self) -> None:
        """Start it and wait until it takes connections; after `stop` or `kill` on the same port with the same data."""
        assert self._process is None, "it runs already"
        command = [
            *(_program("mariadbd"), "--no-defaults", f"--user={_own_name()}", f"--datadir={self.folder / 'data'}"),
            *(f"--bind-address={self.host}", f"--port={self.port}", f"--socket={self.folder / 'sock'}"),
            *(f"--pid-file={self.folder / 'pid'}", f"--init-file={self._init_file}"),
            *("--skip-name-resolve", *self._options),
        ]
        with self._log_file.open("ab") as log:
            self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        self._await_ready(time.monotonic() + START_TIMEOUT_S)

    def stop(self) -> None:
        """End it in order, if it runs."""
        if (process := self._process) is not None:
            process.terminate()
            try:
                process.wait(STOP_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                process.kill()
            self._ended()

    def kill(self) -> None:
        """End it at once, as a crash would."""
        assert self._process is not None, "it does not run"
        self._process.kill()
        self._ended()

    def _ended(self) -> None:
        assert self._process is not None
        self._process.wait()
        self._process = None

    def _await_ready(self, deadline_s: float) -> None:
        assert self._process is not None
        while True:
            try:
                pymysql.connect(**self.account).close()
            except pymysql.err.OperationalError as error:
                if self._process.poll() is None and time.monotonic() < deadline_s:
                    time.sleep(POLL_S)
                    continue
                self.stop()
                end = self._log_file.read_text(errors="replace")[-1000:]
                raise NoMariaDb(f"a private mariadbd does not start: {error}\n{end}") from None
            return

    @property
    def _init_file(self) -> Path:
        return self.folder / "init.sql"

    @property
    def _log_file(self) -> Path:
        return self.folder / "log"


def _program(name: str) -> str:
    found = shutil.which(name, path=SEARCH_PATH)
    if found is None:
        raise NoMariaDb(f"{name} is not installed: `apt-get install mariadb-server` brings it")
    return found


def _own_name() -> str:
    """Who runs it: mariadbd refuses to be root unless told so."""
    return pwd.getpwuid(os.getuid()).pw_name
