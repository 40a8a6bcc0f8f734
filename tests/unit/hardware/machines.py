"""Machines of many kinds as trees of ``/sys`` and ``/proc``, written the way the kernel writes them.

Each builder fills a directory; ``tests/vectors/hardware/NAME.txt`` is what ``hwinfo`` says of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from msgspec import Struct, structs

from damocles_worker.hardware.cpulist import format_cpu_list, parse_cpu_list

GIB = 1 << 20  # in kB, the unit of the kernel's memory figures
CPUS = "sys/devices/system/cpu"
NODES = "sys/devices/system/node"


class Cpu(Struct, frozen=True):
    """A cpu: cpus with equal ``package``, ``core``, ``l2``, ``l3`` share that; l3 None: it has none."""

    number: int
    package: int
    core: int
    l2: int | None
    l3: int | None


class Machine(Struct, frozen=True):
    """A machine to record. Nodes: number to cpu list and memory in kB; sizes as the kernel has them."""

    cpus: tuple[Cpu, ...]
    nodes: Mapping[int, tuple[str, int]]
    l1_size: str | None = "32K"
    l2_size: str = "512K"
    l3_size: str = "16384K"
    model: str = "*** *** *** 32-Core Processor"
    flags: str = "fpu sse4_1 sha_ni avx2"
    online: str | None = None
    allowed: str | None = None
    allowed_nodes: str | None = None
    governor: str | None = "performance"
    kinds: Mapping[str, str] = {}


def grid(packages: int, l3s: int, cores: int, threads: int = 1) -> tuple[Cpu, ...]:
    """Cpus numbered as on AMD and Intel servers: first the first thread of every core, then the second."""
    total = packages * l3s * cores
    return tuple(
        Cpu(number=thread * total + core, package=core // (l3s * cores), core=core, l2=core, l3=core // cores)
        for thread in range(threads)
        for core in range(total)
    )


def two_sockets() -> Machine:
    """The machine of the operator's guide: 2 × 32 cores, 4 to an L3 cache."""
    return Machine(
        cpus=grid(packages=2, l3s=8, cores=4),
        nodes={0: ("0-31", round(251.57 * GIB)), 1: ("32-63", round(251.98 * GIB))},
    )


def smt() -> Machine:
    """Eight cores of two threads under each L3: the kernel's numbers are not those of the tree."""
    cpus = grid(packages=1, l3s=2, cores=8, threads=2)
    return Machine(cpus, {0: ("0-31", 256 * GIB)}, l3_size="32768K", model="16-Core Processor")


def no_l3() -> Machine:
    """A guest whose L3 is hidden, without clock scaling."""
    cpus = tuple(Cpu(n, 0, n, n, None) for n in range(4))
    return Machine(cpus, {0: ("0-3", 16 * GIB)}, l2_size="1024K", model="Virtual CPU", governor=None)


def no_caches() -> Machine:
    """An Arm guest: no caches, no packages, no processor names."""
    cpus = tuple(Cpu(n, -1, n, None, None) for n in range(4))
    nodes = {0: ("0-3", 8 * GIB)}
    return Machine(cpus, nodes, l1_size=None, model="", flags="fp asimd aes sha1 sha2", governor=None)


def container() -> Machine:
    """The two-socket machine seen from a container with eight cpus, four of them half a cache group."""
    return structs.replace(two_sockets(), allowed="4-9,40-41", allowed_nodes="0-1")


def offline() -> Machine:
    """One core of eight switched off, both its threads."""
    cpus = grid(packages=1, l3s=2, cores=4, threads=2)
    return Machine(cpus, {0: ("0-15", 64 * GIB)}, model="8-Core Processor", online="0-6,8-14")


def memory_only() -> Machine:
    """Two sockets and two nodes of memory without cpus, as CXL memory appears."""
    nodes = {0: ("0-7", 64 * GIB), 1: ("8-15", 64 * GIB), 2: ("", 128 * GIB), 3: ("", 128 * GIB)}
    return Machine(grid(packages=2, l3s=2, cores=4), nodes, governor="powersave")


def asymmetric() -> Machine:
    """L3 caches of 6, 6 and 4 cpus: cores that the maker disabled."""
    l3_of = [0] * 6 + [1] * 6 + [2] * 4
    cpus = tuple(Cpu(n, 0, n, n, l3_of[n]) for n in range(16))
    return Machine(cpus, {0: ("0-15", 128 * GIB)})


