"""Huge pages of each node, beside those of PC1 at its busiest."""

from __future__ import annotations

from pathlib import Path

from damocles_worker.config.settings import Settings
from damocles_worker.hardware.cpuobjects import numa_memory
from damocles_worker.hardware.hugepages import PageNeed, page_needs, read_huge_pages
from damocles_worker.hardware.reader import Reader
from damocles_worker.preflight.lines import Line
from damocles_worker.preflight.work import LABELLING_PLANS, pc1_by_node, sector_sizes
from damocles_worker.sectors import SECTOR_SIZES, size_name
from damocles_worker.units import format_size

_AREA = "huge pages"
#: Labels of smaller sectors lie in the caches for the most part.
_SMALLEST = SECTOR_SIZES["512MiB"]


def look(settings: Settings, root: Path = Path("/")) -> list[Line]:
    """A line per node with PC1 on it; without huge pages PC1 works, and is slower."""
    sizes = [size for size in sector_sizes(settings, LABELLING_PLANS) if size >= _SMALLEST]
    if not sizes:
        return []
    reader = Reader(root)
    nodes = {number: node.cpus for number, node in numa_memory(reader).items() if node.cpus}
    sectors = pc1_by_node(settings, nodes)
    needs = page_needs(read_huge_pages(reader), sectors, max(sizes))
    return [
        _line(node, [need for need in needs if need.pool.node == node], count, max(sizes))
        for node, count in sectors.items()
        if count
    ]


def _line(node: int, needs: list[PageNeed], sectors: int, size: int) -> Line:
    """The best of the alternatives; pages in use count, for it may be this worker that uses them."""
    subject = f"node {node}"
    if not needs:
        return Line(
            "warning", _AREA, subject, "the kernel has none of 1 GiB or 2 MiB: PC1 takes plain memory"
        )
    enough = [need for need in needs if need.pool.total >= need.needed]
    best = enough[0] if enough else max(needs, key=lambda need: need.pool.total * need.pool.page_size)
    if not enough and not best.pool.total:
        best = needs[0]
    pool = best.pool
    kind = f"pages of {format_size(pool.page_size)}"
    found = f"{pool.total} {kind}, {pool.free} of them free" if pool.total else f"no {kind}"
    needed = f"{best.needed} for {sectors} sector(s) of {size_name(size)} in PC1"
    if enough:
        return Line("ok", _AREA, subject, found, needed)
    return Line("warning", _AREA, subject, f"{found}; PC1 is slower without", needed, best.command)
