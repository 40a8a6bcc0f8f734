"""Disks and their partitions from ``/sys/block``, arrays and mapped devices traced to real disks."""

from __future__ import annotations

import re

from msgspec import Struct

from damocles_worker.hardware.reader import Reader

_BLOCK = "sys/block"
_SECTOR = 512
#: Kernel devices that store nothing of their own.
_NOT_DISKS = re.compile(r"(loop|ram|zram|sr|fd|nbd)[0-9]+")


class BlockDevice(Struct, frozen=True):
    """A disk, a partition, an array or a mapped device; ``number`` is ``major:minor``, size in bytes."""

    name: str
    number: str
    size: int
    #: Turning discs below it, all or some; None if the kernel doesn't say.
    rotational: bool | None
    #: What it consists of: the disk of a partition, the members of an array; none for a disk.
    parts: tuple[str, ...]


def block_devices(reader: Reader) -> dict[str, BlockDevice]:
    """Devices by name, partitions included."""
    devices: dict[str, BlockDevice] = {}
    for name in reader.names(_BLOCK):
        if _NOT_DISKS.fullmatch(name):
            continue
        if reader.text(f"{_BLOCK}/{name}/size") is None:
            reader.problem(f"/{_BLOCK}/{name}: can't be read, what is mounted from it is not shown")
            continue
        members = tuple(reader.names(f"{_BLOCK}/{name}/slaves"))
        devices[name] = _device(reader, f"{_BLOCK}/{name}", name, members)
        for entry in reader.names(f"{_BLOCK}/{name}"):
            partition = f"{_BLOCK}/{name}/{entry}"
            if reader.text(f"{partition}/partition") is not None:
                devices[entry] = _device(reader, partition, entry, (name,))
    return devices


def _device(reader: Reader, path: str, name: str, parts: tuple[str, ...]) -> BlockDevice:
    rotational = reader.number(f"{path}/queue/rotational")
    return BlockDevice(
        name=name,
        number=reader.text(f"{path}/dev") or "",
        size=(reader.number(f"{path}/size") or 0) * _SECTOR,
        rotational=None if rotational is None else rotational != 0,
        parts=parts,
    )


def disks_below(devices: dict[str, BlockDevice], name: str) -> list[BlockDevice]:
    """The real disks that a device lies on, itself if it is one."""
    found: dict[str, BlockDevice] = {}
    pending, seen = [name], set()
    while pending:
        device = devices.get(pending.pop())
        if device is None or device.name in seen:
            continue
        seen.add(device.name)
        pending += device.parts
        if not device.parts:
            found[device.name] = device
    return [found[name] for name in sorted(found)]