def hybrid() -> Machine:
    """Four fast cores of two threads, four slow ones with one L2, and two slow ones without L3."""
    cpus = [Cpu(n, 0, n // 2, n // 2, 0) for n in range(8)]
    cpus += [Cpu(n, 0, n, 100, 0) for n in range(8, 12)]
    cpus += [Cpu(n, 0, n, 101, None) for n in (12, 13)]
    kinds = {"core": "0-7", "atom": "8-13"}
    return Machine(tuple(cpus), {0: ("0-13", 32 * GIB)}, l2_size="2048K", l3_size="24576K", kinds=kinds)


def sparse() -> Machine:
    """Node, package and cpu numbers with gaps, as on POWER with its threads off."""
    cpus = tuple(Cpu(8 * n, 8 * (n // 2), n, n, n) for n in range(4))
    return Machine(cpus, {0: ("0,8", 32 * GIB), 8: ("16,24", 32 * GIB)}, l3_size="10240K")


def sub_numa() -> Machine:
    """One L3 over two NUMA nodes (sub-NUMA clustering)."""
    cpus = tuple(Cpu(n, 0, n, n, 0) for n in range(8))
    return Machine(cpus, {0: ("0-3", 48 * GIB), 1: ("4-7", 48 * GIB)}, l3_size="61440K")


MACHINES: Mapping[str, Callable[[], Machine]] = {
    builder.__name__: builder
    for builder in (
        two_sockets,
        smt,
        no_l3,
        no_caches,
        container,
        offline,
        memory_only,
        asymmetric,
        hybrid,
        sparse,
        sub_numa,
    )
}


def record(root: Path, machine: Machine) -> Path:
    """Write the machine's files below ``root``."""
    online = parse_cpu_list(machine.online) if machine.online else _numbers(machine.cpus)
    running = [cpu for cpu in machine.cpus if cpu.number in online]
    write(root, f"{CPUS}/present", format_cpu_list(_numbers(machine.cpus)))
    write(root, f"{CPUS}/online", format_cpu_list(online))
    for cpu in machine.cpus:
        (root / f"{CPUS}/cpu{cpu.number}").mkdir(parents=True)
    for cpu in running:
        _record_cpu(root, machine, cpu, running)
    for number, (cpus, kilobytes) in machine.nodes.items():
        _record_node(root, number, cpus, kilobytes)
    for kind, cpus in machine.kinds.items():
        write(root, f"sys/devices/cpu_{kind}/cpus", cpus)
    name = f"model name\t: {machine.model}\n" if machine.model else ""
    flags = ("flags" if machine.model else "Features") + f"\t: {machine.flags}\n"
    write(root, "proc/cpuinfo", "\n".join(f"processor\t: {cpu.number}\n{name}{flags}" for cpu in running))
    allowed = machine.allowed or format_cpu_list(online)
    nodes = machine.allowed_nodes or format_cpu_list(machine.nodes)
    write(root, "proc/self/status", f"Name:\tx\nCpus_allowed_list:\t{allowed}\nMems_allowed_list:\t{nodes}\n")
    _record_memory(root, sum(kilobytes for _, kilobytes in machine.nodes.values()))
    _record_disks(root)
    return root


def write(root: Path, path: str, text: str) -> None:
    """Write one file, parents included."""
    (root / path).parent.mkdir(parents=True, exist_ok=True)
    (root / path).write_text(f"{text}\n")


def _record_cpu(root: Path, machine: Machine, cpu: Cpu, running: list[Cpu]) -> None:
    base = f"{CPUS}/cpu{cpu.number}"
    write(root, f"{base}/topology/physical_package_id", str(cpu.package))
    write(root, f"{base}/topology/die_id", "0")
    write(root, f"{base}/topology/core_id", str(cpu.core))
    siblings = format_cpu_list(_numbers(other for other in running if other.core == cpu.core))
    write(root, f"{base}/topology/core_cpus_list", siblings)
    write(root, f"{base}/topology/thread_siblings_list", siblings)
    write(root, f"{base}/topology/thread_siblings", _mask(siblings))
    package = format_cpu_list(_numbers(other for other in running if other.package == cpu.package))
    write(root, f"{base}/topology/core_siblings_list", package)
    write(root, f"{base}/topology/core_siblings", _mask(package))
    if machine.governor:
        write(root, f"{base}/cpufreq/scaling_governor", machine.governor)
    caches = [
        (1, "Data", machine.l1_size, siblings),
        (1, "Instruction", machine.l1_size, siblings),
        (2, "Unified", machine.l2_size, _sharing(running, cpu, "l2")),
        (3, "Unified", machine.l3_size, _sharing(running, cpu, "l3")),
    ]
    for index, (level, kind, size, shared) in enumerate(caches):
        if size and shared:
            cache = f"{base}/cache/index{index}"
            write(root, f"{cache}/level", str(level))
            write(root, f"{cache}/type", kind)
            write(root, f"{cache}/size", size)
            write(root, f"{cache}/shared_cpu_list", shared)
            write(root, f"{cache}/shared_cpu_map", _mask(shared))


def _sharing(running: list[Cpu], cpu: Cpu, cache: str) -> str:
    mine = getattr(cpu, cache)
    if mine is None:
        return ""
    return format_cpu_list(_numbers(other for other in running if getattr(other, cache) == mine))


def _record_node(root: Path, number: int, cpus: str, kilobytes: int) -> None:
    node = f"{NODES}/node{number}"
    write(root, f"{node}/cpulist", cpus)
    write(root, f"{node}/cpumap", _mask(cpus))
    write(
        root, f"{node}/meminfo", f"Node {number} MemTotal:       {kilobytes} kB\nNode {number} MemFree: 0 kB"
    )
    for size, total, free in (("2048kB", 0, 0), ("1048576kB", 64, 12)):
        write(root, f"{node}/hugepages/hugepages-{size}/nr_hugepages", str(total))
        write(root, f"{node}/hugepages/hugepages-{size}/free_hugepages", str(free))


def _record_memory(root: Path, kilobytes: int) -> None:
    amounts = {
        "MemTotal": kilobytes,
        "MemFree": kilobytes // 4,
        "Buffers": GIB // 8,
        "Cached": kilobytes // 2,
        "SReclaimable": GIB // 8,
        "SwapTotal": 8 * GIB,
        "SwapFree": 6 * GIB,
    }
    lines = [f"{name + ':':<16}{amount:>12} kB" for name, amount in amounts.items()]
    write(root, "proc/meminfo", "\n".join([*lines, "HugePages_Total:     128"]))
    write(
        root,
        "proc/self/limits",
        "Limit                     Soft Limit           Hard Limit           Units     \n"
        "Max open files            1024                 1048576              files     \n"
        "Max locked memory         8388608              unlimited            bytes     ",
    )


def _record_disks(root: Path) -> None:
    """An NVMe disk with a partition, an array of two turning disks, and one disk that is not mounted."""
    gib = 1 << 21  # in sectors of 512 bytes
    for name, size, rotational, number in (
        ("nvme0n1", 3576 * gib, 0, "259:0"),
        ("nvme1n1", 3576 * gib, 0, "259:4"),
        ("sda", 16764 * gib, 1, "8:0"),
        ("sdb", 16764 * gib, 1, "8:16"),
        ("md0", 33528 * gib, 1, "9:0"),
        ("loop0", gib, 1, "7:0"),
    ):
        write(root, f"sys/block/{name}/size", str(size))
        write(root, f"sys/block/{name}/dev", number)
        write(root, f"sys/block/{name}/queue/rotational", str(rotational))
    for member in ("sda", "sdb"):
        (root / "sys/block/md0/slaves" / member).mkdir(parents=True)
    partition = "sys/block/nvme0n1/nvme0n1p2"
    write(root, f"{partition}/partition", "2")
    write(root, f"{partition}/size", str(3500 * gib))
    write(root, f"{partition}/dev", "259:2")
    write(
        root,
        "proc/self/mountinfo",
        "22 28 0:21 / /proc rw,nosuid - proc proc rw\n"
        "28 1 259:2 / / rw,relatime shared:1 - ext4 /dev/nvme0n1p2 rw\n"
        "30 28 0:25 / /run rw,nosuid shared:5 - tmpfs tmpfs rw\n"
        "31 28 7:0 / /snap/core/1 ro shared:6 - squashfs /dev/loop0 ro\n"
        "40 28 9:0 / /mnt/cold\\040store rw shared:9 - xfs /dev/md0 rw\n"
        "41 28 0:50 / /mnt/remote rw shared:10 - nfs4 10.0.0.2:/export/remote rw",
    )


def _numbers(cpus: Iterable[Cpu]) -> frozenset[int]:
    return frozenset(cpu.number for cpu in cpus)


def _mask(cpu_list: str) -> str:
    """The kernel's other notation: groups of 32 bits in hexadecimal, the highest first."""
    bits = sum(1 << cpu for cpu in parse_cpu_list(cpu_list)) if cpu_list else 0
    words: list[str] = []
    while bits or not words:
        words.append(f"{bits & 0xFFFFFFFF:08x}")
        bits >>= 32
    return ",".join(reversed(words))
