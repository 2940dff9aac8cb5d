"""The processes of an exchange: one row each. The supervisor knows no more about them than this.

A process is a module with `main(settings) -> int`, named here and imported by the supervisor at run time only
(no outer package imports another).
"""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """A process that is to run, and the ones that must be ready before it starts."""

    name: str
    module: str
    after: tuple[str, ...] = ()


PROCESSES = (
    Wanted(name="matcher", module="engine.matcher"),
    Wanted(name="http", module="gateways.http", after=("matcher",)),
)
