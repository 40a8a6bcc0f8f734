"""Cpu sets and NUMA nodes that a configuration names, beside those of this host."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from msgspec import Struct

from damocles_worker.config.crosscheck import exclude_each_other, processors_of
from damocles_worker.config.findings import Report
from damocles_worker.config.settings import Processor, Settings
from damocles_worker.hardware import cpus
from damocles_worker.hardware.cpulist import format_cpu_list, parse_cpu_list

_START = (1, 1)
_MULTICORE = "FIL_PROOFS_USE_MULTICORE_SDR"
_TRUE = ("1", "true", "on", "yes")


class Host(Struct, frozen=True):
    """The cpus of a machine; empty where the kernel says nothing."""

    present: frozenset[int]
    online: frozenset[int]
    allowed: frozenset[int]
    nodes: dict[int, frozenset[int]]
    l3: list[frozenset[int]]
    core_of: dict[int, int]


def check(settings: Settings, root: Path, environ: Mapping[str, str], report: Report) -> None:
    """Report cpu sets and nodes that this host can't give, or gives in a way that costs."""
    host = Host(
        cpus.present_cpus(root),
        cpus.online_cpus(root),
        cpus.allowed_cpus(root),
        cpus.numa_nodes(root),
        cpus.l3_groups(root),
        cpus.core_of_cpu(root),
    )
    bound = []
    for path, stage, processor in processors_of(settings):
        wanted = parse_cpu_list(processor.cpuset) if processor.cpuset else frozenset()
        place = f"{path}.cgroup.cpuset"
        position = settings.positions.get(place, settings.positions.get(path, _START))
        usable = not wanted or _check_usable(place, position, wanted, host, report)
        _check_node(path, processor, wanted, settings, host, report)
        if stage == "pc1" and usable and _is_multicore(processor, environ):
            ours = processor.bin is None and not _is_the_librarys(processor, environ)
            _check_shared_caches(place, position, wanted or host.allowed, host, report, ours=ours)
        if wanted:
            bound.append((place, position, wanted, processor))
    _check_overlaps(bound, settings.processors.ext_locks, report)


def _check_usable(
    place: str, position: tuple[int, int], wanted: frozenset[int], host: Host, report: Report
) -> bool:
    """Whether all cpus of a set can be used by this process; reports those that can't."""
    if not host.present:
        return True
    missing = wanted - host.present
    offline = (wanted & host.present) - host.online
    denied = (wanted & host.online) - host.allowed if host.allowed else frozenset()
    if missing:
        message = f"cpus {format_cpu_list(missing)} are not in this machine"
        report.error(place, position, message, f"write cpus of {format_cpu_list(host.present)}")
    if offline:
        message = f"cpus {format_cpu_list(offline)} are switched off"
        report.error(place, position, message, "write others, or switch them on in /sys/devices/system/cpu")
    if denied:
        message = f"cpus {format_cpu_list(denied)} are not among those this process may use"
        report.error(place, position, message, f"write cpus of {format_cpu_list(host.allowed)}")
    return not (missing or offline or denied)


def _check_node(
    path: str, processor: Processor, wanted: frozenset[int], settings: Settings, host: Host, report: Report
) -> None:
    node = processor.numa_preferred
    if node is None or node < 0 or not host.nodes:
        return
    place = f"{path}.numa_preferred"
    position = settings.positions.get(place, _START)
    if node not in host.nodes:
        known = ", ".join(str(number) for number in sorted(host.nodes))
        message = f"this machine has no NUMA node {node} (it has {known}): memory comes from any node"
        report.warning(place, position, message, "write a node that it has, or remove the key")
        return
    elsewhere = wanted - host.nodes[node]
    if elsewhere and wanted <= frozenset().union(*host.nodes.values()):
        others = sorted(number for number, members in host.nodes.items() if members & elsewhere)
        report.warning(
            place,
            position,
            f"memory is taken from node {node}, but cpus {format_cpu_list(elsewhere)} of the cpuset are on "
            f"node {', '.join(str(number) for number in others)}",
            f"use cpus of node {node} ({format_cpu_list(host.nodes[node])}), or remove numa_preferred",
        )


