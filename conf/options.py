"""The options that every `pit` command takes: which configuration file, which data folder.

@click.command()
@configured
def command(settings: Settings) -> None: ...
"""

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from conf.rules import BadSettings
from conf.settings import load

CONF_VARIABLE = "TRADEPIT_CONF"


def configured(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a click command --conf and --data, and call it with `settings=` what they lead to."""

    @click.option(
        "--conf",
        "conf_file",
        type=click.Path(path_type=Path),
        metavar="FILE",
        envvar=CONF_VARIABLE,
        help=f"The settings, in TOML; without it, what {CONF_VARIABLE} in the environment names.",
    )
    @click.option(
        "--data",
        "data_dir",
        type=click.Path(path_type=Path),
        metavar="DIR",
        help="The data folder, instead of data_dir.",
    )
    @functools.wraps(command)
    def with_settings(*args: Any, conf_file: Path | None, data_dir: Path | None, **options: Any) -> Any:
        try:
            settings = load(conf_file, data_dir)
        except BadSettings as error:
            raise click.UsageError(str(error)) from None
        except OSError as error:
            raise click.UsageError(f"{conf_file}: {error.strerror}") from None
        return command(*args, settings=settings, **options)

    return with_settings
