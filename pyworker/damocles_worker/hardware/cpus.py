"""Cpus, cores, caches and NUMA nodes, read from ``/sys`` and ``/proc``.

Every function takes the root of the tree to read, so that recorded trees of other machines can be
read too. A file that is not there (in containers many are missing) gives an empty answer.
"""

from __future__ import annotations

import re
from pathlib import Path

from damocles_worker.hardware.cpulist import parse_cpu_list

_CPUS = "sys/devices/system/cpu"
_NODES = "sys/devices/system/node"
_ROOT = Path("/")


def present_cpus(root: Path = _ROOT) -> frozenset[int]:
    """Cpus that are built in, offline ones included."""
    return _cpu_list_in(root / _CPUS / "present")


def online_cpus(root: Path = _ROOT) -> frozenset[int]:
    """Cpus that are switched on."""
    return _cpu_list_in(root / _CPUS / "online")


def allowed_cpus(root: Path = _ROOT) -> frozenset[int]:
    """Cpus that this process may use: its control group and affinity leave no others."""
    return _cpu_list(_status_field(root, "Cpus_allowed_list"))


def numa_nodes(root: Path = _ROOT) -> dict[int, frozenset[int]]:
    """NUMA nodes by number with their cpus (none for a node of memory only)."""
    return {
        int(directory.name.removeprefix("node")): _cpu_list_in(directory / "cpulist")
        for directory in _numbered(root / _NODES, "node")
    }


def l3_groups(root: Path = _ROOT) -> list[frozenset[int]]:
    """Groups of cpus that share a level 3 cache, in the order of their first cpu (hwloc's numbering)."""
    groups = set()
    for cpu in _numbered(root / _CPUS, "cpu"):
        for cache in _numbered(cpu / "cache", "index"):
            if _text(cache / "level") == "3":
                groups.add(_cpu_list_in(cache / "shared_cpu_list"))
    return sorted(groups - {frozenset()}, key=min)


def core_of_cpu(root: Path = _ROOT) -> dict[int, int]:
    """For each cpu the first hardware thread of its core; cpus without that file are cores of their own."""
    cores = {}
    for directory in _numbered(root / _CPUS, "cpu"):
        cpu = int(directory.name.removeprefix("cpu"))
        siblings = _cpu_list_in(directory / "topology/thread_siblings_list")
        cores[cpu] = min(siblings, default=cpu)
    return cores


def _numbered(directory: Path, prefix: str) -> list[Path]:
    """Entries ``<prefix><number>`` of a directory by number."""
    pattern = re.compile(rf"{prefix}([0-9]+)")
    try:
        found = [
            (int(match[1]), path) for path in directory.iterdir() if (match := pattern.fullmatch(path.name))
        ]
    except OSError:
        return []
    return [path for _, path in sorted(found)]


def _cpu_list_in(path: Path) -> frozenset[int]:
    return _cpu_list(_text(path))


def _cpu_list(text: str) -> frozenset[int]:
    return parse_cpu_list(text) if text else frozenset()


def _status_field(root: Path, name: str) -> str:
    for line in _text(root / "proc/self/status").splitlines():
        key, _, value = line.partition(":")
        if key == name:
            return value.strip()
    return ""


def _text(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""
