"""File-system helpers shared by the journal and the stores: durable directories, space, clear errors."""

from __future__ import annotations

import errno
import os
import re
import stat
from pathlib import Path

from msgspec import Struct

from damocles_worker.errors import Level, WorkerError
from damocles_worker.units import format_size

#: The file system is full, or the quota of this user is.
NO_SPACE = frozenset({errno.ENOSPC, errno.EDQUOT})
#: The file system went away under us: network store gone, device pulled, mount torn down.
GONE = frozenset({errno.ESTALE, errno.ENOTCONN, errno.EHOSTDOWN, errno.ENODEV, errno.ENXIO, errno.ENOMEDIUM})

#: What is to be mounted where.
FSTAB = Path("/etc/fstab")
#: What is mounted for this process (proc(5)).
MOUNTINFO = Path("/proc/self/mountinfo")
#: A space, tab, newline or backslash in a field of fstab (getmntent(3)) or mountinfo.
_OCTAL = re.compile(r"\\([0-7]{3})")


def mount_point(path: Path) -> Path:
    """The mount point that ``path`` lies under (``/`` at the least); ``path`` need not exist."""
    current = path.resolve()
    while not os.path.ismount(current) and current != current.parent:
        current = current.parent
    return current


def missing_mount(path: Path, fstab: Path | None = None) -> Path | None:
    """The mount point of ``fstab`` (None: the host's) that ``path`` should lie under, if nothing is mounted
    there; the innermost one. ``path`` is absolute and need not exist."""
    try:
        lines = (fstab or FSTAB).read_text(errors="surrogateescape").splitlines()
    except OSError:
        return None
    fields = [line.split() for line in lines if not line.lstrip().startswith("#")]
    named = {Path(_unescaped(field[1])) for field in fields if field[1:]}
    around = max(named & {path, *path.parents}, key=lambda mount: len(mount.parts), default=None)
    return around if around is not None and not os.path.ismount(around) else None


class Mount(Struct, frozen=True):
    """A line of mountinfo: device number ``major:minor``, where it is mounted, file system type, source."""

    number: str
    mount_point: str
    file_system: str
    source: str


def parse_mount(line: str) -> Mount | None:
    """A line of mountinfo (proc(5)): ``36 35 98:0 / /mount options [optional…] - type source …``."""
    left, separator, right = line.partition(" - ")
    fields, tail = left.split(), right.split()
    if not separator or len(fields) < 6 or len(tail) < 2:
        return None
    return Mount(fields[2], _unescaped(fields[4]), tail[0], _unescaped(tail[1]))


def mounted_at(mount: Path) -> Mount | None:
    """What is mounted at the mount point ``mount``, the uppermost; None where that can't be known."""
    try:
        lines = MOUNTINFO.read_text(errors="surrogateescape").splitlines()
    except OSError:
        return None
    # What was mounted over something else comes after it.
    for line in reversed(lines):
        found = parse_mount(line)
        if found is not None and found.mount_point == str(mount):
            return found
    return None


def _unescaped(text: str) -> str:
    """mountinfo and fstab write space, tab, newline and backslash as octal numbers."""
    return _OCTAL.sub(lambda found: chr(int(found[1], 8)), text)


def free_bytes(path: Path) -> int:
    """Bytes an unprivileged process may still write on the file system of ``path``."""
    stat = os.statvfs(path)
    return stat.f_bavail * stat.f_frsize


def is_read_only(path: Path) -> bool:
    """Whether the file system of ``path`` is mounted read-only."""
    return bool(os.statvfs(path).f_flag & os.ST_RDONLY)


def disk_usage(directory: Path) -> int:
    """Bytes allocated on disk beneath ``directory``: holes don't count, links are not followed.

    A directory that is missing counts zero; entries that vanish meanwhile are passed over.
    """
    total = 0
    for parent, _, files in os.walk(directory):
        for name in files:
            try:
                total += (Path(parent) / name).lstat().st_blocks * 512
            except FileNotFoundError:
                continue
    return total


def fsync_directory(directory: Path) -> None:
    """Make the names in ``directory`` durable.

    Some network file systems answer EINVAL to fsync of a directory because their renames are
    synchronous on the server; that is no failure.
    """
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
    finally:
        os.close(descriptor)


