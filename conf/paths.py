"""Where an exchange keeps things: one folder, `data_dir`, and one shared-memory segment named after the instance."""

import hashlib
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path

SOCKET_PATH_MAX = 100  # bytes; the kernel's limit for a unix socket is 107


@dataclass(frozen=True)
class Paths:
    """The places of one exchange."""

    data_dir: Path
    instance: str
    processes_dir: Path | None = None  # with a folder for each process, NAME/log and NAME/conf

    @property
    def journal_dir(self) -> Path:
        return self.data_dir / "journal"

    @property
    def events_dir(self) -> Path:
        return self.data_dir / "events"

    @property
    def positions_dir(self) -> Path:
        """How far each consumer of the event log is."""
        return self.data_dir / "positions"

    @property
    def history_file(self) -> Path:
        """The history, with [history] store = "sqlite"."""
        return self.data_dir / "history.db"

    @property
    def market_file(self) -> Path:
        """K-lines, prices and deals, with [market] store = "file"."""
        return self.data_dir / "market.db"

    @property
    def courier_file(self) -> Path:
        """How far the courier is in the topics of Kafka."""
        return self.data_dir / "courier.json"

    @property
    def resend_file(self) -> Path:
        """What the courier is asked to send again."""
        return self.data_dir / "courier-resend.json"

    @property
    def snapshots_dir(self) -> Path:
        return self.data_dir / "snapshots"

    @property
    def logs_dir(self) -> Path:
        """Where logs are, without `processes_dir`."""
        return self.data_dir / "logs"

    def log_file(self, name: str) -> Path:
        """Where the output of process `name` goes."""
        folder = self.logs_dir if self.processes_dir is None else self.processes_dir / name / "log"
        return folder / f"{name}.log"

    def log_files(self) -> list[Path]:
        """The logs that there are, by name."""
        pattern = self.logs_dir.glob("*.log") if self.processes_dir is None else self.processes_dir.glob("*/log/*.log")
        return sorted(pattern, key=lambda path: path.stem)

    def conf_file(self, name: str) -> Path | None:
        """Where a process may have settings of its own; None without `processes_dir`."""
        return None if self.processes_dir is None else self.processes_dir / name / "conf" / "config.toml"

    @property
    def alerts_file(self) -> Path:
        """The alerts; older ones in alerts.jsonl.1 and so on."""
        return self.data_dir / "alerts.jsonl"

    @property
    def alert_positions_dir(self) -> Path:
        """How far each way by which alerts leave is in those files."""
        return self.data_dir / "alertcenter"

    @property
    def alert_socket(self) -> Path:
        """Where the alertcenter takes what could not be written."""
        return self.sockets_dir / "alertcenter.sock"

    @property
    def lock_file(self) -> Path:
        """Held by the supervisor as long as it lives."""
        return self.data_dir / "lock"

    @property
    def state_name(self) -> str:
        """The matcher's shared memory, as posix_ipc names it."""
        return f"/tradepit-{self.instance}"

    @property
    def sockets_dir(self) -> Path:
        """Under the data folder, or, when that path is too long for a unix socket, a private folder in /tmp."""
        wanted = self.data_dir.absolute() / "sockets"
        if len(os.fsencode(wanted)) + len("/alertcenter.sock") <= SOCKET_PATH_MAX:
            return wanted
        digest = hashlib.sha256(os.fsencode(wanted)).hexdigest()[:16]
        return Path(tempfile.gettempdir()) / f"tradepit-{self._owner_id()}-{digest}"

    def _owner_id(self) -> int:
        """The user of the data folder: whose processes may run as others, and still must meet."""
        return self.data_dir.stat().st_uid if self.data_dir.exists() else os.getuid()

    def make(self) -> None:
        """Create every folder that is missing; the sockets' one is for this user only."""
        for folder in (self.data_dir, self.journal_dir, self.events_dir, self.snapshots_dir, self.logs_dir):
            folder.mkdir(parents=True, exist_ok=True)
        self.sockets_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        if self.sockets_dir.stat().st_uid != os.getuid():
            raise PermissionError(f"{self.sockets_dir} belongs to another user")
