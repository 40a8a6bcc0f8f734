"""The machines of the four example deployments (docs/examples), with the disks and GPUs they tell of.

What an example leaves open (caches, sockets) is taken from a processor of that many cores.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from msgspec import Struct

from tests.unit.hardware.machines import GIB, Machine, grid, record, two_sockets, write

_SECTORS_PER_GIB = 1 << 21
_PCI = "sys/bus/pci/devices"


class Provider(Struct, frozen=True):
    """A machine with GPUs by their NUMA node, and NVMe file systems: mount point to GiB."""

    machine: Machine
    gpus: tuple[int, ...]
    nvme: Mapping[str, int]


def guide() -> Provider:
    """The two-socket machine of the operator's guide; its disks and GPUs are not told: 15 TiB, none."""
    return Provider(two_sockets(), (), {"/mnt/nvme1": 7680, "/mnt/nvme2": 7680})


def example_1() -> Provider:
    """48 cores on 8 NUMA nodes, 1 TiB, 20 TiB of NVMe, one GPU."""
    nodes = {node: (f"{6 * node}-{6 * node + 5}", 128 * GIB) for node in range(8)}
    machine = Machine(grid(packages=2, l3s=8, cores=3), nodes, model="24-Core Processor")
    return Provider(machine, (0,), {"/mnt/nvme": 20 * 1024})


def example_2() -> Provider:
    """32 cores, 1.5 TiB, two file systems of 7.5 TiB, one GPU."""
    machine = Machine(grid(packages=1, l3s=8, cores=4), {0: ("0-31", 1536 * GIB)}, model="32-Core Processor")
    return Provider(machine, (0,), {"/mnt/nvme1": 7680, "/mnt/nvme2": 7680})


def example_3() -> Provider:
    """2 × 48 cores, 2 TiB, 30 TiB, a GPU at each socket."""
    nodes = {0: ("0-47", 1024 * GIB), 1: ("48-95", 1024 * GIB)}
    machine = Machine(grid(packages=2, l3s=16, cores=3), nodes, model="48-Core Processor")
    return Provider(machine, (0, 1), {"/mnt/nvme": 30 * 1024})


def example_4() -> Provider:
    """16 cores, 512 GiB, one array of 7.5 TiB, one GPU."""
    machine = Machine(grid(packages=1, l3s=4, cores=4), {0: ("0-15", 512 * GIB)}, model="16-Core Processor")
    return Provider(machine, (0,), {"/mnt/md0": 7680})


PROVIDERS: Mapping[str, Callable[[], Provider]] = {
    builder.__name__: builder for builder in (guide, example_1, example_2, example_3, example_4)
}


def record_provider(root: Path, provider: Provider) -> Path:
    """Write the machine's files below ``root``."""
    record(root, provider.machine)
    mounts = [(root / "proc/self/mountinfo").read_text().rstrip("\n")]
    for index, (mount_point, gib) in enumerate(provider.nvme.items()):
        name, number = f"nvme{index + 2}n1", f"259:{index + 10}"
        write(root, f"sys/block/{name}/size", str(gib * _SECTORS_PER_GIB))
        write(root, f"sys/block/{name}/dev", number)
        write(root, f"sys/block/{name}/queue/rotational", "0")
        mounts.append(f"{50 + index} 28 {number} / {mount_point} rw shared:{20 + index} - xfs /dev/{name} rw")
    write(root, "proc/self/mountinfo", "\n".join(mounts))
    for index, node in enumerate(provider.gpus):
        address = f"0000:{0x21 + 0x40 * index:02x}:00.0"
        for name, text in (("vendor", "0x10de"), ("class", "0x030000"), ("device", "0x2206")):
            write(root, f"{_PCI}/{address}/{name}", text)
        write(root, f"{_PCI}/{address}/numa_node", str(node))
        write(root, f"proc/driver/nvidia/gpus/{address}/information", "Model: \t\t NVIDIA GeForce RTX 3080")
    return root