def _is_multicore(processor: Processor, environ: Mapping[str, str]) -> bool:
    inherited = environ.get(_MULTICORE, "") if processor.inherit_envs else ""
    return processor.envs.get(_MULTICORE, inherited).strip().lower() in _TRUE


def _is_the_librarys(processor: Processor, environ: Mapping[str, str]) -> bool:
    """Whether a child of this program leaves PC1 to the proofs library."""
    inherited = environ if processor.inherit_envs else {}
    return {**inherited, **processor.envs}.get("DAMOCLES_PC1_ENGINE") == "crate"


def _check_shared_caches(
    place: str, position: tuple[int, int], wanted: frozenset[int], host: Host, report: Report, *, ours: bool
) -> None:
    """Multicore SDR of the proofs library needs the same number of cores under each L3 cache.

    It refuses (by a panic) a number of cores that the number of caches does not divide, and shares them
    out as if each cache had equally many. The engine of this program (``ours``) takes any cores.
    """
    groups = {number: group & wanted for number, group in enumerate(host.l3) if group & wanted}
    cores = {number: {host.core_of.get(cpu, cpu) for cpu in members} for number, members in groups.items()}
    counts = {number: len(members) for number, members in cores.items()}
    if len(set(counts.values())) <= 1:
        return
    shown = ", ".join(f"L3 #{number}: {count}" for number, count in counts.items())
    if ours:
        message = (
            f"cpus {format_cpu_list(wanted)} are {shown}: harmless to this program's PC1, but multicore SDR"
            " of the proofs library (DAMOCLES_PC1_ENGINE=crate) needs the same number of cores under each L3"
            " cache"
        )
    else:
        message = (
            "multicore SDR of the proofs library needs the same number of cores under each L3 cache, else it"
            f" ends by a panic; cpus {format_cpu_list(wanted)} are {shown}"
        )
    report.warning(place, position, message, _better_sets(wanted, groups, host))


def _better_sets(wanted: frozenset[int], groups: dict[int, frozenset[int]], host: Host) -> str:
    """Cpu sets near the wanted one that have equally many cores under each cache."""
    cores = {host.core_of.get(cpu, cpu) for cpu in wanted}
    whole = set(wanted)
    for number in groups:
        whole |= {cpu for cpu in host.l3[number] if host.core_of.get(cpu, cpu) == cpu and cpu not in cores}
    fewest = min(len({host.core_of.get(cpu, cpu) for cpu in members}) for members in groups.values())
    fewer: set[int] = set()
    for members in groups.values():
        kept = sorted({host.core_of.get(cpu, cpu) for cpu in members})[:fewest]
        fewer |= {cpu for cpu in members if host.core_of.get(cpu, cpu) in kept}
    options = []
    if not host.allowed or whole <= host.allowed:
        options.append(f'"{format_cpu_list(whole)}" (whole L3 caches)')
    options.append(f'"{format_cpu_list(fewer)}" ({fewest} under each)')
    return f"write {' or '.join(options)}"


def _check_overlaps(
    bound: list[tuple[str, tuple[int, int], frozenset[int], Processor]],
    locks: Mapping[str, int],
    report: Report,
) -> None:
    """Cpus of two processors are shared in turns if a lock sees to it, and fought for otherwise."""
    for index, (place, position, wanted, processor) in enumerate(bound):
        rivals = [
            (other, wanted & theirs)
            for other, _, theirs, rival in bound[:index]
            if wanted & theirs and not exclude_each_other(processor, rival, locks)
        ]
        if rivals:
            first, shared = rivals[0]
            more = f" and {len(rivals) - 1} more" if len(rivals) > 1 else ""
            message = f"cpus {format_cpu_list(shared)} are also those of {first}{more}: they compete"
            report.warning(place, position, message, "give each processor cpus of its own, or a common lock")
