"""A process in the supervisor's charge: what is known of it, and which settings its present run began with."""

import hashlib
from dataclasses import asdict, dataclass, field, fields, is_dataclass
from functools import reduce
from typing import Any

from conf.settings import Settings
from supervisor.become import special
from supervisor.plan import Seen
from supervisor.table import Wanted

NOWHERE = -1
DIGEST_SIZE = 8

Marks = dict[str, str]  # a digest of each setting's value, by its key: values may be secrets


@dataclass(kw_only=True)
class Charge:
    """One process."""

    wanted: Wanted
    settings: Settings  # with which its next run begins
    seen: Seen = Seen()
    marks: Marks = field(default_factory=dict)  # of the settings that its present run began with
    log_start: int = 0  # where the output of the present run begins
    told_fd: int = NOWHERE  # the pipe in which it says that it is ready and alive

    @property
    def name(self) -> str:
        return self.wanted.name

    @property
    def changed_keys(self) -> list[str]:
        """The settings that it goes by and that have changed since it began; none when that is not known."""
        now = marks(self.settings, self.wanted)
        if not self.seen.pid or not self.marks:
            return []
        return sorted(key for key in now.keys() | self.marks.keys() if now.get(key) != self.marks.get(key))

    def handed_over(self) -> dict[str, Any]:
        """What the supervisor's next run has to know, as JSON."""
        kept = {"seen": asdict(self.seen), "marks": self.marks, "log_start": self.log_start, "told_fd": self.told_fd}
        return {"name": self.name, **kept}

    def take_over(self, kept: dict[str, Any]) -> None:
        """Go on from what `handed_over` gave, to this or another version of the program."""
        known = {one.name for one in fields(Seen)}
        self.seen = Seen(**{name: value for name, value in kept["seen"].items() if name in known})
        self.marks, self.log_start, self.told_fd = kept["marks"], kept["log_start"], kept["told_fd"]


def marks(settings: Settings, wanted: Wanted) -> Marks:
    """The settings that a process goes by."""
    values: dict[str, object] = {}
    for name in wanted.reads:
        value = reduce(getattr, name.split("."), settings)
        values |= (
            {f"{name}.{one.name}": getattr(value, one.name) for one in fields(value)}
            if is_dataclass(value)
            else {name: value}
        )
    values.pop(wanted.counted_by, None)
    own = special(settings, wanted)
    values |= {f"process.{wanted.name}.{one.name}": getattr(own, one.name) for one in fields(own)}
    return {
        key: hashlib.blake2b(repr(value).encode(), digest_size=DIGEST_SIZE).hexdigest() for key, value in values.items()
    }
