"""A machine as far as sealing is concerned, read from ``/sys`` and ``/proc`` of it or of a copy."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct, structs

from damocles_worker.hardware.cpulist import format_cpu_list
from damocles_worker.hardware.disks import Disk, read_disks
from damocles_worker.hardware.gpus import Gpu, read_gpus
from damocles_worker.hardware.hugepages import HugePages, read_huge_pages
from damocles_worker.hardware.limits import LOCKED_MEMORY, OPEN_FILES, Limit, read_limit
from damocles_worker.hardware.memoryuse import MemoryUse, read_memory_use
from damocles_worker.hardware.processor import Processor, read_processor
from damocles_worker.hardware.reader import Reader
from damocles_worker.hardware.topology import Topology, TopologyNode, read_topology


class Hardware(Struct, frozen=True):
    """Everything that ``hwinfo`` shows; parts that can't be read are None or empty and in ``not_read``."""

    topology: Topology
    processor: Processor
    memory: MemoryUse | None
    disks: list[Disk]
    gpus: list[Gpu]
    huge_pages: list[HugePages]
    locked_memory: Limit | None
    open_files: Limit | None
    #: One line per thing that could not be read.
    not_read: list[str]


def read_hardware(root: Path = Path("/")) -> Hardware:
    """The machine whose ``/sys`` and ``/proc`` are below ``root``."""
    return hardware_of(Reader(root))


def hardware_of(reader: Reader) -> Hardware:
    """The machine that a reader reads."""
    use = read_memory_use(reader)
    topology = read_topology(reader, use.total if use else None)
    return Hardware(
        topology=topology,
        processor=read_processor(reader, topology.machine.cpus),
        memory=use,
        disks=read_disks(reader),
        gpus=read_gpus(reader),
        huge_pages=read_huge_pages(reader),
        locked_memory=read_limit(reader, LOCKED_MEMORY),
        open_files=read_limit(reader, OPEN_FILES),
        not_read=reader.problems,
    )


def to_json(hardware: Hardware) -> bytes:
    """The machine as indented JSON: sizes in bytes, cpus as lists in the kernel's numbers."""
    processor = hardware.processor
    data = {
        "topology": _topology(hardware.topology),
        "processor": {
            **structs.asdict(processor),
            "governors": _cpu_lists(processor.governors),
            "core_kinds": _cpu_lists(processor.core_kinds),
        },
        "memory": hardware.memory,
        "disks": hardware.disks,
        "gpus": hardware.gpus,
        "huge_pages": hardware.huge_pages,
        "locked_memory": hardware.locked_memory,
        "open_files": hardware.open_files,
        "not_read": hardware.not_read,
    }
    return msgspec.json.format(msgspec.json.encode(data))


def _cpu_lists(groups: dict[str, frozenset[int]]) -> dict[str, str]:
    return {name: format_cpu_list(cpus) for name, cpus in groups.items()}


def _topology(topology: Topology) -> dict[str, Any]:
    return {
        "machine": _node(topology.machine),
        "offline_cpus": format_cpu_list(topology.offline),
        "denied_cpus": format_cpu_list(topology.denied),
        "denied_nodes": format_cpu_list(topology.denied_nodes),
    }


def _node(node: TopologyNode) -> dict[str, Any]:
    """One object; fields that say nothing about its kind are left out."""
    fields = {
        "kind": node.kind,
        "index": node.index,
        "os_index": node.os_index,
        "bytes": node.size,
        "model": node.model,
        "cpus": format_cpu_list(node.cpus),
        "memory": [_node(memory) for memory in node.memory],
        "children": [_node(child) for child in node.children],
    }
    return {name: value for name, value in fields.items() if value not in (None, [])}
