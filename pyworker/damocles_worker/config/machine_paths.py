"""Directories, files and programs that a configuration names: are they there, and fit for their use?"""

from __future__ import annotations

import contextlib
import os
import pwd
import re
import shlex
import shutil
from collections.abc import Mapping
from pathlib import Path

from damocles_worker.config.crosscheck import check_writable, processors_of
from damocles_worker.config.findings import Report
from damocles_worker.config.schema import sector_size_of
from damocles_worker.config.settings import Attached, Settings
from damocles_worker.config.values import RefusedError
from damocles_worker.hardware.hugepages import read_huge_pages
from damocles_worker.hardware.reader import Reader
from damocles_worker.processors.spec import HUGE_PAGE_VARIABLES
from damocles_worker.sectors import SECTOR_SIZES, TREE_D_FILE, size_name
from damocles_worker.stores.attached import scan
from damocles_worker.stores.identity import STORE_FILE, other_name
from damocles_worker.units import format_size

_START = (1, 1)
_NODE_BYTES = 32


def check(settings: Settings, reader: Reader, environ: Mapping[str, str], report: Report) -> None:
    """Report every path of the configuration that can't be used as it is meant."""
    _check_sealing_stores(settings, report)
    _check_attached_stores(settings, report)
    _check_scanned_stores(settings, report)
    _check_piece_directories(settings, report)
    _check_static_trees(settings, report)
    _check_programs(settings, environ, report)
    _check_huge_page_files(settings, reader, report)


