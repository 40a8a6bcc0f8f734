"""What a configuration will do at once: sector sizes, PC1 tasks by node, stores."""

from __future__ import annotations

from pathlib import Path

from msgspec import Struct

from damocles_worker import params
from damocles_worker.config.settings import Processor, Settings
from damocles_worker.errors import WorkerError
from damocles_worker.hardware.cpulist import parse_cpu_list
from damocles_worker.hardware.hugepages import spread
from damocles_worker.stores.attached import open_attached

#: Plans that compute labels.
LABELLING_PLANS = ("sealer", "rebuild", "unseal")


def sector_sizes(settings: Settings, plans: tuple[str, ...] | None = None) -> list[int]:
    """Sector sizes in bytes, ascending; of threads of these plans only, if given.

    A thread that allows any size counts with those that parameters are there for.
    """
    sizes: set[int] = set()
    for thread in settings.threads:
        if plans is None or thread.plan in plans:
            sizes.update(params.thread_sizes(thread))
    return sorted(sizes)


class Attached(Struct, frozen=True):
    """A persistent store as the daemon will have it."""

    name: str
    location: Path
    readonly: bool


def attached_stores(settings: Settings) -> list[Attached]:
    """The configured stores and those that ``scan_persist_stores`` finds.

    If they can't all be opened, those that are there: why is told elsewhere.
    """
    try:
        opened = open_attached(settings.attached, settings.worker.scan_persist_stores)
    except WorkerError:
        return [
            Attached(store.name, Path(store.location), store.readonly)
            for store in settings.attached
            if Path(store.location).is_dir()
        ]
    return [Attached(store.name, store.root, store.readonly) for store in opened]


def pc1_at_once(settings: Settings) -> int:
    """How many sectors PC1 has at once at most: threads that label, as far as its stage limit goes."""
    labelling = sum(thread.plan in LABELLING_PLANS for thread in settings.threads)
    return min(settings.processors.concurrent.get("pc1", labelling), labelling)


def pc1_by_node(settings: Settings, nodes: dict[int, frozenset[int]]) -> dict[int, int]:
    """How many sectors PC1 has at once on each NUMA node, with this program's engine.

    A processor counts on the node of its cpuset, or else on the one that it prefers; what is bound to no
    node is spread over all.
    """
    if not nodes:
        return {}
    limit = pc1_at_once(settings)
    processors = settings.processors.stages.get("pc1", ())
    if not processors:
        return spread(limit, sorted(nodes))
    counts = dict.fromkeys(sorted(nodes), 0)
    unbound = 0
    for processor in processors:
        if processor.bin is not None:
            continue
        tasks = limit if processor.concurrent is None else min(processor.concurrent, limit)
        node = _node_of(processor, nodes)
        if node is None:
            unbound += tasks
        else:
            counts[node] += tasks
    for node, share in spread(min(unbound, limit), sorted(nodes)).items():
        counts[node] += share
    return counts


def _node_of(processor: Processor, nodes: dict[int, frozenset[int]]) -> int | None:
    if processor.cpuset:
        cpus = parse_cpu_list(processor.cpuset)
        holding = [node for node, members in nodes.items() if cpus <= members]
        if holding:
            return holding[0]
    return processor.numa_preferred if processor.numa_preferred in nodes else None
