"""Which cores, memory and GPUs go to which stage: every division is tried, the best one is laid out."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator

from msgspec import Struct

from damocles_worker.errors import WorkerError
from damocles_worker.hardware.gpus import Gpu
from damocles_worker.sectors import size_name
from damocles_worker.stores.space import plan_bytes
from damocles_worker.suggest.durations import GIB, PROOF_STAGES, SEED_MINUTES, Durations, durations_of
from damocles_worker.suggest.host import Core, Host, Node
from damocles_worker.suggest.wishes import Wishes
from damocles_worker.units import format_size

#: A third sector on a core adds a tenth to its labels, and slows all three down (docs/benchmarks.md).
_LANES = (1, 2)
#: Cores that a GPU's stages should have: synthesis of circuits runs on the cpu.
_CORES_PER_GPU = 8


class Labelling(Struct, frozen=True):
    """A PC1 processor: the cores of one L3 cache (or some of them), and sectors on them at once."""

    node: int | None
    cores: tuple[Core, ...]
    sectors: int


class Proving(Struct, frozen=True):
    """Cores on which the two proof stages take turns, with a GPU or without; ``node`` None: of any."""

    node: int | None
    cores: tuple[Core, ...]
    gpu: Gpu | None


class Division(Struct, frozen=True):
    """Numbers of a division of the machine, and the sectors per hour that each part could do."""

    #: Sectors in PC1 by position of the node.
    sectors: tuple[int, ...]
    lanes: int
    provings: int
    #: Cores of all provings together.
    proving_cores: int
    threads: int
    #: Whether the parents cache fits into memory beside everything else.
    parents_in_memory: bool
    rates: dict[str, float]

    @property
    def rate(self) -> float:
        """Sectors per hour of the whole."""
        return min(self.rates.values())


class Layout(Struct, frozen=True):
    """A division, laid out on the machine's cores."""

    division: Division
    labellings: tuple[Labelling, ...]
    provings: tuple[Proving, ...]
    #: Cores of the daemon, its copies and the kernel.
    spare: tuple[Core, ...]
    #: Most sectors in PC1 that memory allows.
    most_sectors: int


def arrange(host: Host, wishes: Wishes) -> Layout:
    """The division with most sectors per hour; of equals the one with provings near their memory, with
    fewer sectors on a core, with fewer in PC1.

    Raises :class:`WorkerError` when not even one sector fits.
    """
    if wishes.on_gpus and not host.gpus:
        raise WorkerError(
            f"{wishes.gpu_program} is to compute on GPUs, and the machine has none that can be seen",
            next_step="Leave --gpu-program out, or look for the driver: damocles-worker-util hwinfo",
        )
    durations = durations_of(host, wishes)
    divisions = list(_divisions(host, wishes, durations))
    if not divisions:
        raise _too_small(host, wishes, durations)
    best = max(divisions, key=lambda one: (one.rate, one.provings, -one.lanes, -sum(one.sectors)))
    most = max(sum(one.sectors) for one in divisions)
    return _lay_out(host, wishes, best, most)


def spare_cores(host: Host) -> int:
    """Cores left to the daemon and the kernel: one in 32, where there are more than two."""
    return math.ceil(host.cores / 32) if host.cores > 2 else 0


def hours_of(host: Host, wishes: Wishes, stage: str, cores: float) -> float:
    """Hours of a proof stage on a GPU, or on so many cores."""
    durations = durations_of(host, wishes)
    return durations.proof_hours(stage, cores, gpu=wishes.on_gpus)


def _divisions(host: Host, wishes: Wishes, durations: Durations) -> Iterator[Division]:
    upgrade = wishes.goal == "snapup"
    per_node = len(host.nodes) if len(host.nodes) > 1 else 1
    provings = (len(host.gpus),) if wishes.on_gpus else tuple({1, per_node})
    for count, lanes in itertools.product(provings, _LANES):
        for parents in (not upgrade, False):
            shares = _shares(host, wishes, durations, count, lanes, parents=parents)
            found = [
                division
                for sectors in shares
                if (division := _division(host, wishes, durations, sectors, lanes, count, parents))
            ]
            yield from found
            if found:
                break


