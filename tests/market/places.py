"""Where the stores of tests are: a file, or a database of a private Redis."""

from dataclasses import dataclass
from pathlib import Path

from market.file_store import FileStore
from market.redis_store import RedisStore
from market.store import Editable, Loaded
from tests.market.keeping import CATALOG, EVER
from tests.market.sentinels import Group

DATABASE = 3


@dataclass(frozen=True)
class Place:
    """A file, or, if there is a group, its Redis."""

    file: Path
    group: Group | None = None

    @property
    def words(self) -> tuple[str, str]:
        """What `tests.market.keeping` takes."""
        return ("file", str(self.file)) if self.group is None else ("redis", self.group.address(DATABASE))

    def store(self) -> Editable:
        """A store that is not loaded."""
        return FileStore(self.file) if self.group is None else RedisStore(self.group.address(DATABASE))

    def loaded(self) -> Loaded:
        """What another process would load now."""
        store = self.store()
        try:
            return store.load(CATALOG, EVER)
        finally:
            store.close()

    def clear(self) -> None:
        """Forget all of it; no store may have it open."""
        if self.group is None:
            for path in self.file.parent.glob(self.file.name + "*"):
                path.unlink()
        else:
            with self.group.master.client() as client:
                client.flushall()
