"""Small copies of ``/sys`` and ``/proc`` as machines have them."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from damocles_worker.hardware.cpulist import format_cpu_list, parse_cpu_list


def machine(
    root: Path,
    *,
    nodes: Iterable[str],
    l3: Iterable[str],
    threads: Iterable[str] = (),
    online: str = "",
    allowed: str = "",
    huge_pages: int = 0,
    memory: int = 64 << 30,
    files: str = "1048576",
) -> Path:
    """A tree below ``root``: cpu lists of the nodes, of the L3 caches and of cores with two threads."""
    members = list(nodes)
    all_cpus = parse_cpu_list(",".join(members))
    cpus = root / "sys/devices/system/cpu"
    _write(cpus / "present", format_cpu_list(all_cpus))
    _write(cpus / "online", online or format_cpu_list(all_cpus))
    for cpu in all_cpus:
        _write(cpus / f"cpu{cpu}/topology/thread_siblings_list", str(cpu))
        _write(cpus / f"cpu{cpu}/cache/index0/level", "1")
        _write(cpus / f"cpu{cpu}/cache/index0/shared_cpu_list", str(cpu))
    for siblings in threads:
        for cpu in parse_cpu_list(siblings):
            _write(cpus / f"cpu{cpu}/topology/thread_siblings_list", siblings)
    for group in l3:
        for cpu in parse_cpu_list(group):
            _write(cpus / f"cpu{cpu}/cache/index3/level", "3")
            _write(cpus / f"cpu{cpu}/cache/index3/shared_cpu_list", group)
    for number, cpu_list in enumerate(members):
        node = root / f"sys/devices/system/node/node{number}"
        _write(node / "cpulist", cpu_list)
        _write(node / "hugepages/hugepages-1048576kB/nr_hugepages", str(huge_pages))
        _write(node / "hugepages/hugepages-1048576kB/free_hugepages", str(huge_pages // 2))
    _write(
        root / "proc/self/status", f"Name:\tx\nCpus_allowed_list:\t{allowed or format_cpu_list(all_cpus)}\n"
    )
    _write(
        root / "proc/meminfo", f"MemTotal:       {memory // 1024} kB\nMemFree:        {memory // 2048} kB\n"
    )
    _write(
        root / "proc/self/limits",
        "Limit                     Soft Limit           Hard Limit           Units     \n"
        f"Max open files            {files:<20} {files:<20} files     \n"
        "Max locked memory         8388608              unlimited            bytes     \n",
    )
    return root


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"{text.rstrip()}\n")