def _shares(
    host: Host, wishes: Wishes, durations: Durations, provings: int, lanes: int, *, parents: bool
) -> Iterator[tuple[int, ...]]:
    """Sectors in PC1 by node, one more each time, as long as memory and cores allow."""
    if wishes.goal == "snapup":
        if host.memory >= system_memory(host) + provings * proving_memory(wishes, durations):
            yield (0,) * len(host.nodes)
        return
    free = [_label_memory(host, wishes, durations, place, provings) for place in range(len(host.nodes))]
    left = host.memory - system_memory(host) - provings * proving_memory(wishes, durations)
    left -= durations.parents_cache if parents else 0
    sectors = [0] * len(host.nodes)
    need = durations.label_memory
    while left >= need:
        open_nodes = [
            place
            for place, node in enumerate(host.nodes)
            if free[place] >= need and sectors[place] < lanes * len(node.cores)
        ]
        if not open_nodes:
            return
        place = min(open_nodes, key=lambda place: (sectors[place], -free[place]))
        sectors[place] += 1
        free[place] -= need
        left -= need
        yield tuple(sectors)


def _label_memory(host: Host, wishes: Wishes, durations: Durations, place: int, provings: int) -> int:
    """Bytes of a node for labels. Where each node has a proving, that one takes its memory there."""
    each_has_one = provings == len(host.nodes) > 1 and not wishes.on_gpus
    proving = proving_memory(wishes, durations) if each_has_one else 0
    return host.nodes[place].memory - system_memory(host) // len(host.nodes) - proving


