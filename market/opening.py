"""Which store of market data an exchange has."""

from conf.settings import Settings
from market.file_store import FileStore
from market.store import Editable

FILE = "file"


def store_of(settings: Settings) -> Editable:
    """The store that [market] store names, not connected yet."""
    if settings.market.store == FILE:
        return FileStore(settings.paths.market_file)
    from market.redis_store import RedisStore  # takes 0.1 s, for nothing where there is a file

    return RedisStore(settings.market.store)
