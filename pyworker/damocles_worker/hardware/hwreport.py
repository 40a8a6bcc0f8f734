"""The text of ``damocles-worker-util hwinfo``: the Rust utility's four parts, then what sealing needs."""

from __future__ import annotations

from collections.abc import Callable

from damocles_worker.hardware.boxtable import box_table, byte_text, share_text
from damocles_worker.hardware.cpulist import format_cpu_list
from damocles_worker.hardware.disks import Disk
from damocles_worker.hardware.gpus import Gpu
from damocles_worker.hardware.hugepages import HugePages
from damocles_worker.hardware.hwinfo import Hardware
from damocles_worker.hardware.limits import Limit
from damocles_worker.hardware.memoryuse import MemoryUse
from damocles_worker.hardware.tree import tree_lines
from damocles_worker.units import format_size


def report(hardware: Hardware, *, full: bool) -> str:
    """All parts; ``full`` draws cores and inner caches, and lists disks with nothing mounted from them."""
    disks = [disk for disk in hardware.disks if full or disk.mount_point]
    parts = [
        "Disks:\n" + disks_table(disks),
        "GPU:\n" + gpus_table(hardware.gpus),
        "Memory:\n" + memory_table(hardware.memory),
        "Sealing:\n" + sealing_table(hardware),
    ]
    if hardware.not_read:
        parts.append("Not read:\n" + "\n".join(hardware.not_read))
    tree = "\n".join(["CPU topology:", *tree_lines(hardware.topology.machine, full=full)])
    return tree + "\n\n" + "\n\n\n".join(parts)


def disks_table(disks: list[Disk]) -> str:
    """Disk type, device name, mount point, file system and space of each mount."""
    rows = [
        (disk.type, disk.device, disk.mount_point or "-", disk.file_system or "-", _space(disk))
        for disk in disks
    ]
    header = ("Disk type", "Device name", "Mount point", "Filesystem", "Space")
    return box_table(header, rows, "No Disk device detected")


def _space(disk: Disk) -> str:
    if disk.total is None:
        return "unknown"
    if disk.used is None:
        return byte_text(disk.total)
    share = share_text(disk.used, disk.total)
    return f"{byte_text(disk.used)} / {byte_text(disk.total)} ({share} used)"


def gpus_table(gpus: list[Gpu]) -> str:
    """Name, vendor and memory of each GPU."""
    rows = [
        (gpu.name, gpu.vendor, "unknown" if gpu.memory is None else byte_text(gpu.memory)) for gpu in gpus
    ]
    return box_table(("Name", "Vendor", "Memory"), rows, "No GPU device detected")


def memory_table(memory: MemoryUse | None) -> str:
    """Total and used memory and swap."""
    rows = []
    if memory is not None:
        rows.append(
            (
                byte_text(memory.total),
                f"{byte_text(memory.used)} ({share_text(memory.used, memory.total)})",
                byte_text(memory.swap_total),
                f"{byte_text(memory.swap_used)} ({share_text(memory.swap_used, memory.swap_total)})",
            )
        )
    return box_table(("Total memory", "Used memory", "Total swap", "Used swap"), rows, "Memory is unknown")


def sealing_table(hardware: Hardware) -> str:
    """What decides the speed of sealing, or whether it works, beside cpus and memory."""
    topology, processor = hardware.topology, hardware.processor
    avx512 = "yes, with IFMA" if processor.avx512 and processor.avx512_ifma else _yes_no(processor.avx512)
    rows = [("SHA extensions", _yes_no(processor.sha_extensions)), ("AVX-512", avx512)]
    rows += [
        (f"{kind.capitalize()} cores", f"cpus {format_cpu_list(cpus)}")
        for kind, cpus in processor.core_kinds.items()
    ]
    rows += [
        ("Governor", f"{name} (cpus {format_cpu_list(cpus)})") for name, cpus in processor.governors.items()
    ]
    if not processor.governors:
        rows.append(("Governor", "none: the kernel scales no clocks here"))
    if topology.offline:
        rows.append(("Switched off", f"cpus {format_cpu_list(topology.offline)}"))
    if topology.denied:
        rows.append(("Not for this process", f"cpus {format_cpu_list(topology.denied)}"))
    if topology.denied_nodes:
        rows.append(("Not for this process", f"memory of nodes {format_cpu_list(topology.denied_nodes)}"))
    rows += _huge_page_rows(hardware.huge_pages)
    rows.append(("Locked memory limit", _limit(hardware.locked_memory, format_size)))
    rows.append(("Open files limit", _limit(hardware.open_files, str)))
    return box_table(("What", "Found"), rows)


def _huge_page_rows(pools: list[HugePages]) -> list[tuple[str, str]]:
    """A row per node; the pool of each page size with pages reserved and free."""
    nodes: dict[int, list[str]] = {}
    for pool in pools:
        text = f"{format_size(pool.page_size)}: {pool.free} of {pool.total} free"
        nodes.setdefault(pool.node, []).append(text)
    return [(f"Huge pages of node {node}", ", ".join(texts)) for node, texts in nodes.items()]


def _limit(limit: Limit | None, text: Callable[[int], str]) -> str:
    if limit is None:
        return "unknown"
    soft, hard = ("unlimited" if amount is None else text(amount) for amount in (limit.soft, limit.hard))
    return soft if soft == hard else f"{soft} (can be raised to {hard})"


def _yes_no(value: bool | None) -> str:
    return "unknown" if value is None else "yes" if value else "no"
