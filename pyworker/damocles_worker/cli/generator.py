"""``damocles-worker generator …``: files that are made once and used by every sector of a size."""

from __future__ import annotations

from pathlib import Path

import click

from damocles_worker import _native, sectors
from damocles_worker.cli.progress import progress_bar
from damocles_worker.errors import WorkerError
from damocles_worker.units import format_size, parse_size_b

_VARIANTS = {
    "v1": "V1",
    "v1_1": "V1_1",
    "synthetic": "V1_1_Feat_SyntheticPoRep",
    "non-interactive": "V1_2_Feat_NonInteractivePoRep",
}


def _sector_size(_context: click.Context, _parameter: click.Parameter, text: str) -> int:
    try:
        size = parse_size_b(text)
        sectors.size_name(size)
    except ValueError as error:
        raise click.BadParameter(str(error)) from error
    return size


_size = click.option(
    "-s", "--sector-size", "size", required=True, callback=_sector_size, metavar="SIZE", help="Such as 32GiB."
)


@click.group()
def generator() -> None:
    """Make files that every sector of a size uses: tree_d of zeros, parents caches."""


@generator.command("tree-d")
@_size
@click.option(
    "-p",
    "--path",
    "directory",
    required=True,
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    metavar="DIR",
    help="A directory that exists.",
)
def tree_d(size: int, directory: Path) -> None:
    """Write the tree_d of a sector without data to DIR, for `static_tree_d` of the configuration."""
    path = directory / sectors.TREE_D_FILE
    try:
        with progress_bar(f"tree_d of {sectors.size_name(size)}") as progress:
            _native.static_tree_d(size, directory, progress)
    except _native.StageError as error:
        raise _failure(error, size, directory) from error
    click.echo(f"generate static tree-d succeed: {path} ({format_size(path.stat().st_size)})")


@generator.command("parents-cache")
@_size
@click.option(
    "--variant",
    "variants",
    type=click.Choice(tuple(_VARIANTS)),
    multiple=True,
    default=("v1_1",),
    show_default=True,
    help="Kind of seal proof, each with a file of its own; repeatable.",
)
@click.option(
    "--dir",
    "directory",
    type=click.Path(file_okay=False, path_type=Path),
    help="Where to [default: where PC1 looks, FIL_PROOFS_PARENT_CACHE or /var/tmp/filecoin-parents].",
)
def parents_cache(size: int, variants: tuple[str, ...], directory: Path | None) -> None:
    """Make the parents cache that PC1 reads, or check the one that is there.

    PC1 makes a missing one itself; made beforehand the first sector needs not wait for it. A file is
    checked against the published digest, or else the one that was recorded when it was made.
    """
    for variant in variants:
        proof = f"StackedDrg{sectors.size_name(size)}{_VARIANTS[variant]}"
        try:
            with progress_bar(f"parents cache of {proof}") as progress:
                path, notes = _native.parents_cache(proof, directory, progress)
        except _native.StageError as error:
            raise _failure(error, size, directory) from error
        for note in notes:
            click.echo(f"warning: {note}", err=True)
        click.echo(f"{path} ({format_size(path.stat().st_size)}): whole")


def _failure(error: _native.StageError, size: int, directory: Path | None) -> WorkerError:
    where = directory or "the directory of parents caches"
    return WorkerError(
        str(error),
        next_step=f"See that {where} can be written to and has room: a tree_d takes {format_size(2 * size)},"
        f" a parents cache {format_size(size // 32 * 56)}",
    )