def system_memory(host: Host) -> int:
    """Bytes for the kernel, the daemon and its copies."""
    return min(16 * GIB, max(GIB, host.memory // 32))


def proving_memory(wishes: Wishes, durations: Durations) -> int:
    """Bytes of a proving: its two stages take turns."""
    return max(durations.stage_memory(stage, gpu=wishes.on_gpus) for stage in PROOF_STAGES[wishes.plan])


def _division(
    host: Host,
    wishes: Wishes,
    durations: Durations,
    sectors: tuple[int, ...],
    lanes: int,
    provings: int,
    parents: bool,
) -> Division | None:
    """The rates of these numbers; None if too few cores are left for proofs."""
    labelling = [math.ceil(count / lanes) for count in sectors]
    proving = host.cores - spare_cores(host) - sum(labelling)
    wanted = provings
    if wishes.on_gpus:
        wanted = min(provings * _CORES_PER_GPU, max(provings, host.cores // 2))
    # Each node may have a proving, and the last one has the spare cores too.
    if provings == len(host.nodes) > 1 and any(
        len(node.cores) - used < 1 + spare_cores(host)
        for node, used in zip(host.nodes, labelling, strict=True)
    ):
        return None
    if proving < wanted:
        return None
    proof_hours = sum(
        hours_of(host, wishes, stage, proving / provings) for stage in PROOF_STAGES[wishes.plan]
    )
    rates = {"proofs": provings / proof_hours}
    # Both stages wait for their turn: twice the time.
    hours = 2 * proof_hours + durations.tree_d_hours
    if wishes.goal != "snapup":
        rates["pc1"] = sum(sectors) / durations.pc1_hours(lanes)
        hours += durations.pc1_hours(lanes) + SEED_MINUTES / 60
    room = _threads_on_disk(host, wishes)
    needed = math.ceil(min(rates.values()) * hours) + 1
    if room is not None:
        rates["threads"] = room / hours
    threads = max(needed, sum(sectors) + 1)
    if room is not None:
        threads = min(threads, room)
    if threads < max(1, sum(sectors)):
        return None
    return Division(sectors, lanes, provings, proving, threads, parents, rates)


def _threads_on_disk(host: Host, wishes: Wishes) -> int | None:
    """Sectors that fit into the sealing places; None where their size isn't known."""
    rooms = [sectors_in(place.free, wishes) for place in host.sealing]
    return None if None in rooms else sum(room for room in rooms if room is not None)


def sectors_in(free: int | None, wishes: Wishes) -> int | None:
    """Sectors that fit into so many free bytes at their worst moment."""
    return None if free is None else free // sector_bytes(wishes)


def sector_bytes(wishes: Wishes, *, copied: bool = False) -> int:
    """Bytes of a sector in its sealing store at the worst moment, synthetic proofs included.

    ``copied``: as with a transfer processor, of which there is none in what is suggested.
    """
    return plan_bytes(wishes.plan, wishes.sector_size, synthetic=True, copied=copied)


def _lay_out(host: Host, wishes: Wishes, division: Division, most: int) -> Layout:
    spare = spare_cores(host)
    labellings: list[Labelling] = []
    left: list[list[Core]] = []
    for node, sectors in zip(host.nodes, division.sectors, strict=True):
        mine, rest = _labellings(node, sectors, division.lanes)
        labellings += mine
        left.append(rest)
    # The last cores: the kernel and tools prefer the first ones, but caches are dealt out from there.
    kept = left[-1][len(left[-1]) - spare :] if spare else []
    left[-1] = left[-1][: len(left[-1]) - spare]
    return Layout(division, tuple(labellings), _provings(host, wishes, division, left), tuple(kept), most)


def _labellings(node: Node, sectors: int, lanes: int) -> tuple[list[Labelling], list[Core]]:
    """The PC1 processors of a node, cache by cache, and the cores they leave."""
    found: list[Labelling] = []
    rest: list[Core] = []
    for cache in node.caches:
        used = min(len(cache), math.ceil(sectors / lanes))
        if used:
            count = min(sectors, used * lanes)
            found.append(Labelling(node.number, cache[:used], count))
            sectors -= count
        rest += cache[used:]
    return found, rest


def _provings(host: Host, wishes: Wishes, division: Division, left: list[list[Core]]) -> tuple[Proving, ...]:
    if wishes.on_gpus:
        return _with_gpus(host, left)
    if division.provings == 1:
        everything = [core for cores in left for core in cores]
        number = host.nodes[0].number if len(host.nodes) == 1 else None
        return (Proving(number, tuple(everything), None),)
    return tuple(
        Proving(node.number, tuple(cores), None) for node, cores in zip(host.nodes, left, strict=True)
    )


def _with_gpus(host: Host, left: list[list[Core]]) -> tuple[Proving, ...]:
    """Each GPU with cores of its own node if that has enough for all its GPUs, else of any."""
    numbers = [node.number for node in host.nodes]
    at_node: dict[int, list[Gpu]] = {}
    for gpu in host.gpus:
        place = numbers.index(gpu.numa_node) if gpu.numa_node in numbers else -1
        at_node.setdefault(place, []).append(gpu)
    own = -1 not in at_node and all(
        len(left[place]) >= _CORES_PER_GPU * len(gpus) for place, gpus in at_node.items()
    )
    groups = at_node if own else {-1: list(host.gpus)}
    provings = []
    for place, gpus in groups.items():
        cores = left[place] if place >= 0 else [core for cores in left for core in cores]
        number = numbers[place] if place >= 0 else numbers[0] if len(numbers) == 1 else None
        for index, gpu in enumerate(gpus):
            share = cores[index * len(cores) // len(gpus) : (index + 1) * len(cores) // len(gpus)]
            provings.append(Proving(number, tuple(share), gpu))
    return tuple(provings)


def _too_small(host: Host, wishes: Wishes, durations: Durations) -> WorkerError:
    name = size_name(wishes.sector_size)
    room = _threads_on_disk(host, wishes)
    if room == 0:
        places = ", ".join(f"{place.directory} ({format_size(place.free or 0)})" for place in host.sealing)
        return WorkerError(
            f"a {name} sector takes up to {format_size(sector_bytes(wishes))} while it is sealed, and"
            f" there is no room for one: {places}",
            next_step="Name a directory on a larger file system (--sealing DIR), or seal smaller sectors"
            " (--sector-size)",
        )
    labels = 0 if wishes.goal == "snapup" else durations.label_memory
    proofs = proving_memory(wishes, durations)
    parts = [f"{format_size(proofs)} for {' and '.join(PROOF_STAGES[wishes.plan])}, which take turns"]
    parts += [f"{format_size(labels)} for the labels of PC1"] * bool(labels)
    needed = proofs + labels + system_memory(host)
    most = max(node.memory for node in host.nodes)
    if host.memory >= needed and most - system_memory(host) // len(host.nodes) < labels:
        return WorkerError(
            f"the labels of a {name} sector in PC1 take {format_size(labels)} of memory of one NUMA node; the"
            f" largest of {len(host.nodes)} here has {format_size(most)}, some of it for the system",
            next_step="Seal smaller sectors (--sector-size), add memory, or write the configuration by hand:"
            " PC1 without numa_preferred takes memory of any node, which is slower",
        )
    if host.memory >= needed:
        return WorkerError(
            f"{host.cores} core(s) on {len(host.nodes)} NUMA node(s) can't be divided among the stages of a"
            f" {name} sector",
            next_step="Seal smaller sectors (--sector-size), or write the configuration by hand",
        )
    return WorkerError(
        f"sealing {name} sectors takes about {format_size(needed)} of memory ({', '.join(parts)}, the rest"
        f" for the system); this machine has {format_size(host.memory)}",
        next_step="Seal smaller sectors (--sector-size), or add memory",
    )
