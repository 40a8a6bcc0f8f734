"""The topology against hwloc's, and on trees that are damaged."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from xml.etree import ElementTree

import pytest

from damocles_worker.hardware.reader import Reader
from damocles_worker.hardware.topology import Topology, TopologyNode, read_topology
from tests.unit.hardware.machines import CPUS, MACHINES, NODES, record, smt, two_sockets, write

LSTOPO = shutil.which("lstopo-no-graphics")


def read(root: Path) -> tuple[Topology, list[str]]:
    reader = Reader(root)
    return read_topology(reader, None), reader.problems


@pytest.mark.skipif(LSTOPO is None, reason="lstopo-no-graphics is not installed (apt-get install hwloc-nox)")
@pytest.mark.parametrize("name", sorted(set(MACHINES) - {"container", "no_caches"}))
def test_the_tree_is_the_one_that_hwloc_builds(name: str, tmp_path: Path) -> None:
    """Two are left out: a container's mask, which hwloc takes from the control group of the live machine,
    and the Arm guest, for which hwloc makes up a package."""
    record(tmp_path, MACHINES[name]())
    assert LSTOPO is not None
    command = [LSTOPO, "--input", str(tmp_path), "--no-io", "--no-icaches", "--of", "xml"]
    output = subprocess.run(command, capture_output=True, check=True).stdout
    machine = ElementTree.fromstring(output).find("object")
    assert machine is not None
    topology, problems = read(tmp_path)
    assert _shape(topology.machine) == _hwloc_shape(machine)
    assert problems == []


Shape = tuple[str, int | None, int | None, list["Shape"]]


def _shape(node: TopologyNode) -> Shape:
    """Kind, the kernel's number, bytes of cache or node, children in order."""
    number = node.os_index if node.kind in ("PU", "NUMANode", "Package") else None
    size = node.size if node.is_cache or node.kind == "NUMANode" else None
    return node.kind, number, size, [_shape(child) for child in (*node.memory, *node.children)]


def _hwloc_shape(element: ElementTree.Element) -> Shape:
    kind = element.attrib["type"].removesuffix("Cache")
    children = sorted(element.findall("object"), key=lambda child: child.attrib["type"] != "NUMANode")
    number = element.get("os_index") if kind in ("PU", "NUMANode", "Package") else None
    size = element.get("cache_size") or (element.get("local_memory") if kind == "NUMANode" else None)
    return (
        kind,
        int(number) if number else None,
        int(size) if size else None,
        [_hwloc_shape(child) for child in children],
    )


def test_offline_and_denied_cpus_are_told_apart(tmp_path: Path) -> None:
    record(tmp_path, MACHINES["offline"]())
    write(tmp_path, "proc/self/status", "Cpus_allowed_list:\t0-3\nMems_allowed_list:\t0")
    topology, problems = read(tmp_path)
    assert topology.machine.cpus == {0, 1, 2, 3}
    assert topology.offline == {7, 15}
    assert topology.denied == {4, 5, 6, 8, 9, 10, 11, 12, 13, 14}
    assert problems == []


def test_nodes_denied_to_a_container_are_left_out_of_the_tree_and_told(tmp_path: Path) -> None:
    record(tmp_path, two_sockets())
    write(tmp_path, "proc/self/status", "Cpus_allowed_list:\t0-31\nMems_allowed_list:\t0")
    topology, _ = read(tmp_path)
    assert [node.os_index for node in topology.machine.of_kind("NUMANode")] == [0]
    assert topology.denied_nodes == {1}


def test_an_empty_tree_gives_a_machine_and_says_what_is_missing(tmp_path: Path) -> None:
    topology, problems = read(tmp_path)
    assert topology.machine.children == []
    assert any("the topology is unknown" in problem for problem in problems)


def test_garbage_costs_what_it_describes_and_is_one_line_each(tmp_path: Path) -> None:
    record(tmp_path, smt())
    write(tmp_path, f"{CPUS}/cpu0/cache/index3/shared_cpu_list", "zero to seven")
    write(tmp_path, f"{CPUS}/cpu1/cache/index3/size", "big")
    write(tmp_path, f"{CPUS}/cpu2/topology/physical_package_id", "\x00\x01")
    write(tmp_path, f"{CPUS}/cpu3/topology/core_cpus_list", "3-1")
    write(tmp_path, f"{NODES}/node0/meminfo", "no idea")
    write(tmp_path, "proc/self/status", "Cpus_allowed_list:\tall of them\nMems_allowed_list:\t0")
    topology, problems = read(tmp_path)
    assert len(topology.machine.of_kind("PU")) == 32
    assert len(topology.machine.of_kind("L3")) == 2
    for words in (
        "cpu0/cache/index3/shared_cpu_list: 'zero to seven' is not a list",
        "cpu1/cache/index3/size: 'big' is not a size",
        "cpu2/topology/physical_package_id",
        "cpu3/topology/core_cpus_list: '3-1'",
        "node0/meminfo: MemTotal can't be read",
        "/proc/self/status Cpus_allowed_list: 'all of them'",
    ):
        assert sum(words in problem for problem in problems) == 1, words


def test_an_object_that_cuts_across_another_is_left_out_and_told(tmp_path: Path) -> None:
    record(tmp_path, two_sockets())
    for cpu in range(3, 6):
        write(tmp_path, f"{CPUS}/cpu{cpu}/cache/index2/shared_cpu_list", "3-5")
    topology, problems = read(tmp_path)
    assert not any(node.cpus == {3, 4, 5} for node in topology.machine.descendants())
    assert "L2 of cpus 3-5: left out, it cuts across the L3 of cpus 0-3" in problems
