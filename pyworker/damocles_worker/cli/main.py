"""The ``damocles-worker`` command: one group, one module per command."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from damocles_worker import logs
from damocles_worker.cli.completion import completion_of
from damocles_worker.cli.guarded import guarded
from damocles_worker.cli.lazy import LazyGroup
from damocles_worker.cli.log_format import log_format
from damocles_worker.cli.util import NAME as UTIL_NAME
from damocles_worker.cli.util import util
from damocles_worker.version import version_line

PLACES = {
    name: f"{name}:{name}"
    for name in (
        "config", "daemon", "demo", "devnet", "generator", "params", "preflight", "processor",
        "store", "util", "worker",
    )
} | {"help": "help:help_command"}  # fmt: skip


@click.group(
    cls=LazyGroup,
    places=PLACES,
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.option("-c", "--config", "config_file", metavar="FILE", help="Run the daemon with this configuration.")
@log_format
@click.version_option(
    version_line(), "-V", "--version", prog_name="damocles-worker", message="%(prog)s %(version)s"
)
@click.pass_context
def cli(context: click.Context, config_file: str | None) -> None:
    """Seals Filecoin sectors for a damocles-manager.

    With --config FILE and no command the daemon runs.
    """
    if context.invoked_subcommand is not None:
        if config_file is not None:
            raise click.UsageError(
                "--config before a command only runs the daemon; give it to the command instead"
            )
        return
    if config_file is None:
        click.echo(context.get_help(), err=True)
        context.exit(2)
    from damocles_worker.cli.daemon import run_daemon

    context.exit(run_daemon(config_file))


cli.add_command(completion_of("damocles-worker"))


def main() -> None:
    """Run the command by whose name the program was started."""
    guarded(_run_util if Path(sys.argv[0]).name == UTIL_NAME else _run)


def _run_util() -> None:
    util(prog_name=UTIL_NAME)


def _run() -> None:
    logs.set_up()
    cli(prog_name="damocles-worker")