def tree_d_bytes(size: int) -> int:
    """Bytes of the tree_d of a sector: a binary tree of 32-byte nodes over size/32 leaves."""
    return (2 * (size // _NODE_BYTES) - 1) * _NODE_BYTES


def _check_sealing_stores(settings: Settings, report: Report) -> None:
    seen: dict[str, tuple[str, str]] = {}
    sizes = [size for thread in settings.threads for size in thread.sealing.allowed_sizes or ()]
    smallest = min(sizes, default=min(SECTOR_SIZES.values()))
    for thread in settings.threads:
        if thread.location is None:
            continue
        path = f"sealing_thread[{thread.index}].location"
        position = settings.positions.get(path, _START)
        real = os.path.realpath(thread.location)
        lexical = os.path.abspath(thread.location)  # noqa: PTH100
        first, first_lexical = seen.setdefault(real, (path, lexical))
        # The same text twice is a finding of the file already.
        if first != path and first_lexical != lexical:
            report.error(
                path,
                position,
                f'"{thread.location}" is {real}, the store of {first} already: a store serves one thread',
                "give each thread a directory of its own",
            )
            continue
        problem = _problem_of_new_store(Path(thread.location))
        if problem is not None:
            report.error(path, position, *problem)
            continue
        free = _free_bytes(thread.location)
        if free < 2 * smallest:
            message = f'the file system of "{thread.location}" is full: {format_size(free)} free'
            report.warning(path, position, message, "free space there; until then no sector is accepted")


def _problem_of_new_store(directory: Path) -> tuple[str, str] | None:
    """What keeps a sealing store from being opened or made there: message and next step."""
    if _exists(directory):
        problem = _problem_of_directory(directory, writable=True)
        if problem is None and (directory / "meta" / "CURRENT").exists():
            return (
                f'"{directory}" is a store of the Rust worker (it has meta/CURRENT)',
                f"finish its sectors with that worker, then run: damocles-worker store adopt {directory}",
            )
        return problem
    parent = directory.absolute().parent
    if not _exists(parent):
        return (
            f'"{directory}" does not exist, and neither does the directory it would be made in, "{parent}"',
            f"mount the disk, or run: mkdir -p {parent}",
        )
    problem = _problem_of_directory(parent, writable=True)
    return problem and (f'"{directory}" does not exist and can\'t be made: {problem[0]}', problem[1])


def _check_attached_stores(settings: Settings, report: Report) -> None:
    stores = {os.path.realpath(t.location): t.index for t in settings.threads if t.location is not None}
    seen: dict[str, str] = {}
    for store in settings.attached:
        path = f"{store.path}.location"
        position = settings.positions.get(path, _START)
        directory = Path(store.location)
        if not _exists(directory):
            message = f'"{directory}" does not exist'
            report.error(path, position, message, f"mount the store, or run: mkdir -p {directory}")
            continue
        problem = _problem_of_directory(directory, writable=not store.readonly)
        if problem is not None:
            hint = "" if store.readonly else "; or write readonly = true if it is only to be read"
            report.error(path, position, problem[0], problem[1] + hint)
        _check_name(store, settings, report)
        real = os.path.realpath(directory)
        first = seen.setdefault(real, store.name)
        if first != store.name:
            message = f'"{store.location}" is {real}, the directory of the store "{first}" too'
            report.warning(path, position, message, "write it once")
        for sealing, thread in stores.items():
            if real == sealing or Path(real).is_relative_to(Path(sealing, "data")):
                report.error(
                    path,
                    position,
                    f'"{store.location}" lies in the sealing store of sealing_thread[{thread}], whose data '
                    "are deleted after every sector",
                    "use a directory outside of all sealing stores",
                )


def _check_name(store: Attached, settings: Settings, report: Report) -> None:
    """Two exchanged names are both known to the manager, which would look on the other's disk."""
    try:
        written = other_name(Path(store.location), store.name)
    except OSError:
        return  # Whether it can be looked at is another remark.
    if written:
        named = f"{store.path}.name"
        path = named if named in settings.positions else f"{store.path}.location"
        report.warning(
            path,
            settings.positions.get(path, _START),
            f'"{store.location}" is named "{store.name}" here and "{written}" in its {STORE_FILE}',
            "write the name in both places that the manager's Common.PersistStores has for it",
        )


def _check_scanned_stores(settings: Settings, report: Report) -> None:
    """What ``scan_persist_stores`` finds now is what the daemon would attach."""
    patterns = settings.worker.scan_persist_stores
    found = {pattern: scan(pattern) for pattern in patterns}
    scanned = [
        Attached(name or str(directory), str(directory), readonly)
        for stores, _ in found.values()
        for name, directory, readonly in stores
    ]
    for index, (pattern, (stores, errors)) in enumerate(found.items()):
        path = f"worker.scan_persist_stores[{index}]"
        position = settings.positions.get(path, _START)
        for error in errors:
            report.error(path, position, error.cause, error.next_step)
        if stores or errors:
            continue
        message = f'"{pattern}" matches no directory with a {STORE_FILE}'
        next_step = f"mount the stores, or write a {STORE_FILE} into each"
        if settings.attached or scanned:
            report.warning(path, position, message, next_step)
        else:
            report.error(path, position, f"{message}: no store is attached, and nothing starts", next_step)
    if scanned:
        check_writable(settings, [*settings.attached, *scanned], report)


def _check_piece_directories(settings: Settings, report: Report) -> None:
    for index, location in enumerate(settings.worker.local_pieces_dirs):
        path = f"worker.local_pieces_dirs[{index}]"
        if path not in settings.positions:
            path = "worker.local_pieces_dir"
        problem = _problem_of_directory(Path(location), writable=False)
        if problem is not None:
            message = f"{problem[0]}; pieces are downloaded from the manager instead"
            report.warning(path, settings.positions.get(path, _START), message, problem[1])


def _check_static_trees(settings: Settings, report: Report) -> None:
    for size, location in settings.processors.static_tree_d.items():
        path = _place_of_tree(settings, size)
        position = settings.positions.get(path, _START)
        make = f"make it: damocles-worker generator tree-d -s {size_name(size)} -p {Path(location).parent}"
        try:
            found = os.stat(location).st_size  # noqa: PTH116
        except OSError as error:
            report.error(path, position, f'"{location}" can\'t be used: {error.strerror}', make)
            continue
        if not os.path.isfile(location):  # noqa: PTH113
            next_step = f"write the file, {Path(location) / TREE_D_FILE}"
            report.error(path, position, f'"{location}" is not a file', next_step)
        elif found != tree_d_bytes(size):
            expected = f"the tree_d of a {size_name(size)} sector has {tree_d_bytes(size)}"
            report.error(path, position, f'"{location}" has {found} bytes; {expected}', make)


def _place_of_tree(settings: Settings, size: int) -> str:
    """The TOML path of the static tree_d of a sector size, whose key may be spelled in several ways."""
    table = "processors.static_tree_d"
    for path in settings.positions:
        if path.startswith(f"{table}."):
            try:
                if sector_size_of(path.removeprefix(f"{table}.").strip('"')) == size:
                    return path
            except RefusedError:
                continue
    return table


def _check_programs(settings: Settings, environ: Mapping[str, str], report: Report) -> None:
    for path, _, processor in processors_of(settings):
        if processor.bin is None:
            continue
        position = settings.positions.get(f"{path}.bin", _START)
        inherited = environ if processor.inherit_envs else {}
        search = {**inherited, **processor.envs}.get("PATH", os.defpath)
        if shutil.which(processor.bin, path=search) is not None:
            continue
        if os.path.isfile(processor.bin):  # noqa: PTH113
            message, next_step = f'"{processor.bin}" is not executable', f"run: chmod +x {processor.bin}"
        else:
            message = f'the program "{processor.bin}" does not exist'
            next_step = "install it, or write the path of the installed one"
        report.error(f"{path}.bin", position, message, next_step)


def _check_huge_page_files(settings: Settings, reader: Reader, report: Report) -> None:
    reserved = sum(pool.total * pool.page_size for pool in read_huge_pages(reader))
    state = (
        f"{format_size(reserved)} of huge pages are reserved" if reserved else "no huge pages are reserved"
    )
    for path, stage, processor in processors_of(settings):
        for variable in HUGE_PAGE_VARIABLES:
            location = processor.envs.get(variable)
            if stage != "pc1" or not location:
                continue
            files = _huge_page_files(location, pattern=variable.endswith("PATTERN"))
            if any(usable for _, usable in files):
                continue
            if files:
                message, next_step = _not_for_this_user([file for file, _ in files])
            else:
                message = f'there are no huge-page files in "{location}" ({state}): PC1 takes ordinary memory'
                next_step = (
                    "reserve huge pages and mount hugetlbfs, then run: damocles-worker store"
                    " hugepage-file-init"
                )
            place = f"{path}.envs.{variable}"
            report.warning(place, settings.positions.get(place, _START), message, next_step)


def _not_for_this_user(files: list[Path]) -> tuple[str, str]:
    """Files that were made by root, for a worker that is another user: message and next step."""
    user = str(os.geteuid())
    with contextlib.suppress(KeyError):
        user = pwd.getpwuid(os.geteuid()).pw_name
    owned = sorted({str(file if file.is_dir() else file.parent) for file in files})
    return (
        f'the user {user} has no access to the huge-page files ("{files[0]}"): PC1 takes ordinary memory',
        f"if the worker runs as {user}, run as root: chown -R {user}: {shlex.join(owned)}; else run this"
        " check as the worker's user",
    )


def _huge_page_files(location: str, *, pattern: bool) -> list[tuple[Path, bool]]:
    """Files in the directories of the per-node pattern, and whether this user may use them.

    A directory that this user can't look into stands for its files.
    """
    full = location if pattern else f"{location.rstrip('/')}/numa_$NUMA_NODE_INDEX"
    head, _, tail = full.rstrip("/").partition("$NUMA_NODE_INDEX")
    expression = re.compile(f"{re.escape(head)}[0-9]+{re.escape(tail)}")
    parent = Path(head).parent if not head.endswith("/") else Path(head)
    try:
        directories = [
            Path(f"{entry}{tail}") for entry in parent.iterdir() if expression.fullmatch(f"{entry}{tail}")
        ]
    except OSError:
        return []
    found: list[tuple[Path, bool]] = []
    for directory in directories:
        try:
            files = [entry for entry in directory.iterdir() if entry.is_file()]
        except PermissionError:
            found.append((directory, False))
        except OSError:
            continue
        else:
            found += [(file, os.access(file, os.R_OK | os.W_OK)) for file in files]
    return found


def _exists(path: Path) -> bool:
    """Whether there is such a path; one that can't be looked at counts as existing."""
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError:
        return True
    return True


def _problem_of_directory(path: Path, *, writable: bool) -> tuple[str, str] | None:
    """What keeps a directory from being used: message and next step; None if nothing."""
    try:
        if not path.is_dir():
            path.stat()
            return f'"{path}" is not a directory', "write the path of a directory"
        if not os.access(path, os.R_OK | os.X_OK):
            return f'"{path}" can\'t be read by this user', "change its owner or mode"
        if not writable:
            return None
        if os.statvfs(path).f_flag & os.ST_RDONLY:
            return (
                f'"{path}" is on a read-only file system',
                f"mount it for writing (mount -o remount,rw {path})",
            )
    except OSError as error:
        return f'"{path}" can\'t be used: {error.strerror}', "check the mount and the rights of this user"
    if not os.access(path, os.W_OK):
        return f'"{path}" can\'t be written by this user', "change its owner or mode"
    return None


def _free_bytes(location: str) -> int:
    """Free bytes for this user in the file system of a path or of its parent."""
    path = location if os.path.exists(location) else str(Path(location).absolute().parent)  # noqa: PTH110
    status = os.statvfs(path)
    return status.f_bavail * status.f_frsize
