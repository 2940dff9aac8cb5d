"""What pages know of markets beyond the matcher's state: the methods of market data, asked as a client would."""

from decimal import Decimal
from typing import Any

import orjson

from bus.codes import Code
from bus.methods import METHODS
from gateways.link import Link, NotConnected, TimedOut


class Refused(Exception):
    """Market data answered with a code instead of a result."""


AWAY = (NotConnected, TimedOut, Refused)  # what is raised while a page can't be answered


class MarketData:
    """Market data over its link."""

    def __init__(self, link: Link) -> None:
        self._link = link

    def ask(self, name: str, *params: Any) -> Any:
        """The decoded result of a method; its numbers are decimal text. Raises NotConnected, TimedOut, Refused."""
        outcome = self._link.call(METHODS[name], list(params))
        if isinstance(outcome, Code):
            raise Refused(f"{name}: {outcome.name}")
        return orjson.loads(outcome)


def plain(text: str) -> str:
    """A decimal without an exponent: whoever reads pages may not know one."""
    return format(Decimal(text), "f") if "e" in text else text
