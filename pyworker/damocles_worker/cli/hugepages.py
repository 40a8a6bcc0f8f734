"""``damocles-worker-util hugepages``: huge pages of each node, and what PC1 takes of them."""

from __future__ import annotations

import os
from pathlib import Path

import click

from damocles_worker.cli.table import aligned
from damocles_worker.errors import UsageError
from damocles_worker.hardware.cpuobjects import numa_memory
from damocles_worker.hardware.hugepages import (
    PAGE_SIZES,
    HugePages,
    PageNeed,
    free_label_files,
    page_needs,
    pages_per_sector,
    read_huge_pages,
    spread,
)
from damocles_worker.hardware.reader import Reader
from damocles_worker.sectors import SECTOR_SIZES, size_name
from damocles_worker.units import format_size

COLUMNS = ("Node", "Page", "Total", "Free", "Needed", "Missing", "Command")


@click.command()
@click.option(
    "-n", "--sectors", type=click.IntRange(1, 4096), default=1, show_default=True, help="PC1 tasks at once."
)
@click.option(
    "-s",
    "--size",
    type=click.Choice(tuple(SECTOR_SIZES), case_sensitive=False),
    default="32GiB",
    show_default=True,
    help="Sector size.",
)
@click.option(
    "--fsroot",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    default="/",
    metavar="DIR",
    help="Read the sys/ and proc/ below this directory: another machine's, copied.",
)
@click.option(
    "--files-path",
    metavar="DIR",
    help="Files of store hugepage-file-init, in DIR/numa_<node>: free ones count. "
    "[default: $HUGEPAGE_FILES_PATH]",
)
@click.option(
    "--files-path-pattern",
    metavar="PATTERN",
    help="The same, with $NUMA_NODE_INDEX in it. [default: $HUGEPAGE_FILES_PATH_PATTERN]",
)
def hugepages(
    sectors: int, size: str, fsroot: Path, files_path: str | None, files_path_pattern: str | None
) -> None:
    """Show the huge pages of each NUMA node, what PC1 of --sectors sectors needs, and how to get there.

    The sectors are shared out evenly among the nodes. Files made with store hugepage-file-init are used
    first. Pages of 1 GiB and of 2 MiB are alternatives: a label buffer is taken whole from either, 1 GiB
    first. Exits 1 if some node has not enough of either.
    """
    reader = Reader(fsroot)
    memory = numa_memory(reader)
    nodes = [number for number, node in memory.items() if node.cpus]
    pools = [pool for pool in read_huge_pages(reader) if pool.page_size in PAGE_SIZES]
    sector_size = SECTOR_SIZES[size]
    shares = spread(sectors, nodes) if nodes else {}
    pattern = _pattern(files_path, files_path_pattern, environment=fsroot == Path("/"))
    files = _free_files(pattern, sector_size)
    needs = page_needs(pools, shares, sector_size, files)
    click.echo(_need_of_one(sector_size))
    for node, count in sorted(files.items()):
        click.echo(f"Node {node} has {count} free files of {format_size(sector_size)}: a sector takes two.")
    click.echo(aligned([COLUMNS, *(_row(pool, needs) for pool in pools)]))
    lacking = [node for node in shares if shares[node] and not _served(node, needs)]
    for line in _advice(needs, lacking, {number: node.size for number, node in memory.items()}):
        click.echo(line)
    for problem in reader.problems:
        click.echo(problem, err=True)
    if (lacking or not nodes) and any(pages_per_sector(sector_size, page) for page in PAGE_SIZES):
        raise click.exceptions.Exit(1)


def _pattern(path: str | None, pattern: str | None, *, environment: bool) -> str | None:
    """Where files made beforehand are, as PC1 finds them: options before the environment, pattern first."""
    if path is None and pattern is None and environment:
        path, pattern = os.environ.get("HUGEPAGE_FILES_PATH"), os.environ.get("HUGEPAGE_FILES_PATH_PATTERN")
    if pattern is None and path is not None:
        return f"{path.rstrip('/')}/numa_$NUMA_NODE_INDEX"
    return pattern


def _free_files(pattern: str | None, sector_size: int) -> dict[int, int]:
    if pattern is None:
        return {}
    try:
        return free_label_files(pattern, sector_size)
    except (OSError, ValueError) as error:
        raise UsageError(f"huge page files: {error}") from error


def _need_of_one(sector_size: int) -> str:
    counts = [
        f"{pages} pages of {format_size(page)}"
        for page in PAGE_SIZES
        if (pages := pages_per_sector(sector_size, page))
    ]
    what = " or ".join(counts) or "no huge pages: its label buffers are smaller than one"
    return f"PC1 of one {size_name(sector_size)} sector takes {what}.\n"


def _row(pool: HugePages, needs: list[PageNeed]) -> tuple[str, ...]:
    need = next((need for need in needs if need.pool == pool), None)
    return (
        str(pool.node),
        format_size(pool.page_size),
        str(pool.total),
        str(pool.free),
        "-" if need is None else str(need.needed),
        "-" if need is None else str(need.missing),
        "-" if need is None or not need.missing else need.command,
    )


def _served(node: int, needs: list[PageNeed]) -> bool:
    """Whether one of a node's pools has enough."""
    return any(need.pool.node == node and not need.missing for need in needs)


def _advice(needs: list[PageNeed], lacking: list[int], memory: dict[int, int | None]) -> list[str]:
    """What to know about the commands, where there are any to run."""
    if not needs:
        return []
    if not lacking:
        return ["\nEnough on every node: nothing to do."]
    lines = ["\nOne command per node is enough; as root, and again after every boot."]
    page = max(need.pool.page_size for need in needs)
    largest = [need for need in needs if need.pool.page_size == page]
    pages = ",".join(f"{need.pool.node}:{need.pool.total + need.missing}" for need in largest)
    lines.append(
        "Free memory gets scattered as a machine runs, and then fewer pages are reserved than asked for (look"
        " at Total again). At boot all are there: kernel parameters"
        f" hugepagesz={page >> 20}M hugepages={pages}"
    )
    for need in largest:
        has, takes = memory.get(need.pool.node), (need.pool.total + need.missing) * page
        if has is not None and takes > has:
            lines.append(
                f"Node {need.pool.node} has {format_size(has)} of memory and would need {format_size(takes)}"
                ": ask for fewer sectors (-n)"
            )
    return lines
