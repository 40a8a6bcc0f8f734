"""What a machine offers to sealing: cores by cache and node, memory, GPUs, directories."""

from __future__ import annotations

import os
import re
from pathlib import Path

from msgspec import Struct

from damocles_worker.errors import WorkerError
from damocles_worker.filesystem import free_bytes
from damocles_worker.hardware.disks import Disk
from damocles_worker.hardware.gpus import Gpu
from damocles_worker.hardware.hwinfo import Hardware
from damocles_worker.hardware.topology import TopologyNode
from damocles_worker.suggest.wishes import Wishes

#: The cpus (hardware threads) of one physical core.
Core = frozenset[int]

#: File systems that hold the system: sealing fills what it gets.
_SYSTEM = re.compile(r"/(boot|usr|var|tmp|home|etc|opt)?(/.*)?")
#: Where stores go when there is no file system for them: the home directory of the service's user.
HOME = "/var/lib/damocles-worker"


class Node(Struct, frozen=True):
    """A NUMA node with cpus. ``number`` is the kernel's, None where it knows no nodes; memory in bytes."""

    number: int | None
    memory: int
    #: Cores by the L3 cache they share.
    caches: tuple[tuple[Core, ...], ...]

    @property
    def cores(self) -> tuple[Core, ...]:
        """All cores, cache by cache."""
        return tuple(core for cache in self.caches for core in cache)


class Place(Struct, frozen=True):
    """A directory to make sealing stores in; bytes that may be filled, None if unknown."""

    directory: str
    free: int | None


class Host(Struct, frozen=True):
    """A machine as far as a configuration goes."""

    nodes: tuple[Node, ...]
    memory: int
    sha: bool
    #: AVX-512 IFMA on every cpu: what the engines of PC2 and SNARKs gain most by.
    ifma: bool
    gpus: tuple[Gpu, ...]
    sealing: tuple[Place, ...]
    attached: str
    #: Commands to run before the directories above can be used.
    directories_to_make: tuple[str, ...]

    @property
    def cores(self) -> int:
        """Physical cores."""
        return sum(len(node.cores) for node in self.nodes)


def host_of(hardware: Hardware, wishes: Wishes, *, live: bool) -> Host:
    """The machine with the directories that the wishes name, or those that look right.

    ``live``: the machine is this one, so directories can be looked at. Raises :class:`WorkerError` when
    cpus or memory can't be told.
    """
    nodes = _nodes(hardware)
    memory = sum(node.memory for node in nodes) or (hardware.memory.total if hardware.memory else 0)
    if not nodes or not memory:
        what = "memory" if nodes else "cpus"
        why = "; ".join(hardware.not_read) or "no reason is known"
        raise WorkerError(
            f"the {what} of the machine can't be read: {why}",
            next_step="Look at `damocles-worker-util hwinfo`; it takes the same --fsroot",
        )
    sealing = _sealing(hardware.disks, wishes, live=live)
    attached = _attached(hardware.disks, wishes, sealing)
    wanted = [attached, *(place.directory for place in sealing)]
    made_up = [directory for directory in wanted if directory.startswith(HOME)]
    missing = [directory for directory in wanted if live and not os.path.isdir(directory)]  # noqa: PTH112
    return Host(
        nodes=nodes,
        memory=memory,
        sha=hardware.processor.sha_extensions is not False,
        ifma=hardware.processor.avx512_ifma is True,
        gpus=tuple(hardware.gpus),
        sealing=sealing,
        attached=attached,
        directories_to_make=tuple(dict.fromkeys(sorted(missing if live else made_up))),
    )


def _nodes(hardware: Hardware) -> tuple[Node, ...]:
    machine = hardware.topology.machine
    memory = [node for node in machine.of_kind("NUMANode") if node.cpus]
    slow = hardware.processor.core_kinds.get("efficiency", frozenset())
    if not memory:
        total = hardware.memory.total if hardware.memory else 0
        return (Node(None, total, _caches(machine, machine.cpus, slow)),) if machine.cpus else ()
    return tuple(
        Node(node.os_index, node.size or 0, _caches(machine, node.cpus, slow))
        for node in sorted(memory, key=lambda node: node.os_index or 0)
    )


def _caches(
    machine: TopologyNode, cpus: frozenset[int], slow: frozenset[int]
) -> tuple[tuple[Core, ...], ...]:
    """The cores of these cpus by L3 cache; those without one are a group of their own, slow cores last."""
    cores = [core.cpus & cpus for core in machine.of_kind("Core") if core.cpus & cpus]
    cores += [frozenset([cpu]) for cpu in sorted(cpus - frozenset().union(*cores))]
    groups = [cache.cpus & cpus for cache in machine.of_kind("L3") if cache.cpus & cpus]
    groups.append(cpus - frozenset().union(*groups))
    found = [
        sorted((core for core in cores if core <= group), key=lambda core: (bool(core & slow), min(core)))
        for group in groups
    ]
    found = [group for group in found if group]
    return tuple(tuple(group) for group in sorted(found, key=lambda group: bool(group[0] & slow)))


def _sealing(disks: list[Disk], wishes: Wishes, *, live: bool) -> tuple[Place, ...]:
    if wishes.sealing:
        return tuple(Place(directory, _free(directory, live)) for directory in wishes.sealing)
    fast = [disk for disk in disks if disk.mount_point and disk.type == "SSD" and not _is_system(disk)]
    places = [
        Place(disk.mount_point, disk.total - (disk.used or 0)) for disk in fast if disk.total is not None
    ]
    return tuple(places) or (Place(HOME, _free(HOME, live)),)


def _free(directory: str, live: bool) -> int | None:
    """Free bytes where the directory is or will be."""
    if not live:
        return None
    path = Path(directory).absolute()
    while not path.exists():
        path = path.parent
    return free_bytes(path)


def _is_system(disk: Disk) -> bool:
    return _SYSTEM.fullmatch(disk.mount_point) is not None


def _attached(disks: list[Disk], wishes: Wishes, sealing: tuple[Place, ...]) -> str:
    if wishes.attached:
        return wishes.attached
    taken = {place.directory for place in sealing}
    left = [
        disk for disk in disks if disk.mount_point and disk.mount_point not in taken and not _is_system(disk)
    ]
    for kind in ("network", "HDD", "SSD", "-"):
        for disk in left:
            if disk.type == kind:
                return disk.mount_point
    return f"{HOME}/persist"
