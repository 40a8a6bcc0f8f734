"""Mounted disks: what they are, where they are mounted, how full they are."""

from __future__ import annotations

import os
import re
import threading

from msgspec import Struct

from damocles_worker.filesystem import Mount, parse_mount
from damocles_worker.hardware.blockdevices import BlockDevice, block_devices, disks_below
from damocles_worker.hardware.reader import Reader

#: File systems over the network, which have no block device here.
_NETWORK = re.compile(
    r"nfs4?|cifs|smb3|ceph|lustre|beegfs|gpfs|glusterfs|9p|virtiofs|fuse\.(?!snapfuse|lxcfs).+"
)
#: Images rather than disks.
_IMAGES = frozenset({"squashfs", "iso9660", "udf", "erofs"})
#: Mounts of the system itself; removable media are below /run/media.
_SYSTEM_MOUNTS = re.compile(r"/(sys|proc|run(?!/media))(/.*)?")
#: Seconds that a file system gets to tell its size: one whose server is gone never answers.
_ANSWER_TIME = 2.0


class Disk(Struct, frozen=True):
    """A mounted file system, or (``mount_point`` empty) a disk with nothing mounted from it."""

    #: ``SSD``, ``HDD``, ``network``, or ``-`` where the kernel doesn't say.
    type: str
    device: str
    mount_point: str
    file_system: str
    #: Bytes; None where they can't be known: another machine's tree, a server that doesn't answer.
    used: int | None
    total: int | None
    #: The disks below, for arrays and mapped devices too.
    disks: tuple[str, ...]


def read_disks(reader: Reader) -> list[Disk]:
    """Every mount of a disk or of a network file system, in the order of the mounts, then unused disks."""
    devices = block_devices(reader)
    by_number = {device.number: device for device in devices.values() if device.number}
    found, seen = [], set()
    text = reader.text("proc/self/mountinfo")
    if text is None:
        reader.problem("/proc/self/mountinfo: can't be read, what is mounted is unknown")
    for line in (text or "").splitlines():
        mount = parse_mount(line)
        if mount is None:
            reader.problem(f"/proc/self/mountinfo: {line[:60]!r} is not a mount")
            continue
        device = by_number.get(mount.number) or devices.get(mount.source.removeprefix("/dev/"))
        disk = _disk(reader, mount, device, devices)
        if disk is not None and disk.mount_point not in seen:
            seen.add(disk.mount_point)
            found.append(disk)
    return found + _unused(devices, found)


def _disk(
    reader: Reader, mount: Mount, device: BlockDevice | None, devices: dict[str, BlockDevice]
) -> Disk | None:
    """The mount as a disk; None for file systems of the kernel, images and containers' layers."""
    network = bool(_NETWORK.fullmatch(mount.file_system))
    known = device is not None or network or mount.file_system == "zfs"
    if not known or mount.file_system in _IMAGES or _SYSTEM_MOUNTS.fullmatch(mount.mount_point):
        return None
    if not network and not _is_directory(reader, mount.mount_point):
        return None
    below = disks_below(devices, device.name) if device else []
    used, total = _space(reader, mount.mount_point, device)
    if total == 0:
        return None
    return Disk(
        type="network" if network else _type(below),
        device=f"/dev/{device.name}" if device and not mount.source.startswith("/dev/") else mount.source,
        mount_point=mount.mount_point,
        file_system=mount.file_system,
        used=used,
        total=total,
        disks=tuple(disk.name for disk in below),
    )


def _type(disks: list[BlockDevice]) -> str:
    """One turning disk makes the whole a turning one."""
    kinds = {disk.rotational for disk in disks}
    if True in kinds:
        return "HDD"
    return "-" if None in kinds or not kinds else "SSD"


def _is_directory(reader: Reader, mount_point: str) -> bool:
    """In containers single files are mounted over others. Where it isn't known it is a directory."""
    return reader.answer(f"isdir {mount_point}", lambda: os.path.isdir(mount_point), True)  # noqa: PTH112


def _space(reader: Reader, mount_point: str, device: BlockDevice | None) -> tuple[int | None, int | None]:
    """Used and total bytes; used is what this user can't have, so reserved blocks count as used.

    Of another machine, if it was not recorded, the size of the device and nothing of its use.
    """
    not_recorded: list[int | None] = [None, device.size if device else None]
    found = reader.answer(f"space {mount_point}", lambda: _ask_space(reader, mount_point), not_recorded)
    if len(found) != 2 or not all(part is None or isinstance(part, int) for part in found):
        reader.problem(f"{mount_point}: the recorded space {found!r} is not two numbers")
        return None, None
    return found[0], found[1]


def _ask_space(reader: Reader, mount_point: str) -> list[int | None]:
    answer: list[os.statvfs_result] = []

    def ask() -> None:
        try:
            answer.append(os.statvfs(mount_point))
        except OSError as error:
            reader.problem(f"{mount_point}: {error.strerror}")

    asking = threading.Thread(target=ask, daemon=True)
    asking.start()
    asking.join(_ANSWER_TIME)
    if asking.is_alive():
        reader.problem(f"{mount_point}: the file system doesn't answer")
    if not answer:
        return [None, None]
    stat = answer[0]
    return [(stat.f_blocks - stat.f_bavail) * stat.f_frsize, stat.f_blocks * stat.f_frsize]


def _unused(devices: dict[str, BlockDevice], mounted: list[Disk]) -> list[Disk]:
    """Disks from which nothing is mounted and which are part of nothing mounted."""
    used = {name for disk in mounted for name in disk.disks}
    return [
        Disk(_type([device]), f"/dev/{device.name}", "", "", None, device.size, (device.name,))
        for device in devices.values()
        if not device.parts and device.size and device.name not in used
    ]
