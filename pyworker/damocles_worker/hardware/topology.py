"""The tree of packages, NUMA nodes, caches, cores and cpus, built from ``/sys``.

Objects are put below each other by inclusion of their cpus, as the hwloc library does it: a machine's
files name the cpus of every object, never its parent. Cpus that are switched off, or that this process
may not use (cpu set of a container), are left out and noted.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import msgspec
from msgspec import Struct

from damocles_worker.hardware.cpulist import format_cpu_list
from damocles_worker.hardware.cpuobjects import CpuObject, NumaMemory, cpu_objects, numa_memory
from damocles_worker.hardware.reader import Reader

_CPUS = "sys/devices/system/cpu"


class TopologyNode(Struct):
    """An object of the tree. ``size`` is bytes of memory (of everything below) or of cache."""

    kind: str
    cpus: frozenset[int]
    #: hwloc's logical number: the rank among objects of this kind, in the order of the tree.
    index: int = 0
    #: The kernel's number of a cpu, NUMA node or package, the one that configurations take.
    os_index: int | None = None
    size: int | None = None
    model: str | None = None
    #: NUMA nodes that belong to exactly these cpus.
    memory: list[TopologyNode] = msgspec.field(default_factory=list)
    children: list[TopologyNode] = msgspec.field(default_factory=list)

    @property
    def is_cache(self) -> bool:
        return self.kind in ("L1", "L2", "L3", "L4")

    def descendants(self) -> Iterator[TopologyNode]:
        """This object and everything below it, NUMA nodes before the other children."""
        yield self
        for child in (*self.memory, *self.children):
            yield from child.descendants()

    def of_kind(self, kind: str) -> list[TopologyNode]:
        """The objects of a kind at or below this one, in the order of the tree."""
        return [node for node in self.descendants() if node.kind == kind]


class Topology(Struct):
    """A machine: its tree, and which cpus are left out of it."""

    machine: TopologyNode
    #: Built in but switched off.
    offline: frozenset[int]
    #: Switched on, but not for this process.
    denied: frozenset[int]
    #: NUMA nodes whose memory this process may not use.
    denied_nodes: frozenset[int]


def read_topology(reader: Reader, total_memory: int | None) -> Topology:
    """The topology below the reader's root.

    ``total_memory`` (bytes) is shown for the machine when the kernel names no NUMA nodes.
    """
    present, online = _present_and_online(reader)
    allowed = _allowed(reader, "Cpus_allowed_list", online)
    usable = online & allowed
    nodes = numa_memory(reader)
    allowed_nodes = _allowed(reader, "Mems_allowed_list", frozenset(nodes))
    machine = TopologyNode("Machine", usable)
    for item in _with_groups(cpu_objects(reader, usable), nodes, usable):
        _insert(machine, item, reader)
    for number, node in nodes.items():
        if number in allowed_nodes:
            _attach(machine, number, node, usable)
    _add_up(machine)
    if not nodes:
        machine.size = total_memory
    _number(machine)
    return Topology(
        machine,
        offline=present - online,
        denied=online - allowed,
        denied_nodes=frozenset(nodes) - allowed_nodes,
    )


def _present_and_online(reader: Reader) -> tuple[frozenset[int], frozenset[int]]:
    listed = frozenset(reader.numbered(_CPUS, "cpu"))
    if not listed:
        reader.problem(f"/{_CPUS}: there are no cpus in it, the topology is unknown")
    present = reader.cpus(f"{_CPUS}/present") or listed
    online = reader.cpus(f"{_CPUS}/online")
    if online is None and listed:
        reader.problem(f"/{_CPUS}/online: can't be read, all cpus are taken as switched on")
    return present | (online or frozenset()), present if online is None else online


def _allowed(reader: Reader, field: str, everything: frozenset[int]) -> frozenset[int]:
    """What ``/proc/self/status`` leaves this process of all cpus (or nodes)."""
    text = reader.status(field)
    allowed = reader.cpu_list(text, f"/proc/self/status {field}") if text is not None else None
    if allowed is None and everything:
        reader.problem(f"/proc/self/status: {field} can't be read, all are taken as usable")
    # A tree recorded by a process elsewhere may allow nothing of this machine; then it says nothing.
    return everything if allowed is None or not allowed & everything else allowed


def _with_groups(
    objects: list[CpuObject], nodes: dict[int, NumaMemory], usable: frozenset[int]
) -> list[CpuObject]:
    """The objects from the largest to the smallest, with a group for each NUMA node that equals none."""
    known = {item.cpus for item in objects} | {usable}
    groups = {node.cpus & usable for node in nodes.values()} - known - {frozenset()}
    objects = objects + [CpuObject("Group", cpus) for cpus in groups]
    return sorted(objects, key=lambda item: (-len(item.cpus), item.rank, min(item.cpus)))


def _insert(machine: TopologyNode, item: CpuObject, reader: Reader) -> None:
    """Put an object below the smallest one that has all its cpus; parents come before children."""
    parent = machine
    while True:
        touched = [child for child in parent.children if child.cpus & item.cpus]
        if not touched:
            break
        if not item.cpus <= touched[0].cpus:
            other = f"{touched[0].kind} of cpus {format_cpu_list(touched[0].cpus)}"
            reader.problem(
                f"{item.kind} of cpus {format_cpu_list(item.cpus)}: left out, it cuts across the {other}"
            )
            return
        parent = touched[0]
    parent.children.append(TopologyNode(item.kind, item.cpus, 0, item.os_index, item.size, item.model))


def _attach(machine: TopologyNode, number: int, node: NumaMemory, usable: frozenset[int]) -> None:
    """Put a NUMA node at the highest object below the machine with exactly its cpus.

    One without cpus that can be used becomes a group of its own, as hwloc shows it.
    """
    cpus = node.cpus & usable
    below = (found for child in machine.children for found in child.descendants())
    place = next((found for found in below if cpus and found.cpus == cpus), machine)
    if not cpus:
        place = TopologyNode("Group", cpus)
        machine.children.append(place)
    place.memory.append(TopologyNode("NUMANode", cpus, 0, number, node.size))


def _add_up(node: TopologyNode) -> int:
    """Give machine, packages, dies and groups the memory below them; answers it in bytes."""
    total = sum(memory.size or 0 for memory in node.memory) + sum(_add_up(child) for child in node.children)
    if node.kind in ("Machine", "Package", "Die", "Group"):
        node.size = total
    return total


def _number(machine: TopologyNode) -> None:
    """Number each kind along the tree, children in the order of their first cpu; NUMA nodes by the kernel's.

    Groups without cpus come last, in the order of their nodes.
    """
    counts: dict[str, int] = {}

    def visit(node: TopologyNode) -> None:
        node.children.sort(key=lambda child: min(child.cpus, default=math.inf))
        for child in node.children:
            child.index = counts.get(child.kind, 0)
            counts[child.kind] = child.index + 1
            visit(child)

    visit(machine)
    for index, node in enumerate(sorted(machine.of_kind("NUMANode"), key=lambda node: node.os_index or 0)):
        node.index = index
