"""``hwinfo`` on recorded machines: the text, the JSON, and what it says of damaged trees."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest
from click.testing import CliRunner

from damocles_worker.cli.util import util
from tests.unit.hardware.machines import CPUS, MACHINES, record, smt, two_sockets, write

VECTORS = Path(__file__).parents[2] / "vectors/hardware"


def hwinfo(*arguments: str) -> str:
    result = CliRunner().invoke(util, ["hwinfo", *arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def test_the_tree_of_the_guides_machine_is_that_of_the_guide_to_the_character(tmp_path: Path) -> None:
    sample = (VECTORS / "guide_sample.txt").read_text()
    assert hwinfo("--fsroot", str(record(tmp_path, two_sockets()))).startswith(sample + "\n")


@pytest.mark.parametrize("name", MACHINES)
def test_recorded_machines(name: str, tmp_path: Path) -> None:
    record(tmp_path, MACHINES[name]())
    assert hwinfo("--fsroot", str(tmp_path)) == (VECTORS / f"{name}.txt").read_text()


@pytest.mark.parametrize("name", ["smt", "hybrid"])
def test_recorded_machines_in_full(name: str, tmp_path: Path) -> None:
    record(tmp_path, MACHINES[name]())
    assert hwinfo("--full", "--fsroot", str(tmp_path)) == (VECTORS / f"{name}.full.txt").read_text()


def test_json_has_the_kernels_numbers_and_bytes(tmp_path: Path) -> None:
    machine = json.loads(hwinfo("--json", "--fsroot", str(record(tmp_path, smt()))))
    package = machine["topology"]["machine"]["children"][0]
    assert package["memory"][0] == {
        "kind": "NUMANode",
        "index": 0,
        "os_index": 0,
        "bytes": 256 << 30,
        "cpus": "0-31",
    }
    assert [(cache["bytes"], cache["cpus"]) for cache in package["children"]] == [
        (32 << 20, "0-7,16-23"),
        (32 << 20, "8-15,24-31"),
    ]
    assert machine["processor"]["governors"] == {"performance": "0-31"}
    assert machine["locked_memory"] == {"soft": 8 << 20, "hard": None}
    assert machine["disks"][1]["disks"] == ["sda", "sdb"]
    assert machine["not_read"] == []


def test_every_missing_thing_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "sys").mkdir()
    output = hwinfo("--fsroot", str(tmp_path))
    lines = output.partition("Not read:\n")[2].splitlines()
    assert len(lines) == len(set(lines)) >= 6
    for thing in (
        "/proc/meminfo",
        "/proc/cpuinfo",
        "/proc/self/mountinfo",
        "Max open files",
        f"/{CPUS}",
        "node",
    ):
        assert any(thing in line for line in lines), thing
    assert "No Disk device detected" in output
    assert "No GPU device detected" in output


def test_any_file_may_hold_anything(tmp_path: Path) -> None:
    """Random files of a good tree are replaced by garbage: the command ends well and shows a tree."""
    dice = random.Random(7)
    garbage = ("", "-1", "999999999999999999999", "0-99999", "\x00\xff", "[]", "1\n2\n3", "x" * 5000)
    for number in range(25):
        root = record(tmp_path / str(number), MACHINES[dice.choice(list(MACHINES))]())
        files = [path for path in sorted(root.rglob("*")) if path.is_file()]
        for path in dice.sample(files, 8):
            path.write_text(dice.choice(garbage))
        assert hwinfo("--fsroot", str(root)).startswith("CPU topology:\nMachine"), number
        json.loads(hwinfo("--json", "--fsroot", str(root)))


def test_this_machine_can_be_read() -> None:
    machine = json.loads(hwinfo("--json"))
    assert machine["topology"]["machine"]["children"]
    assert machine["memory"]["total"] > machine["memory"]["used"] > 0
    assert not any(disk["mount_point"].startswith("/proc") for disk in machine["disks"])


def test_a_directory_of_the_tree_that_can_not_be_read_is_told(tmp_path: Path) -> None:
    record(tmp_path, two_sockets())
    (tmp_path / "proc/meminfo").unlink()
    (tmp_path / "proc/meminfo").mkdir()
    assert "/proc/meminfo: Is a directory" in hwinfo("--fsroot", str(tmp_path))
    write(tmp_path, "plain", "a file")
    result = CliRunner().invoke(util, ["hwinfo", "--fsroot", str(tmp_path / "plain")])
    assert result.exit_code == 2
