"""`pit history`: what an operator does with the history by hand. Here is only the group."""

import click


@click.group()
def history() -> None:
    """Look after the history of orders, deals and balances."""
