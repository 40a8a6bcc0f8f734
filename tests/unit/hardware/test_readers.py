"""Cpus, memory and limits, read from recorded trees."""

from __future__ import annotations

from pathlib import Path

from damocles_worker.hardware import cpus
from damocles_worker.hardware.hugepages import GIB_PAGE, HugePages, read_huge_pages
from damocles_worker.hardware.limits import LOCKED_MEMORY, OPEN_FILES, Limit, read_limit
from damocles_worker.hardware.memoryuse import read_memory_use
from damocles_worker.hardware.reader import Reader
from tests.unit.hardware.trees import machine


def test_cpus_nodes_and_caches_of_a_machine(tmp_path: Path) -> None:
    root = machine(
        tmp_path,
        nodes=["0-3,8-11", "4-7,12-15"],
        l3=["0-1,8-9", "2-3,10-11", "4-7,12-15"],
        threads=["0,8", "1,9"],
        online="0-14",
        allowed="0-3",
    )
    assert cpus.present_cpus(root) == set(range(16))
    assert cpus.online_cpus(root) == set(range(15))
    assert cpus.allowed_cpus(root) == {0, 1, 2, 3}
    assert cpus.numa_nodes(root) == {0: {0, 1, 2, 3, 8, 9, 10, 11}, 1: {4, 5, 6, 7, 12, 13, 14, 15}}
    assert cpus.l3_groups(root) == [{0, 1, 8, 9}, {2, 3, 10, 11}, {4, 5, 6, 7, 12, 13, 14, 15}]
    cores = cpus.core_of_cpu(root)
    assert (cores[8], cores[9], cores[10]) == (0, 1, 10)


def test_memory_huge_pages_and_limits_of_a_machine(tmp_path: Path) -> None:
    root = machine(tmp_path, nodes=["0", "1"], l3=[], huge_pages=8, memory=4 << 30, files="1024")
    reader = Reader(root)
    use = read_memory_use(reader)
    assert use is not None and use.total == 4 << 30
    assert read_huge_pages(reader) == [
        HugePages(node=node, page_size=GIB_PAGE, total=8, free=4) for node in (0, 1)
    ]
    assert read_limit(reader, OPEN_FILES) == Limit(1024, 1024)
    assert read_limit(reader, LOCKED_MEMORY) == Limit(8388608, None)
    assert reader.problems == []


def test_a_tree_without_these_files_gives_empty_answers(tmp_path: Path) -> None:
    assert cpus.present_cpus(tmp_path) == cpus.online_cpus(tmp_path) == cpus.allowed_cpus(tmp_path) == set()
    assert cpus.numa_nodes(tmp_path) == {}
    assert cpus.l3_groups(tmp_path) == []
    reader = Reader(tmp_path)
    assert read_memory_use(reader) is None
    assert read_huge_pages(reader) == []
    assert read_limit(reader, OPEN_FILES) is None


def test_this_machine_can_be_read() -> None:
    assert cpus.allowed_cpus() <= cpus.online_cpus() <= cpus.present_cpus()
    reader = Reader(Path("/"))
    use = read_memory_use(reader)
    assert use is not None and use.total > 0
    assert read_limit(reader, OPEN_FILES) is not None
