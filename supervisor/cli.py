"""`pit`: the command of an exchange. Here is only the list of commands; each is imported when it is called.

Exit codes: 0 done, 1 it failed (the last line says why), 2 the command line or the settings are wrong,
3 the exchange does not run, 130 interrupted.
"""

import importlib
from typing import Any, NamedTuple

import click

EXIT_INTERRUPTED = 130  # as a shell counts: 128 + SIGINT


class Entry(NamedTuple):
    """A command: where it is, and its line in the help."""

    target: str  # module:attribute
    about: str


COMMANDS = {
    "up": Entry("supervisor.commands:up", "Start the exchange."),
    "down": Entry("supervisor.commands:down", "Stop it; state stays in the data folder."),
    "status": Entry("supervisor.watching:status", "What runs, since when, with how much CPU and memory."),
    "restart": Entry("supervisor.commands:restart", "Start one process anew, with the settings as they are now."),
    "reload": Entry("supervisor.commands:reload", "Go by the settings as they are now; say what needs a restart."),
    "run": Entry("supervisor.commands:run", "Run one process here, without a supervisor."),
    "logs": Entry("supervisor.watching:show_logs", "Show the log of a process."),
    "check-alive": Entry("supervisor.alive:command", "Start what is down: for cron."),
    "check-conf": Entry("supervisor.commands:check_conf", "Check the settings and the markets, start nothing."),
    "snapshot": Entry("supervisor.commands:snapshot", "Have the matcher write a snapshot of its state now."),
    "journal": Entry("engine.journal_commands:journal", "Verify and show the journal."),
    "audit": Entry("engine.audit_command:command", "Build the state again from the disk and prove it."),
    "history": Entry("persist.commands:history", "Look after the history: make its store, export it."),
    "alerts": Entry("persist.alert_commands:alerts", "Show the last alerts; see whether they arrive where they go."),
    "kafka": Entry("persist.kafka_command:kafka", "See how far Kafka is, send messages again."),
    "market": Entry("market.commands:market", "Make market data anew from all events, bring in older candles."),
    "replay": Entry("market.replay:command", "Play recorded order flow of a real exchange."),
    "deploy": Entry("supervisor.deploy.command:command", "Lay an exchange out: bin, log, conf, shell; systemd."),
    "bench": Entry("supervisor.bench:command", "Measure the core, the bus, HTTP, history, market data, Kafka."),
}


class Commands(click.Group):
    """A group whose commands are imported when they are needed: `pit status` must not wait for numba."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module, _, attribute = COMMANDS[cmd_name].target.partition(":")
        command: click.Command = getattr(importlib.import_module(module), attribute)
        return command

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            raise SystemExit(EXIT_INTERRUPTED) from None

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, entry.about) for name, entry in COMMANDS.items()])


@click.command(cls=Commands, epilog="Exit codes: 0 done, 1 failed, 2 wrong command line or settings, 3 not running.")
@click.version_option(package_name="tradepit", prog_name="pit")
def main() -> None:
    """tradepit, an exchange. `pit up` starts it; every command takes the same --conf FILE."""


if __name__ == "__main__":
    main(prog_name="pit")
