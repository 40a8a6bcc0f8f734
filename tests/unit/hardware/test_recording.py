"""``hwinfo --record``: what is read of the copy is what was read of the machine."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner
from msgspec import structs

from damocles_worker.cli.util import util
from damocles_worker.errors import WorkerError
from damocles_worker.hardware import cpus, disks, gpus
from damocles_worker.hardware.hwinfo import read_hardware
from damocles_worker.hardware.hwreport import report
from damocles_worker.hardware.nvml import NvidiaGpu
from damocles_worker.hardware.recording import record as record_machine
from damocles_worker.suggest.suggestion import suggest
from damocles_worker.suggest.wishes import Wishes
from tests.unit.hardware.machines import MACHINES, record
from tests.unit.hardware.providers import PROVIDERS, record_provider
from tests.unit.hardware.recorded import VECTORS, unpack


def test_the_copy_of_this_machine_says_what_the_machine_said(tmp_path: Path) -> None:
    hardware, _ = record_machine(tmp_path / "copy")
    replayed = read_hardware(tmp_path / "copy")
    # What could not be read is not in a copy, and so not missed there.
    assert structs.replace(replayed, not_read=[]) == structs.replace(hardware, not_read=[])
    assert report(replayed, full=True) == report(hardware, full=True)
    for function in (
        cpus.present_cpus,
        cpus.online_cpus,
        cpus.allowed_cpus,
        cpus.numa_nodes,
        cpus.l3_groups,
        cpus.core_of_cpu,
    ):
        assert function(tmp_path / "copy") == function()


@pytest.mark.parametrize("name", MACHINES)
def test_a_copy_of_a_copy_is_the_same_machine(tmp_path: Path, name: str) -> None:
    tree = record(tmp_path / "tree", MACHINES[name]())
    hardware, _ = record_machine(tmp_path / "copy", tree)
    assert read_hardware(tmp_path / "copy") == hardware
    assert cpus.l3_groups(tmp_path / "copy") == cpus.l3_groups(tree)


def test_a_copy_has_gpus_disks_and_arrays(tmp_path: Path) -> None:
    tree = record_provider(tmp_path / "tree", PROVIDERS["example_3"]())
    (tree / "sys/block/nvme2n1/slaves/nvme0n1").mkdir(parents=True)
    record_machine(tmp_path / "copy", tree)
    assert suggest(Wishes(), tmp_path / "copy") == suggest(Wishes(), tree)
    assert (tmp_path / "copy/sys/block/nvme2n1/slaves/nvme0n1").exists()


def test_what_drivers_and_system_calls_tell_is_in_the_copy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gpus, "nvidia_gpus", lambda: [NvidiaGpu("0000:3b:00.0", "RTX 3080", 10 << 30)])
    monkeypatch.setattr(disks, "_ask_space", lambda *_: [1, 2])
    record_machine(tmp_path / "copy")
    monkeypatch.undo()
    replayed = read_hardware(tmp_path / "copy")
    assert [(gpu.name, gpu.memory) for gpu in replayed.gpus] == [("RTX 3080", 10 << 30)]
    assert {(disk.used, disk.total) for disk in replayed.disks if disk.mount_point} <= {(1, 2)}


@pytest.mark.parametrize("text", ["", "[]", "nonsense", '{"nvidia gpus": [1], "space /": 7}'])
def test_a_damaged_file_of_answers_leaves_what_the_files_say(tmp_path: Path, text: str) -> None:
    tree = unpack(tmp_path, "kvm_guest")
    (tree / "answers.json").write_text(text)
    hardware = read_hardware(tree)
    assert hardware.memory is not None and hardware.gpus == []


def test_a_recorded_guest(tmp_path: Path) -> None:
    """Recorded on a virtual machine; of its mounts and its status only what matters is kept."""
    hardware = read_hardware(unpack(tmp_path, "kvm_guest"))
    assert hardware.not_read == []
    assert report(hardware, full=False) + "\n" == (VECTORS / "kvm_guest.txt").read_text()


def test_a_directory_with_something_in_it_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("x")
    with pytest.raises(WorkerError, match="is not empty"):
        record_machine(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


def test_the_command_records_and_shows(tmp_path: Path) -> None:
    tree = unpack(tmp_path / "tree", "kvm_guest")
    command = ["hwinfo", "--fsroot", str(tree), "--record", str(tmp_path / "copy")]
    result = CliRunner().invoke(util, command, catch_exceptions=False)
    assert result.exit_code == 0 and "files recorded" in result.stderr
    assert result.stdout == (VECTORS / "kvm_guest.txt").read_text()
