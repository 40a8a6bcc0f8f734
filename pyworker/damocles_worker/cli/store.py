"""``damocles-worker store``: make and take over store directories."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import click

from damocles_worker.cli.hugepagefiles import hugepage_file_init
from damocles_worker.errors import WorkerError
from damocles_worker.filesystem import file_error
from damocles_worker.stores import adopt as adoption
from damocles_worker.stores import sealing


@click.group()
def store() -> None:
    """Make and take over store directories."""


store.add_command(hugepage_file_init)


def _locations(command: Callable[..., None]) -> Callable[..., None]:
    """``-l A B --loc C``: click options take one value each, so further values arrive as arguments."""
    command = click.argument("more", nargs=-1, metavar="[DIR]...")(command)
    option = click.option(
        "-l", "--loc", "locations", multiple=True, metavar="DIR", help="A directory; may be repeated."
    )
    return option(command)


@store.command("sealing-init")
@_locations
def sealing_init(locations: tuple[str, ...], more: tuple[str, ...]) -> None:
    """Make sealing stores, parents included.

    A directory that has files already is accepted as long as its data/ is empty.
    """
    _each([*locations, *more], lambda location: f"sealing store made: {sealing.initialise(location)}")


@store.command("file-init")
@_locations
def file_init(locations: tuple[str, ...], more: tuple[str, ...]) -> None:
    """Make directories for attached stores, parents included."""
    _each([*locations, *more], _make_attached)


@store.command("adopt")
@click.argument("location", metavar="DIR")
@click.option("--undo", is_flag=True, help="Give an adopted store back to the Rust worker.")
def adopt(location: str, undo: bool) -> None:
    """Take over the sealing store of the Rust worker.

    Its meta/ is moved to meta.rust/ and kept. Refused while that worker runs, and while there are
    files under data/.
    """
    for line in adoption.undo(location) if undo else adoption.adopt(location):
        click.echo(line)


def _make_attached(location: str) -> str:
    path = Path(location).resolve()
    existed = path.is_dir()
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise file_error(error, "make the directory", path) from error
    return f"attached store {'is there already' if existed else 'made'}: {path}"


def _each(locations: list[str], make: Callable[[str], str]) -> None:
    """Do every location, tell each result, and exit 1 if any failed."""
    if not locations:
        click.echo("nothing to do: no directory given (-l DIR)")
    failed = False
    for location in locations:
        try:
            click.echo(make(location))
        except WorkerError as error:
            failed = True
            click.echo(f"{location}: {error}", err=True)
    if failed:
        raise click.exceptions.Exit(1)
