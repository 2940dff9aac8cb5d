"""The processes of an exchange: one row each. The supervisor knows no more about them than this.

A process is a module with `main(settings) -> int`, or `main(settings, index)` if it is one among equals. The
supervisor imports it at run time only (no outer package imports another).
"""

from dataclasses import dataclass

from conf.settings import Settings


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """A process that is to run, and the ones that must be ready before it starts."""

    name: str
    module: str
    after: tuple[str, ...] = ()
    index: int | None = None  # of one among equals: the second argument of their `main`
    nice: int = 0  # how far it steps back for the others when CPUs are short
    ends_last: bool = False  # when all are stopped, it stays until the others have ended


BEHIND_TRADING = 5  # what may wait a moment, while nobody waits for it to trade


def processes(settings: Settings) -> tuple[Wanted, ...]:
    """All processes of an exchange; who must be ready first stands first."""
    matcher = ("matcher",)
    return (
        Wanted(name="alertcenter", module="persist.alertcenter", nice=BEHIND_TRADING, ends_last=True),
        Wanted(name="matcher", module="engine.matcher"),
        Wanted(name="recorder", module="persist.recorder", after=matcher, nice=BEHIND_TRADING),
        *(
            Wanted(name=f"history-{index}", module="persist.history", after=matcher, index=index, nice=BEHIND_TRADING)
            for index in range(settings.history.processes)
        ),
        *(
            (Wanted(name="courier", module="persist.courier", after=matcher, nice=BEHIND_TRADING),)
            if settings.kafka.brokers
            else ()
        ),
        Wanted(name="market", module="market.service", after=matcher, nice=BEHIND_TRADING),
        Wanted(name="http", module="gateways.http", after=matcher),
        *(
            Wanted(name=f"ws-{index}", module="gateways.ws.process", after=matcher, index=index)
            for index in range(settings.ws.workers)
        ),
    )
