"""`scripts/soak MINUTES`: run a soak, show how far it is, write its report; the exit code says whether all agrees."""

import random
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click

from tests.soak.report import text_of
from tests.soak.run import Plan, Tell, soak

LINE_INTERVAL_S = 10.0  # between two lines of progress where there is no terminal
SEED_BITS = 32


@click.command()
@click.argument("minutes", type=click.FloatRange(min=1))
@click.option("--seed", type=int, help="Of all that is drawn; default: another one each time. The report names it.")
@click.option("--load", type=click.FloatRange(min=0.1, max=20), default=1.0, help="Times the usual rate of requests.")
@click.option("--folder", type=click.Path(path_type=Path), help="Where all of it is kept; default: a temporary one.")
@click.option("--report", "report_file", type=click.Path(path_type=Path), help="Where the report goes, too.")
def main(minutes: float, seed: int | None, load: float, folder: Path | None, report_file: Path | None) -> None:
    """Run everything under mixed load for MINUTES while it is killed at random, then see that all of it agrees.

    The folder is removed if it is a temporary one and all agrees.
    """
    seed = random.getrandbits(SEED_BITS) if seed is None else seed
    place = folder or Path(tempfile.mkdtemp(prefix="tradepit-soak-"))
    place.mkdir(parents=True, exist_ok=True)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # whatever ends it, the servers are ended too
    with _progress() as tell:
        outcome = soak(Plan(seconds=minutes * 60, seed=seed).times(load), place / "soak", tell)
    text = text_of(outcome)
    click.echo(text)
    if report_file is not None:
        report_file.write_text(text, encoding="utf-8")
    if folder is None and outcome.agrees:
        shutil.rmtree(place, ignore_errors=True)
    else:
        click.echo(f"everything is kept in {place}", err=True)
    sys.exit(0 if outcome.agrees else 1)


@contextmanager
def _progress() -> Iterator[Tell]:
    """One line that changes on a terminal; otherwise a line now and then."""
    from rich.console import Console

    console, began_s = Console(stderr=True), time.monotonic()
    if console.is_terminal:
        with console.status("") as status:
            yield lambda text: status.update(f"{time.monotonic() - began_s:5.0f} s  {text}")
        return
    said: dict[str, float] = {}

    def say(text: str) -> None:
        phase = text.partition(":")[0]
        now_s = time.monotonic()
        if now_s - said.get(phase, -LINE_INTERVAL_S) >= LINE_INTERVAL_S:
            said[phase] = now_s
            click.echo(f"{now_s - began_s:5.0f} s  {text}", err=True)

    yield say


if __name__ == "__main__":
    main()
