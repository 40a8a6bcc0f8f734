"""``damocles-worker-util hugepages``: what PC1 takes of each node, and the commands that provide it."""

from __future__ import annotations

import fcntl
import threading
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from damocles_worker.cli.util import util
from damocles_worker.hardware.hugepages import (
    GIB_PAGE,
    MIB2_PAGE,
    HugePages,
    free_label_files,
    page_needs,
    pages_per_sector,
    spread,
)
from damocles_worker.sectors import SECTOR_SIZES
from tests.unit.hardware.machines import MACHINES, NODES, record, write


def hugepages(tree: Path, *arguments: str) -> Result:
    return CliRunner().invoke(util, ["hugepages", "--fsroot", str(tree), *arguments], catch_exceptions=False)


def test_two_label_buffers_in_pages_of_each_size() -> None:
    taken = {
        size: (pages_per_sector(number, GIB_PAGE), pages_per_sector(number, MIB2_PAGE))
        for size, number in SECTOR_SIZES.items()
    }
    assert taken == {
        "2KiB": (0, 0),
        "8MiB": (0, 8),
        "512MiB": (0, 512),
        "32GiB": (64, 32768),
        "64GiB": (128, 65536),
    }


def test_sectors_are_spread_evenly_and_the_first_nodes_take_the_rest() -> None:
    assert spread(5, [0, 1]) == {0: 3, 1: 2}
    assert spread(1, [0, 8]) == {0: 1, 8: 0}


def test_a_command_keeps_the_pages_that_are_in_use() -> None:
    need = page_needs([HugePages(1, GIB_PAGE, total=64, free=12)], {1: 2}, SECTOR_SIZES["32GiB"])[0]
    assert (need.needed, need.missing) == (128, 116)
    assert (
        need.command == "echo 180 > /sys/devices/system/node/node1/hugepages/hugepages-1048576kB/nr_hugepages"
    )


def test_every_node_has_its_share_with_commands(tmp_path: Path) -> None:
    result = hugepages(record(tmp_path, MACHINES["two_sockets"]()), "-n", "3")
    assert result.exit_code == 1
    rows = {tuple(line.split()[:3]): line.split() for line in result.output.splitlines() if "iB" in line}
    assert rows["0", "1", "GiB"][3:7] == ["64", "12", "128", "116"]
    assert rows["1", "1", "GiB"][3:7] == ["64", "12", "64", "52"]
    assert rows["0", "2", "MiB"][3:7] == ["0", "0", "65536", "65536"]
    assert "echo 116 > /sys/devices/system/node/node1/hugepages/hugepages-1048576kB" in result.output
    assert "hugepagesz=1024M hugepages=0:180,1:116" in result.output


def test_a_node_without_the_memory_for_it_is_named(tmp_path: Path) -> None:
    text = hugepages(record(tmp_path, MACHINES["two_sockets"]()), "-n", "8").output
    assert "Node 0 has 251.57 GiB of memory and would need 308 GiB" in text


def test_enough_pages_of_either_size_are_enough(tmp_path: Path) -> None:
    tree = record(tmp_path, MACHINES["sub_numa"]())
    for node in (0, 1):
        for count in ("nr_hugepages", "free_hugepages"):
            write(tree, f"{NODES}/node{node}/hugepages/hugepages-2048kB/{count}", "512")
    result = hugepages(tree, "-n", "2", "-s", "512MiB")
    assert result.exit_code == 0 and "Enough on every node" in result.output


def test_nodes_of_memory_only_get_no_sectors(tmp_path: Path) -> None:
    text = hugepages(record(tmp_path, MACHINES["memory_only"]()), "-n", "2").output
    assert "node2/hugepages" not in text and "node1/hugepages" in text


def test_tiny_sectors_need_none(tmp_path: Path) -> None:
    result = hugepages(record(tmp_path, MACHINES["smt"]()), "-s", "2KiB")
    assert result.exit_code == 0
    assert "takes no huge pages" in result.output


def test_a_tree_without_nodes_says_what_is_missing(tmp_path: Path) -> None:
    result = hugepages(tmp_path, "-n", "1")
    assert result.exit_code == 1
    assert "there are no nodes in it" in result.stderr


def label_files(tree: Path, *counts: int) -> None:
    """So many sparse files of 512 MiB on each node, as store hugepage-file-init names them."""
    for node, count in enumerate(counts):
        directory = tree / f"huge/numa_{node}"
        directory.mkdir(parents=True)
        for number in range(count):
            with (directory / f"512.0_MiB_{number}").open("wb") as file:
                file.truncate(SECTOR_SIZES["512MiB"])


def test_pages_that_were_made_into_files_are_not_asked_for_again(tmp_path: Path) -> None:
    """The recipe of the deployment guide leaves no page free: they are all in the files."""
    tree = record(tmp_path, MACHINES["sub_numa"]())
    label_files(tree, 2, 2)
    arguments = ("-n", "2", "-s", "512MiB")
    assert hugepages(tree, *arguments).exit_code == 1
    for where in (
        ("--files-path", f"{tree}/huge/"),
        ("--files-path-pattern", f"{tree}/huge/numa_$NUMA_NODE_INDEX"),
    ):
        result = hugepages(tree, *arguments, *where)
        assert result.exit_code == 0, result.output
        assert "Node 0 has 2 free files of 512 MiB" in result.output
        assert "Enough on every node" in result.output


def test_files_in_use_and_of_other_sizes_do_not_count(tmp_path: Path) -> None:
    tree = record(tmp_path, MACHINES["sub_numa"]())
    label_files(tree, 2, 2)
    with (tree / "huge/numa_1/512.0_MiB_1").open("ab") as used:
        fcntl.flock(used, fcntl.LOCK_EX)
        result = hugepages(tree, "-n", "2", "-s", "512MiB", "--files-path", f"{tree}/huge")
    assert result.exit_code == 1
    rows = {tuple(line.split()[:3]): line.split() for line in result.output.splitlines() if "MiB" in line}
    assert rows["0", "2", "MiB"][5] == "0" and rows["1", "2", "MiB"][5] == "256"
    assert hugepages(tree, "-n", "1", "-s", "32GiB", "--files-path", f"{tree}/huge").exit_code == 1


def test_pc1_gets_its_file_at_any_moment_while_files_are_counted(tmp_path: Path) -> None:
    """Each file was locked for a moment to see whether that works: PC1 at that moment passed over it."""
    label_files(tmp_path, 1)
    counted = threading.Event()

    def count() -> None:
        for _ in range(2000):
            free_label_files(f"{tmp_path}/huge/numa_$NUMA_NODE_INDEX", SECTOR_SIZES["512MiB"])
        counted.set()

    counting = threading.Thread(target=count)
    counting.start()
    refused = 0
    with (tmp_path / "huge/numa_0/512.0_MiB_0").open("rb") as pc1:
        while not counted.is_set():
            try:
                fcntl.flock(pc1, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                refused += 1
            else:
                fcntl.flock(pc1, fcntl.LOCK_UN)
    counting.join()
    assert refused == 0


def test_a_pattern_without_the_nodes_number_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"expected \$NUMA_NODE_INDEX"):
        free_label_files(f"{tmp_path}/huge", 1)