def make_directory(directory: Path) -> None:
    """Create one directory durably; one that exists is left alone. Parents are not created."""
    try:
        directory.mkdir()
    except FileExistsError:
        if not directory.is_dir():
            raise
        return
    fsync_directory(directory.parent)


def make_directories(directory: Path) -> None:
    """Create one directory durably, with the parents that are missing."""
    if not directory.is_dir():
        make_directories(directory.parent)
        make_directory(directory)


def make_durable(file: Path, root: Path) -> None:
    """Make a file durable that somebody else has put below ``root``, and every name on its path from there.

    Of a symbolic link it is the link. Raises :class:`WorkerError`.
    """
    try:
        if not file.is_symlink():
            _fsync_file(file)
        for directory in file.parents:
            fsync_directory(directory)
            if directory == root:
                break
    except OSError as error:
        raise file_error(error, "make durable", file) from error


def make_tree_durable(root: Path) -> None:
    """Make every regular file below ``root`` durable, and every name there; links are not followed.

    Raises :class:`WorkerError`.
    """
    try:
        # The names of a directory are durable only after what they name.
        for directory, _, names in os.walk(root, topdown=False, onerror=_raise):
            for name in names:
                file = Path(directory) / name
                if stat.S_ISREG(file.lstat().st_mode):
                    _fsync_file(file)
            fsync_directory(Path(directory))
    except OSError as error:
        raise file_error(error, "make durable what is in", root) from error


def _raise(error: OSError) -> None:
    raise error


def _fsync_file(file: Path) -> None:
    descriptor = os.open(file, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def file_error(
    error: OSError,
    action: str,
    path: Path,
    *,
    needed: int | None = None,
    level: Level = Level.PERMANENT,
) -> WorkerError:
    """Turn the ``OSError`` met while doing ``action`` to ``path`` into an error for the operator.

    ``action`` is a verb phrase that reads before the path: ``write``, ``create``. ``needed`` is the
    number of bytes that had to fit, for the no-space message.
    """
    where = mount_point(path)
    what = f"can't {action} {path}"
    number = error.errno
    if number in NO_SPACE:
        return no_space(what, where, needed=needed, quota=number == errno.EDQUOT, level=level)
    if number == errno.EROFS:
        return WorkerError(
            f"{what}: the file system {where} is mounted read-only",
            level=level,
            next_step=f"Look at dmesg for a disk error, then remount {where} read-write",
            waits_for=f"{where} to be writable again",
        )
    if number in GONE:
        return WorkerError(
            f"{what}: the file system {where} is gone ({os.strerror(number or 0)})",
            level=level,
            next_step="Mount it again; the task goes on by itself",
            waits_for=f"the file system of {path} to be mounted again",
        )
    if number in (errno.EACCES, errno.EPERM):
        return WorkerError(
            f"{what}: permission denied for user id {os.geteuid()}",
            level=level,
            next_step="Give the worker's user read and write permission there",
        )
    if number == errno.EIO:
        return WorkerError(
            f"{what}: the medium reported an input/output error",
            level=level,
            next_step=f"Look at dmesg and the health of the disk behind {where} before going on",
        )
    if number in (errno.EMFILE, errno.ENFILE):
        return WorkerError(
            f"{what}: too many open files",
            level=level,
            next_step="Raise the limit (LimitNOFILE= in the systemd unit, or ulimit -n)",
        )
    if number == errno.ENOENT:
        return WorkerError(f"{what}: it doesn't exist", level=level, next_step="Look who removed it")
    text = os.strerror(number) if number is not None else str(error)
    return WorkerError(f"{what}: {text}", level=level, next_step=f"Look at {path} and at dmesg")


def no_space(
    what: str,
    where: Path,
    *,
    needed: int | None = None,
    quota: bool = False,
    level: Level = Level.PERMANENT,
) -> WorkerError:
    """The no-space error: ``what`` failed on the file system mounted at ``where``."""
    need = f"{format_size(needed)} needed, " if needed is not None else ""
    try:
        left = f"{format_size(free_bytes(where))} free"
    except OSError:
        left = "free space unknown"
    limit = "the quota of this user is used up" if quota else "no space left"
    return WorkerError(
        f"{what}: {limit} on {where} ({need}{left})",
        level=level,
        next_step=f"Free space on {where}; the task goes on by itself",
        waits_for=f"space on {where}",
    )
