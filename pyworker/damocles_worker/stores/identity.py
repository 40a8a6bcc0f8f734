"""Which file system and which store lies in a directory, told by what stays the same over a remount.

Neither ``st_dev`` nor the device's name will do: a disk that is plugged in again, or a network store that
is mounted again, may get others, and the next disk the old ones. An open descriptor would tell, but
nobody could unmount the disk then. So it is what the medium itself says.
"""

from __future__ import annotations

import fcntl
import os
import uuid
from pathlib import Path

import msgspec
from msgspec import Struct

from damocles_worker.filesystem import mounted_at

STORE_FILE = "sectorstore.json"

#: Types whose ``f_fsid`` comes from what was written at their creation. Of others, xfs too, it is the
#: number of the device, made up at each mount, or zero.
_LASTING_FSID = frozenset({"ext2", "ext3", "ext4", "btrfs", "zfs"})
#: Types whose source, ``server:/export`` or ``//server/share``, names the store and no device.
_BY_SOURCE = frozenset({"nfs", "nfs4", "cifs", "smb3"})
#: XFS_IOC_FSGEOMETRY_V1 (xfs_fs.h): fills in 112 bytes, the UUID at offset 64; asks for no privilege.
_XFS_GEOMETRY, _XFS_GEOMETRY_BYTES, _XFS_UUID = 0x80705864, 112, slice(64, 80)


class StoreFile(Struct, frozen=True):
    """The keys of ``sectorstore.json`` that the worker reads."""

    id: str | None = msgspec.field(name="ID", default=None)
    name: str | None = msgspec.field(name="Name", default=None)
    readonly: bool | None = msgspec.field(name="ReadOnly", default=None)


class Identity(Struct, frozen=True):
    """What is known of the file system and the store in a directory; None: it has no such mark."""

    #: The UUID of a local file system, or the number made of it.
    file_system: str | None
    #: ID and name in sectorstore.json.
    store_file: str | None
    #: Where a network file system comes from.
    source: str | None

    def changed(self, now: Identity) -> str | None:
        """What tells that ``now``, found later, is something else; None when nothing does.

        The surest mark that there was decides alone. A sectorstore.json may be edited on the disk
        where it lies, and a server may get another address and still have the store on it.
        """
        marks = (
            ("file system", self.file_system, now.file_system),
            (f"store in {STORE_FILE}", self.store_file, now.store_file),
            ("network file system", self.source, now.source),
        )
        for what, before, found in marks:
            if before is not None:
                return None if found == before else f"{what} {found or 'unknown'}, expected {before}"
        return None


def identity_of(root: Path, mount: Path) -> Identity:
    """The marks of the store in ``root``, below the mount point ``mount``; blocks.

    ext2 to ext4, btrfs, zfs and xfs have one of their own, NFS and SMB their source. Where there is none,
    as with tmpfs, overlays and what FUSE mounts, only sectorstore.json tells two stores apart, and
    without that file nothing does. Copies of a disk, byte by byte, are the same.

    Raises ``OSError`` when a file system doesn't answer; a sectorstore.json that says nothing, or can't be
    read by this user, is no mark.
    """
    found = mounted_at(mount)
    kind = found.file_system if found else ""
    return Identity(
        file_system=_file_system(root, kind),
        store_file=_store_file(root / STORE_FILE),
        source=found.source if found and kind in _BY_SOURCE else None,
    )


def _file_system(root: Path, kind: str) -> str | None:
    if kind in _LASTING_FSID:
        number = os.statvfs(root).f_fsid
        return f"{number:016x}" if number else None
    return _xfs_uuid(root) if kind == "xfs" else None


def _xfs_uuid(root: Path) -> str | None:
    try:
        descriptor = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except PermissionError:
        return None  # A directory may be written to and not be read.
    try:
        geometry = bytearray(_XFS_GEOMETRY_BYTES)
        fcntl.ioctl(descriptor, _XFS_GEOMETRY, geometry)
    finally:
        os.close(descriptor)
    return str(uuid.UUID(bytes=bytes(geometry[_XFS_UUID])))


def other_name(root: Path, name: str) -> str | None:
    """The name that the store in ``root`` has in its sectorstore.json, if it has one and it isn't ``name``.

    Raises ``OSError`` as :func:`identity_of`.
    """
    written = _description(root / STORE_FILE).name
    return written if written and written != name else None


def _store_file(file: Path) -> str | None:
    description = _description(file)
    return ", ".join(repr(part) for part in (description.id, description.name) if part) or None


def _description(file: Path) -> StoreFile:
    try:
        return msgspec.json.decode(file.read_bytes(), type=StoreFile)
    except (FileNotFoundError, PermissionError, IsADirectoryError, msgspec.DecodeError):
        return StoreFile()
