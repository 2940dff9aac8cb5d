"""What a store of the history is: a writer for the recorder, a reader for the history processes, and rows.

There are two, persist/sqlite_store.py and persist/mysql_store.py. Both keep exact numbers; what the original's column
types round away (CONTRACT 7.2) is rounded when a reply is written (persist/replies.py).
"""

from collections.abc import Iterator, Sequence
from decimal import Decimal
from typing import NamedTuple, Protocol

from bus.catalog import Catalog
from bus.messages import Frame


class StoreDown(Exception):
    """The store does not answer, or refuses for now: the text says why. To try again is right."""


class StoreWrong(Exception):
    """The store holds what can't be, or is not made for this: the text says what to do. To try again is no use."""


class Order(NamedTuple):
    """A finished order: a row of order_history and order_detail."""

    id: int
    create_time: float
    finish_time: float
    user_id: int
    market: str
    source: str
    type: int
    side: int
    price: Decimal
    amount: Decimal
    taker_fee: Decimal
    maker_fee: Decimal
    deal_stock: Decimal
    deal_money: Decimal
    deal_fee: Decimal


class Deal(NamedTuple):
    """One side of a deal: a row of user_deal_history, which has all that one of deal_history has."""

    time: float
    user_id: int
    market: str
    deal_id: int
    order_id: int
    deal_order_id: int  # of the other side
    side: int
    role: int  # 1 maker, 2 taker
    price: Decimal
    amount: Decimal
    deal: Decimal
    fee: Decimal
    deal_fee: Decimal  # the other side's


class Change(NamedTuple):
    """A step of a balance: a row of balance_history."""

    time: float
    user_id: int
    asset: str
    business: str
    change: Decimal
    balance: Decimal
    detail: str  # JSON text


class Times(NamedTuple):
    """From `start` to before `end`, in seconds since 1970; 0 is no limit."""

    start: int
    end: int


class Page(NamedTuple):
    """Which of the rows found, newest first. A negative offset is beyond all of them."""

    offset: int
    limit: int


class Writer(Protocol):
    """The recorder's side. `Settings.history.store` says which; made without connecting."""

    def open(self) -> int:
        """Connect and return the number of the last event stored. Raises StoreDown, StoreWrong."""
        ...

    def write(self, frames: Sequence[Frame], catalog: Catalog) -> None:
        """Store the events of some frames, which follow what is stored, and their last number, in one transaction.

        Raises StoreDown, StoreWrong; then nothing of it is stored, or, when the connection broke during the commit,
        all or nothing: `open`, which must come before the next `write`, tells which.
        """
        ...

    def close(self) -> None:
        """Disconnect."""
        ...


class Reader(Protocol):
    """The history processes' side; it connects by itself, again when it must. Everything raises StoreDown."""

    def changes(self, user_id: int, asset: str, business: str, times: Times, page: Page) -> list[Change]:
        """Newest first; an empty asset or business is every one."""
        ...

    def orders(self, user_id: int, market: str, side: int, times: Times, page: Page) -> list[Order]:
        """The highest id first, by the times of their creation; side 0 is both."""
        ...

    def order(self, order_id: int) -> Order | None:
        """One by its id."""
        ...

    def deals_of_order(self, order_id: int, page: Page) -> list[Deal]:
        """Newest first. The market of a row may be empty, the side 0: the original's table does not have them."""
        ...

    def deals_of_user(self, user_id: int, market: str, page: Page) -> list[Deal]:
        """Newest first."""
        ...

    def all_orders(self, user_id: int, market: str, times: Times) -> Iterator[Order]:
        """For an export: oldest first, by finish time; user 0 and market "" are all of them."""
        ...

    def all_deals(self, user_id: int, market: str, times: Times) -> Iterator[Deal]:
        """For an export: oldest first, two sides of each deal."""
        ...

    def all_changes(self, user_id: int, asset: str, times: Times) -> Iterator[Change]:
        """For an export: oldest first."""
        ...

    def close(self) -> None:
        """Disconnect."""
        ...
