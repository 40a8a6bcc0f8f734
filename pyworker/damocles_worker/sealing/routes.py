"""The transfer stage: links or durable copies along the routes of a task.

The task is that of the Rust worker: ``routes`` from ``src`` to ``dest``, both absolute paths in ``uri``.
``store_name``, ``stores`` and ``is_dir`` are for implementations that reach an object store by them;
this one doesn't look at them.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct, field

from damocles_worker.errors import WorkerError
from damocles_worker.filesystem import file_error, fsync_directory, make_directories
from damocles_worker.stores.pump import CancelFlag, CopyCancelledError, Progress
from damocles_worker.stores.transfer import copy_durable


class Place(Struct, frozen=True):
    """One end of a route; ``store_name`` None: a path of this machine."""

    uri: str
    store_name: str | None = None


class Options(Struct, frozen=True):
    """``allow_link``: a symbolic link will do, since the source stays."""

    is_dir: bool = False
    allow_link: bool = False


class Route(Struct, frozen=True):
    """One file or directory to bring from ``src`` to ``dest``."""

    src: Place
    dest: Place
    opt: Options | None = None


class TransferTask(Struct, frozen=True):
    """``stores``: by name, what the manager knows about the stores of the routes."""

    routes: list[Route]
    stores: dict[str, Any] = field(default_factory=dict)


def request(
    pairs: Iterable[tuple[Path, Path]],
    *,
    source: str | None = None,
    destination: str | None = None,
    meta: dict[str, str] | None = None,
    allow_link: bool = False,
) -> TransferTask:
    """The task that brings each file (from, to) to its place.

    ``source`` or ``destination`` is the name of the attached store at that end, and ``meta`` what the
    manager knows about it, for processors that reach it by these.
    """
    store = source or destination
    options = Options(allow_link=True) if allow_link else None
    return TransferTask(
        routes=[
            Route(Place(str(file), source), Place(str(target), destination), options)
            for file, target in pairs
        ],
        stores={} if store is None else {store: {"name": store, "meta": meta}},
    )


def transfer(
    task: TransferTask,
    *,
    disable_link: bool = False,
    progress: Progress | None = None,
    cancel: CancelFlag | None = None,
) -> None:
    """Carry out the routes in their order; all copies are durable on return.

    ``progress`` gets bytes copied over all routes. Raises :class:`WorkerError` at the first route that
    can't be carried out (those before it stay), and
    :class:`~damocles_worker.stores.transfer.CopyCancelledError`.
    """
    checked = [_check(route) for route in task.routes]
    linked = [not disable_link and route.opt is not None and route.opt.allow_link for route in task.routes]
    sizes = [0 if link else _size(source) for (source, _), link in zip(checked, linked, strict=True)]
    total, done = sum(sizes), 0
    for (source, destination), link, size in zip(checked, linked, sizes, strict=True):
        _clear(source, destination)
        if link:
            _link(source, destination)
        else:
            _copy(source, destination, _from(progress, done, total), cancel)
        done += size


def run(task: bytes, progress: Progress | None, cancel: CancelFlag | None, *, disable_link: bool) -> bytes:
    """The stage function: task JSON in, ``true`` out. Raises :class:`WorkerError`."""
    try:
        parsed = msgspec.json.decode(task, type=TransferTask)
    except msgspec.MsgspecError as error:
        raise WorkerError(
            f"this is no transfer task: {error}",
            next_step="Expected routes with src and dest; check the version of the program that sent it",
        ) from error
    try:
        transfer(parsed, disable_link=disable_link, progress=progress, cancel=cancel)
    except CopyCancelledError as error:
        raise WorkerError(str(error), next_step="The stage is tried again") from error
    return b"true"


def _check(route: Route) -> tuple[Path, Path]:
    source, destination = Path(route.src.uri), Path(route.dest.uri)
    if not source.is_absolute():
        raise _refused(f"src path is relative: {source}")
    if not source.exists():
        raise _refused(f"src path not exists: {source}")
    if not destination.is_absolute():
        raise _refused(f"dest path is relative: {destination}")
    if destination.exists() and destination.is_dir() != source.is_dir():
        kind = "true" if destination.is_dir() else "false"
        raise _refused(f"dest entry type is different with src, is_dir={kind}: {destination}")
    return source, destination


def _refused(cause: str) -> WorkerError:
    return WorkerError(cause, next_step="Check the paths of the stores (expected: absolute), then resume")


def _clear(source: Path, destination: Path) -> None:
    """Make room; a file that is copied over a file is replaced by the copy itself, when it is whole."""
    try:
        if destination.is_dir() and not destination.is_symlink():
            shutil.rmtree(destination)
        elif destination.is_symlink():
            # Also one that leads nowhere.
            destination.unlink()
        make_directories(destination.parent)
    except OSError as error:
        raise file_error(error, "make room for", destination) from error


def _link(source: Path, destination: Path) -> None:
    """An absolute symbolic link; never a hard one, which would let a seal change its source."""
    temporary = destination.with_name(f".{destination.name}.link-{os.getpid()}")
    try:
        temporary.unlink(missing_ok=True)
        temporary.symlink_to(source)
        temporary.rename(destination)
        fsync_directory(destination.parent)
    except OSError as error:
        raise file_error(error, "link", destination) from error


def _copy(source: Path, destination: Path, progress: Progress | None, cancel: CancelFlag | None) -> None:
    """Copy a file, or the files of a directory; a link in it is followed, an empty directory is left out."""
    if not source.is_dir():
        copy_durable(source, destination, progress=progress, cancel=cancel)
        return
    total, done = _size(source), 0
    for path in _files(source):
        target = destination / path.relative_to(source)
        try:
            make_directories(target.parent)
        except OSError as error:
            raise file_error(error, "create", target.parent) from error
        copy_durable(path, target, progress=_from(progress, done, total), cancel=cancel)
        done += path.stat().st_size


def _files(directory: Path) -> list[Path]:
    found = os.walk(directory, followlinks=True)
    return sorted(Path(parent) / name for parent, _, names in found for name in names)


def _size(source: Path) -> int:
    try:
        return sum(path.stat().st_size for path in (_files(source) if source.is_dir() else [source]))
    except OSError as error:
        raise file_error(error, "read", source) from error


def _from(progress: Progress | None, done: int, total: int) -> Progress | None:
    """Reports of one file as part of ``total`` bytes, ``done`` of them before it."""
    if progress is None:
        return None
    report = progress
    return lambda here, _all: report(done + here, total)
