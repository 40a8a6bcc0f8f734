"""Huge pages set aside on each NUMA node, and how many PC1 takes of them."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from msgspec import Struct

from damocles_worker.hardware.reader import Reader

_NODES = "sys/devices/system/node"

GIB_PAGE = 1 << 30
MIB2_PAGE = 2 << 20
#: Page sizes that the PC1 engine asks for, in its order.
PAGE_SIZES = (GIB_PAGE, MIB2_PAGE)
#: Label buffers of a sector in PC1, each as large as the sector.
_BUFFERS = 2
#: What a pattern of pool files has in place of a node's number.
_PLACEHOLDER = "$NUMA_NODE_INDEX"


class HugePages(Struct, frozen=True):
    """The pool of one page size on one NUMA node; ``page_size`` in bytes, counts in pages."""

    node: int
    page_size: int
    total: int
    free: int


class PageNeed(Struct, frozen=True):
    """Pages of one size that ``sectors`` of PC1 take on a node, beside the pool that is there.

    Label buffers that lie in files made beforehand take none: their pages are the files' already.
    """

    pool: HugePages
    sectors: int
    needed: int

    @property
    def missing(self) -> int:
        """Pages to reserve besides those that are free."""
        return max(0, self.needed - self.pool.free)

    @property
    def command(self) -> str:
        """The command that reserves what is missing; empty if nothing is."""
        if not self.missing:
            return ""
        return reserve_command(self.pool.node, self.pool.page_size, self.pool.total + self.missing)


def read_huge_pages(reader: Reader) -> list[HugePages]:
    """All pools of all nodes, by node and page size; empty ones included."""
    pools = []
    for node in reader.numbered(_NODES, "node"):
        directory = f"{_NODES}/node{node}/hugepages"
        for name in reader.names(directory):
            kilobytes = re.fullmatch(r"hugepages-([0-9]{1,9})kB", name)
            total = reader.number(f"{directory}/{name}/nr_hugepages")
            free = reader.number(f"{directory}/{name}/free_hugepages")
            if kilobytes and total is not None and free is not None:
                pools.append(HugePages(node, int(kilobytes[1]) << 10, total, free))
    return sorted(pools, key=lambda pool: (pool.node, pool.page_size))


def pages_per_sector(sector_size: int, page_size: int) -> int:
    """Pages that PC1 of one sector takes; 0 where a label buffer is no whole number of such pages."""
    return _BUFFERS * sector_size // page_size if sector_size % page_size == 0 else 0


def page_needs(
    pools: Iterable[HugePages],
    sectors: Mapping[int, int],
    sector_size: int,
    files: Mapping[int, int] | None = None,
) -> list[PageNeed]:
    """For each pool that the engine can use, what ``sectors`` (by node) take of it.

    Pools of one node are alternatives: the first one that has enough is used. ``files`` are label files of
    ``sector_size`` bytes by node that are free: each is a label buffer.
    """
    needs = []
    for pool in sorted(pools, key=lambda pool: (pool.node, -pool.page_size)):
        count, per_sector = sectors.get(pool.node, 0), pages_per_sector(sector_size, pool.page_size)
        if count and per_sector and pool.page_size in PAGE_SIZES:
            buffers = max(0, _BUFFERS * count - (files or {}).get(pool.node, 0))
            needs.append(PageNeed(pool, count, buffers * per_sector // _BUFFERS))
    return needs


def free_label_files(pattern: str, size: int) -> dict[int, int]:
    """Label files of ``size`` bytes by node that no sector uses, as PC1 finds them.

    ``pattern`` names a directory, with ``$NUMA_NODE_INDEX`` in place of the node's number. Raises
    ``ValueError`` without that, ``OSError`` if a directory or file can't be read.

    No file is locked or opened for it, so that PC1 which starts meanwhile finds them all.
    """
    if _PLACEHOLDER not in pattern:
        raise ValueError(f"pattern {pattern}: expected {_PLACEHOLDER} in it, in place of the node's number")
    used = _locked()
    counts = Counter(
        node
        for node, directory in _directories(pattern)
        for file in directory.iterdir()
        if file.is_file() and (found := file.stat()).st_size == size and _place(found) not in used
    )
    return dict(counts)


def _directories(pattern: str) -> Iterator[tuple[int, Path]]:
    """The directories that a pattern names, with their nodes."""
    before, after = pattern.rstrip("/").split(_PLACEHOLDER, 1)
    parent, prefix = os.path.split(before)
    suffix, _, rest = after.partition("/")
    name = re.compile(f"{re.escape(prefix)}([0-9]{{1,9}}){re.escape(suffix)}")
    for entry in Path(parent or ".").iterdir():
        number = name.fullmatch(entry.name)
        if number and (entry / rest).is_dir():
            yield int(number[1]), entry / rest


def _locked() -> set[str]:
    """The files that a process of this system (in a container: of the container) has locked for itself."""
    # "1: FLOCK  ADVISORY  WRITE 71 00:1f:9 0 EOF"; a line of one who waits has an arrow after its number.
    lines = (line.split() for line in Path("/proc/locks").read_text().splitlines())
    return {words[5] for words in lines if words[1:4] == ["FLOCK", "ADVISORY", "WRITE"]}


def _place(file: os.stat_result) -> str:
    """A file as /proc/locks has it."""
    return f"{os.major(file.st_dev):02x}:{os.minor(file.st_dev):02x}:{file.st_ino}"


def spread(sectors: int, nodes: Sequence[int]) -> dict[int, int]:
    """So many sectors over these nodes, as evenly as it goes, the first ones taking the rest."""
    return {node: sectors // len(nodes) + (place < sectors % len(nodes)) for place, node in enumerate(nodes)}


def reserve_command(node: int, page_size: int, total: int) -> str:
    """The command that makes a node's pool ``total`` pages large."""
    return f"echo {total} > /{_NODES}/node{node}/hugepages/hugepages-{page_size >> 10}kB/nr_hugepages"
