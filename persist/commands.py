"""`pit history`: what an operator does with the history by hand."""

import click

from conf.options import configured
from conf.settings import Settings
from persist.export_command import export
from persist.store import StoreDown, StoreWrong


@click.group()
def history() -> None:
    """Look after the history of orders, deals and balances."""


history.add_command(export)


@history.command("init")
@configured
def init_command(settings: Settings) -> None:
    """Make the store, or what is missing of it.

    That is a file, or a database and its tables in MySQL. What is there is left as it is.
    """
    from persist.opening import SQLITE  # it brings the stores with it

    try:
        made = _init_sqlite(settings) if settings.history.store == SQLITE else _init_mysql(settings)
    except (StoreDown, StoreWrong) as error:
        raise click.ClickException(str(error)) from None
    for line in made:
        click.echo(f"made {line}")
    if not made:
        click.echo("Nothing was missing.")


def _init_sqlite(settings: Settings) -> list[str]:
    from persist.sqlite_store import SqliteWriter

    is_there = settings.paths.history_file.exists()
    settings.data_dir.mkdir(parents=True, exist_ok=True)
    writer = SqliteWriter(settings)
    try:
        writer.open()
    finally:
        writer.close()
    return [] if is_there else [str(settings.paths.history_file)]


def _init_mysql(settings: Settings) -> list[str]:
    from persist import mysql_schema
    from persist.mysql_address import parse
    from persist.mysql_link import connected

    address = parse(settings.history.store)
    with connected(address, timeout_s=mysql_schema.DDL_TIMEOUT_S) as connection:
        steps = mysql_schema.missing(connection, address)
        with click.progressbar(
            mysql_schema.make(connection, address, steps), len(steps), label=str(address), hidden=not steps
        ) as making:
            made = list(making)
        mysql_schema.check(connection, address)
    return mysql_schema.summary(made)
