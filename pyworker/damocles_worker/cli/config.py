"""``damocles-worker config …``: check a configuration, suggest one."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from damocles_worker.config.check import check_file
from damocles_worker.sectors import SECTOR_SIZES
from damocles_worker.suggest.suggestion import suggest as make_suggestion
from damocles_worker.suggest.wishes import GOALS, Goal, Wishes


@click.group()
def config() -> None:
    """Configuration files."""


@config.command()
@click.argument("file", type=click.Path())
@click.option("--no-machine", is_flag=True, help="Look at the file only, not at this machine.")
@click.option(
    "--fsroot",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    default="/",
    metavar="DIR",
    help="Hold it against the machine whose sys/ and proc/ are below this directory.",
)
def check(file: str, no_machine: bool, fsroot: Path) -> None:
    """Report everything that is wrong with FILE, and show what is in force.

    Exits 0 if the worker can run with it (warnings or not), 1 if it can't.
    """
    result = check_file(file, machine=not no_machine, root=fsroot)
    click.echo(result.text)
    sys.exit(1 if result.failed else 0)


@config.command()
@click.option(
    "--goal",
    type=click.Choice(GOALS),
    default="cc",
    show_default=True,
    help="Sectors without deals, with deals, or upgrades of sealed sectors.",
)
@click.option(
    "--sector-size",
    type=click.Choice(tuple(SECTOR_SIZES), case_sensitive=False),
    default="32GiB",
    show_default=True,
)
@click.option(
    "--fsroot",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    default="/",
    metavar="DIR",
    help="For the machine whose sys/ and proc/ are below this directory.",
)
@click.option(
    "--manager", default=Wishes().manager, show_default=True, metavar="ADDR", help="Multiaddr or URL."
)
@click.option(
    "--sealing",
    multiple=True,
    metavar="DIR",
    help="Make sealing stores in this directory; repeatable [default: the file systems on SSDs].",
)
@click.option(
    "--attached", metavar="DIR", help="Where finished sectors go [default: a network or hard disk]."
)
@click.option("--gpu-program", metavar="PATH", help="A program with GPU code that computes PC2 and C2.")
def suggest(
    goal: Goal,
    sector_size: str,
    fsroot: Path,
    manager: str,
    sealing: tuple[str, ...],
    attached: str | None,
    gpu_program: str | None,
) -> None:
    """Print a configuration for this machine, with what it can be expected to seal.

    Comments in it say what was found, what was assumed, and what to run before the first start. What
    could not be read of the machine goes to stderr.
    """
    wishes = Wishes(goal, SECTOR_SIZES[sector_size], manager, sealing, attached, gpu_program)
    suggestion = make_suggestion(wishes, fsroot)
    for line in suggestion.not_read:
        click.echo(f"not read: {line}", err=True)
    click.echo(suggestion.text, nl=False)
