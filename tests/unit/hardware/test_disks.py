"""Mounts and the disks below them."""

from __future__ import annotations

from pathlib import Path

from damocles_worker.hardware.disks import read_disks
from damocles_worker.hardware.reader import Reader
from tests.unit.hardware.machines import write


def add_disk(
    root: Path, name: str, number: str, *, rotational: int = 0, slaves: tuple[str, ...] = ()
) -> None:
    write(root, f"sys/block/{name}/dev", number)
    write(root, f"sys/block/{name}/size", "2097152")
    write(root, f"sys/block/{name}/queue/rotational", str(rotational))
    for slave in slaves:
        (root / f"sys/block/{name}/slaves/{slave}").mkdir(parents=True)


def found(root: Path, *mounts: str) -> list[tuple[str, str, str]]:
    write(root, "proc/self/mountinfo", "\n".join(f"{n} 1 {line}" for n, line in enumerate(mounts)))
    return [(disk.type, disk.device, disk.mount_point) for disk in read_disks(Reader(root))]


def test_unpartitioned_nvme_and_virtual_disks_are_named(tmp_path: Path) -> None:
    add_disk(tmp_path, "nvme0n1", "259:0")
    add_disk(tmp_path, "xvda", "202:0", rotational=1)
    assert found(
        tmp_path,
        "259:0 / /mnt/nvme rw - xfs /dev/nvme0n1 rw",
        "202:0 / /mnt/x rw - ext4 /dev/xvda rw",
    ) == [("SSD", "/dev/nvme0n1", "/mnt/nvme"), ("HDD", "/dev/xvda", "/mnt/x")]


def test_mapped_device_on_an_array_is_traced_to_its_disks(tmp_path: Path) -> None:
    add_disk(tmp_path, "sda", "8:0")
    add_disk(tmp_path, "sdb", "8:16", rotational=1)
    add_disk(tmp_path, "md0", "9:0", slaves=("sda", "sdb"))
    add_disk(tmp_path, "dm-0", "253:0", slaves=("md0",))
    line = "253:0 / /mnt/lv rw - xfs /dev/mapper/vg-lv rw"
    assert found(tmp_path, line) == [("HDD", "/dev/mapper/vg-lv", "/mnt/lv")]


def test_a_circle_of_slaves_ends(tmp_path: Path) -> None:
    add_disk(tmp_path, "dm-0", "253:0", slaves=("dm-1",))
    add_disk(tmp_path, "dm-1", "253:1", slaves=("dm-0",))
    assert found(tmp_path, "253:0 / /mnt rw - xfs /dev/dm-0 rw") == [("-", "/dev/dm-0", "/mnt")]


def test_btrfs_is_found_by_its_source_and_pseudo_file_systems_are_not_listed(tmp_path: Path) -> None:
    add_disk(tmp_path, "sda", "8:0")
    assert found(
        tmp_path,
        "0:44 /@ / rw - btrfs /dev/sda rw",
        "0:5 / /proc rw - proc proc rw",
        "0:60 / /tmp rw - tmpfs tmpfs rw",
        "0:61 / /var/lib/containers/x rw - overlay overlay rw,lowerdir=/a",
        "8:0 / /run/credentials rw - ext4 /dev/sda rw",
        "8:0 / /run/media/usb rw - ext4 /dev/sda rw",
    ) == [("SSD", "/dev/sda", "/"), ("SSD", "/dev/sda", "/run/media/usb")]


def test_network_file_systems_and_unused_disks_are_listed(tmp_path: Path) -> None:
    add_disk(tmp_path, "nvme1n1", "259:4")
    assert found(tmp_path, "0:50 / /mnt/r\\040x rw - nfs 10.0.0.2:/export rw") == [
        ("network", "10.0.0.2:/export", "/mnt/r x"),
        ("SSD", "/dev/nvme1n1", ""),
    ]
