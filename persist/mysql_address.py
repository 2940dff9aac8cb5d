"""The address of a MySQL or MariaDB server, from [history] store: mysql://user:password@host:port/database."""

import re
from dataclasses import dataclass, field
from urllib.parse import unquote

from persist.store import StoreWrong

DEFAULT_PORT = 3306
DEFAULT_DATABASE = "trade_history"
# Not urllib's: it would end the password at a ? or a #, which the settings let through.
_PARTS = re.compile(
    r"mysql://(?P<user>[^:@/]*)(?::(?P<password>[^@/]*))?@(?P<host>[^@/:]+)(?::(?P<port>\d+))?(?:/(?P<database>\w*))?",
    re.ASCII,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """Where the server is, and as whom to speak to it. Its text is without the password."""

    host: str
    port: int
    user: str
    password: str = field(repr=False)
    database: str  # ASCII letters, digits and _ only, so that it needs no care within a statement

    def __str__(self) -> str:
        return f"mysql://{self.user}@{self.host}:{self.port}/{self.database}"


def parse(store: str) -> Address:
    """Take apart a setting; in user and password, %XX is a byte. Raises StoreWrong."""
    parts = _PARTS.fullmatch(store)
    if parts is None:
        raise StoreWrong("[history] store: mysql://user:password@host:port/database is needed")
    return Address(
        host=parts["host"],
        port=int(parts["port"] or DEFAULT_PORT),
        user=unquote(parts["user"]),
        password=unquote(parts["password"] or ""),
        database=parts["database"] or DEFAULT_DATABASE,
    )
