"""What the kernel says about cpus and NUMA nodes, object by object: the input of the topology."""

from __future__ import annotations

from collections.abc import Iterable

from msgspec import Struct

from damocles_worker.hardware.cpulist import format_cpu_list
from damocles_worker.hardware.processor import cpu_models
from damocles_worker.hardware.reader import Reader

_CPUS = "sys/devices/system/cpu"
_NODES = "sys/devices/system/node"

#: Outer to inner, for objects with the same cpus (hwloc's order).
_ORDER = ("Package", "Die", "Group", "L4", "L3", "L2", "L1", "Core", "PU")
_CACHE_LEVELS = range(1, 5)


class CpuObject(Struct, frozen=True):
    """Something that consists of cpus; ``size`` in bytes for caches."""

    kind: str
    cpus: frozenset[int]
    os_index: int | None = None
    size: int | None = None
    model: str | None = None

    @property
    def rank(self) -> int:
        """Smaller is further out."""
        return _ORDER.index(self.kind)


class NumaMemory(Struct, frozen=True):
    """A NUMA node: all its cpus (none for one of memory only) and its memory in bytes, if known."""

    cpus: frozenset[int]
    size: int | None


def cpu_objects(reader: Reader, usable: frozenset[int]) -> list[CpuObject]:
    """Packages, dies, caches, cores and cpus as far as they consist of ``usable`` cpus; none twice."""
    if not usable:
        return []
    found: dict[tuple[str, frozenset[int]], CpuObject] = {}
    for item in (*_packages(reader, usable), *_cores(reader, usable), *_caches(reader, usable)):
        found.setdefault((item.kind, item.cpus), item)
    return [*found.values(), *(CpuObject("PU", frozenset([cpu]), cpu) for cpu in usable)]


def numa_memory(reader: Reader) -> dict[int, NumaMemory]:
    """NUMA nodes by the kernel's number."""
    numbers = reader.numbered(_NODES, "node")
    if not numbers:
        reader.problem(f"/{_NODES}: there are no nodes in it, which memory is near which cpu is unknown")
    nodes = {}
    for number in numbers:
        cpus = reader.cpus(f"{_NODES}/node{number}/cpulist")
        if cpus is None:
            reader.problem(f"/{_NODES}/node{number}/cpulist: can't be read, shown as a node without cpus")
        nodes[number] = NumaMemory(cpus or frozenset(), _node_bytes(reader, number))
    return nodes


def _node_bytes(reader: Reader, number: int) -> int | None:
    path = f"{_NODES}/node{number}/meminfo"
    for line in (reader.text(path) or "").splitlines():
        # Node 0 MemTotal:       263789568 kB
        words = line.split()
        if len(words) == 5 and words[2] == "MemTotal:" and words[3].isdecimal():
            return int(words[3]) << 10
    reader.problem(f"/{path}: MemTotal can't be read")
    return None


def _packages(reader: Reader, usable: frozenset[int]) -> list[CpuObject]:
    """Packages, and their dies where they have several."""
    models = cpu_models(reader)
    packages: dict[int, set[int]] = {}
    dies: dict[tuple[int, int], set[int]] = {}
    for cpu in usable:
        package = reader.number(f"{_CPUS}/cpu{cpu}/topology/physical_package_id")
        if package is None or package < 0:
            continue
        # The list too, for a cpu whose own file is damaged.
        siblings = reader.cpus(f"{_CPUS}/cpu{cpu}/topology/core_siblings_list") or frozenset()
        packages.setdefault(package, set()).update({cpu}, siblings & usable)
        die = reader.number(f"{_CPUS}/cpu{cpu}/topology/die_id")
        if die is not None and die >= 0:
            dies.setdefault((package, die), set()).add(cpu)
    if not packages:
        reader.problem(f"/{_CPUS}/cpu*/topology/physical_package_id: packages are unknown")
    objects = [
        CpuObject("Package", frozenset(cpus), number, model=models.get(min(cpus)))
        for number, cpus in packages.items()
    ]
    split = {package for package, _ in dies if sum(other == package for other, _ in dies) > 1}
    objects += [
        CpuObject("Die", frozenset(cpus), die) for (package, die), cpus in dies.items() if package in split
    ]
    return objects


def _cores(reader: Reader, usable: frozenset[int]) -> list[CpuObject]:
    objects = []
    unknown = []
    for cpu in sorted(usable):
        topology = f"{_CPUS}/cpu{cpu}/topology"
        siblings = reader.cpus(f"{topology}/core_cpus_list")
        if siblings is None:
            siblings = reader.cpus(f"{topology}/thread_siblings_list")
        if siblings is None or cpu not in siblings:
            unknown.append(cpu)
            continue
        objects.append(CpuObject("Core", siblings & usable))
    _note(reader, "which cpus share a core", unknown, usable)
    return objects


def _caches(reader: Reader, usable: frozenset[int]) -> list[CpuObject]:
    """Data and unified caches; instruction caches play no part in sealing."""
    objects = []
    unknown = []
    for cpu in sorted(usable):
        base = f"{_CPUS}/cpu{cpu}/cache"
        indexes = reader.numbered(base, "index")
        if not indexes:
            unknown.append(cpu)
        for index in indexes:
            cache = f"{base}/index{index}"
            level = reader.number(f"{cache}/level")
            if level not in _CACHE_LEVELS or reader.text(f"{cache}/type") == "Instruction":
                continue
            shared = reader.cpus(f"{cache}/shared_cpu_list")
            if shared is None or cpu not in shared:
                reader.problem(f"/{cache}: which cpus share this cache can't be read, it is left out")
                continue
            objects.append(CpuObject(f"L{level}", shared & usable, size=reader.size(f"{cache}/size")))
    _note(reader, "caches", unknown, usable)
    return objects


def _note(reader: Reader, what: str, unknown: Iterable[int], usable: frozenset[int]) -> None:
    """One line for all cpus that a thing can't be read of."""
    cpus = frozenset(unknown)
    if cpus:
        of = "any cpu" if cpus == usable else f"cpus {format_cpu_list(cpus)}"
        reader.problem(f"/{_CPUS}: {what} of {of} can't be read")
