"""``damocles-worker store hugepage-file-init``: memory for PC1 that is reserved beforehand."""

from __future__ import annotations

from pathlib import Path

import click

from damocles_worker import _native
from damocles_worker.errors import UsageError, WorkerError
from damocles_worker.units import format_size, parse_size_b

#: What a pattern has in place of a node's number.
PLACEHOLDER = "$NUMA_NODE_INDEX"


def _size(_context: click.Context, _parameter: click.Parameter, text: str) -> int:
    try:
        size = parse_size_b(text)
    except ValueError as error:
        raise click.BadParameter(str(error)) from error
    if size == 0:
        raise click.BadParameter("a file of 0 bytes is no memory")
    return size


@click.command("hugepage-file-init")
@click.option(
    "-n", "--node", "--numa_node_index", "node", type=click.IntRange(min=0), help="Take memory of this node."
)
@click.option(
    "-s", "--size", required=True, callback=_size, metavar="SIZE", help="Size of a file: the sector's, 32GiB."
)
@click.option(
    "-c", "--num", "--number_of_files", "count", type=click.IntRange(min=1), required=True, help="How many."
)
@click.option("--path", metavar="DIR", help="Make them in DIR/numa_<node>.")
@click.option(
    "--path-pattern", "--path_pattern", "pattern", metavar="PATTERN", help=f"With {PLACEHOLDER} in it."
)
def hugepage_file_init(
    node: int | None, size: int, count: int, path: str | None, pattern: str | None
) -> None:
    """Make files for the labels of PC1, usually on a hugetlbfs: two per sector that is sealed at once.

    A processor pc1 finds them by --hugepage-files-path DIR or --hugepage-files-path-pattern PATTERN.
    """
    directory = _directory(node, path, pattern)
    try:
        made = _native.create_hugepage_files(directory, size, count, node)
    except _native.StageError as error:
        raise WorkerError(
            f"{count} files of {format_size(size)} in {directory}: {error}; no file was left or changed",
            next_step="See what is free with: damocles-worker-util hugepages",
        ) from error
    click.echo("Created hugepage memory files:")
    for file in made:
        click.echo(str(file))


def _directory(node: int | None, path: str | None, pattern: str | None) -> Path:
    """The pattern wins; without a node the number in the path is 0."""
    if pattern is None:
        if path is None:
            raise click.UsageError("where to: give --path DIR or --path-pattern PATTERN")
        pattern = f"{path.rstrip('/')}/numa_{PLACEHOLDER}"
    if PLACEHOLDER not in pattern:
        raise UsageError(
            f"--path-pattern {pattern}: expected {PLACEHOLDER} in it, in place of the node's number"
        )
    return Path(pattern.rstrip("/").replace(PLACEHOLDER, str(node or 0), 1))
