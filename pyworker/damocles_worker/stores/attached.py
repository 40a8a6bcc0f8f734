"""Attached (persist) stores: where finished sectors go, shared with the manager by name."""

from __future__ import annotations

import asyncio
import glob
import logging
import os
from collections.abc import Awaitable, Callable, Iterable, Sequence
from pathlib import Path
from typing import Protocol, Self

import msgspec
from msgspec import Struct

from damocles_worker.errors import WorkerError
from damocles_worker.filesystem import file_error, is_read_only, mount_point
from damocles_worker.stores.identity import STORE_FILE, Identity, StoreFile, identity_of

log = logging.getLogger(__name__)


class AttachedSetting(Protocol):
    """One ``[[attached]]`` entry of the configuration."""

    @property
    def name(self) -> str | None: ...
    @property
    def location(self) -> str: ...
    @property
    def readonly(self) -> bool: ...


class AttachedStore(Struct, frozen=True):
    """An attached store; ``name`` is what the manager knows it by, ``root`` its canonical path here."""

    name: str
    root: Path
    readonly: bool
    #: Where its file system was mounted when the store was opened, and the directory's inode there.
    mount: Path
    inode: int
    #: What it is told by from another disk that is mounted at the same place.
    identity: Identity

    @classmethod
    def at(cls, root: Path, name: str, *, readonly: bool = False) -> Self:
        """The store in the directory ``root`` (canonical), which is taken to be the right one now.

        Raises ``OSError`` when it can't be looked at.
        """
        mount = mount_point(root)
        return cls(name, root, readonly, mount, root.stat().st_ino, identity_of(root, mount))

    def sealed(self, sector: str) -> Path:
        """Where the replica of ``sector`` (text ``s-t0M-N``) goes."""
        return self.root / "sealed" / sector

    def cache_dir(self, sector: str) -> Path:
        """Where tree-r-last, p_aux and t_aux of ``sector`` go."""
        return self.root / "cache" / sector

    def update(self, sector: str) -> Path:
        """Where the replica update of ``sector`` goes."""
        return self.root / "update" / sector

    def update_cache_dir(self, sector: str) -> Path:
        """Where tree-r-last, p_aux and t_aux of the update go."""
        return self.root / "update-cache" / sector

    def check(self) -> None:
        """Raise :class:`WorkerError` (``waits_for``) when another directory or disk is in the store's place.

        An unmounted store leaves an empty mount point behind that looks like a fresh store; writing
        there would fill the file system below. So the mount point has to be the one seen at start, and
        a directory below one the same directory: one that was moved away and made anew is another.
        What is mounted there has to be the same file system or store as well, mounted again or not;
        :func:`~damocles_worker.stores.identity.identity_of` says where that can't be told.
        """
        try:
            status = self.root.stat()
            mount = mount_point(self.root)
            now = identity_of(self.root, mount)
        except OSError as error:
            raise self._gone(error.strerror or str(error)) from error
        if mount != self.mount:
            if mount in self.mount.parents:
                raise self._gone(f"{self.mount} is not mounted")
            raise self._gone(f"{mount} was mounted over it since the start")
        if why := self.identity.changed(now):
            raise self._gone(f"another one is there since the start ({why})")
        # Of a mount point of its own the inode says nothing, since every file system begins with the same;
        # but of one file system another directory may be mounted there.
        if status.st_ino != self.inode and (self.root != self.mount or self.identity.file_system):
            raise self._gone("another directory of that name is there since the start")

    def _gone(self, why: str) -> WorkerError:
        return WorkerError(
            f"the attached store {self.name!r} is gone from {self.root}: {why}",
            next_step="Bring it back to its place and the task goes on by itself; if what is there now is"
            " meant, restart the worker",
            waits_for=f"store {self.name!r} to be back at {self.root}",
        )


class KnownStores:
    """Whether the manager knows the attached stores; asked until it has said yes to all. One event loop.

    :param ask: answers the names that the manager doesn't know, or None if it doesn't answer.
    """

    def __init__(self, ask: Callable[[], Awaitable[tuple[str, ...] | None]]) -> None:
        self._ask = ask
        self._asking = asyncio.Lock()
        self._all_known = False
        self._unknown: tuple[str, ...] = ()

    def told(self, unknown: tuple[str, ...]) -> None:
        """The manager has answered."""
        if unknown and unknown != self._unknown:
            log.error("%s", unknown_stores(unknown))
        elif self._unknown and not unknown:
            log.info("the manager knows all attached stores now")
        self._unknown, self._all_known = unknown, not unknown

    async def look(self) -> None:
        """Ask if it is not settled yet."""
        async with self._asking:
            if not self._all_known:
                unknown = await self._ask()
                if unknown is not None:
                    self.told(unknown)

    async def check(self) -> None:
        """Raise :class:`WorkerError` (``waits_for``) while the manager says that it doesn't know one.

        A finished sector can't go there, and it is for weeks that nobody would notice.
        """
        await self.look()
        if self._unknown:
            raise unknown_stores(self._unknown)


def unknown_stores(names: tuple[str, ...]) -> WorkerError:
    """What to say of stores that the manager doesn't know."""
    stores = "stores" if len(names) > 1 else "store"
    return WorkerError(
        f"the manager does not know the attached {stores} {', '.join(names)}",
        next_step="Give [[attached]] the name used in the manager's Common.PersistStores (default: the"
        " absolute path on both sides)",
        waits_for=f"the manager to know {', '.join(names)}",
    )


def open_attached(settings: Iterable[AttachedSetting], patterns: Sequence[str] = ()) -> list[AttachedStore]:
    """Open the configured stores, then those found by the glob ``patterns``, in that order.

    Raises one :class:`WorkerError` that names every problem: a location that is no directory, a store
    that can't be written and isn't marked ``readonly``, two stores of one name, a bad sectorstore.json,
    and no store at all.
    """
    errors: list[WorkerError] = []
    wanted = [(entry.name, Path(entry.location), entry.readonly) for entry in settings]
    for pattern in patterns:
        found, problems = scan(pattern)
        wanted += found
        errors += problems
    stores: list[AttachedStore] = []
    for name, location, readonly in wanted:
        try:
            store = _open(name, location, readonly)
            _refuse_duplicate(store, stores)
        except WorkerError as error:
            errors.append(error)
        else:
            stores.append(store)
    if len(errors) == 1:
        raise errors[0]
    if errors:
        raise WorkerError(
            f"{len(errors)} attached stores can't be used: " + "; ".join(error.cause for error in errors),
            next_step="; ".join(dict.fromkeys(error.next_step for error in errors)),
        )
    if not stores:
        looked = f"; scan_persist_stores found none with a {STORE_FILE}" if patterns else ""
        raise WorkerError(
            "no attached store available (no [[attached]]): a finished sector has nowhere to go" + looked,
            next_step="Write [[attached]] with the location of a store that the manager knows",
        )
    return stores


def _open(name: str | None, location: Path, readonly: bool) -> AttachedStore:
    try:
        root = location.resolve(strict=True)
        is_directory = root.is_dir()
    except FileNotFoundError:
        raise WorkerError(
            f"the attached store {location} doesn't exist (file system not mounted?)",
            next_step="Mount it, or correct `location` of the [[attached]] entry",
            waits_for=f"the directory {location}",
        ) from None
    except OSError as error:
        raise WorkerError(
            f"the attached store {location} can't be opened: {error.strerror}",
            next_step="Check the path and the permissions of its parents",
        ) from error
    if not is_directory:
        raise WorkerError(
            f"the attached store {location} is not a directory",
            next_step="Correct `location` of the [[attached]] entry",
        )
    if not readonly and not os.access(root, os.W_OK | os.X_OK):
        why = "its file system is mounted read-only" if is_read_only(root) else "permission denied"
        raise WorkerError(
            f"the attached store {root} can't be written: {why}",
            next_step="Make it writable for the worker's user, or set readonly = true for reading only",
        )
    try:
        return AttachedStore.at(root, name or str(root), readonly=readonly)
    except OSError as error:
        raise file_error(error, "look at the attached store", root) from error


def _refuse_duplicate(store: AttachedStore, others: list[AttachedStore]) -> None:
    for other in others:
        if other.name == store.name:
            raise WorkerError(
                f"two attached stores are named {store.name!r}: {other.root} and {store.root}",
                next_step="Give each store the name that the manager knows it by",
            )


def scan(pattern: str) -> tuple[list[tuple[str | None, Path, bool]], list[WorkerError]]:
    """Stores matched by one pattern of ``scan_persist_stores``: directories with a sectorstore.json.

    Answers name, directory and whether it is read-only of each, and what is wrong with others.
    """
    found: list[tuple[str | None, Path, bool]] = []
    errors: list[WorkerError] = []
    # Patterns are absolute and match hidden names, neither of which Path.glob knows.
    for match in sorted(glob.glob(pattern, recursive=True, include_hidden=True)):  # noqa: PTH207
        directory = Path(match)
        if directory.is_file():
            if pattern.endswith("**"):  # which means directories at any depth
                continue
            errors.append(
                WorkerError(
                    f"scan_persist_stores: {pattern!r} matches the file {directory}",
                    next_step="Write the pattern so that it matches store directories only",
                )
            )
            continue
        file = directory / STORE_FILE
        if not file.is_file():
            continue
        try:
            description = msgspec.json.decode(file.read_bytes(), type=StoreFile)
        except (OSError, msgspec.DecodeError) as error:
            errors.append(
                WorkerError(
                    f"{file} can't be read: {error}",
                    next_step='Expected a JSON object such as {"Name": "store1", "ReadOnly": false}',
                )
            )
            continue
        found.append((description.name or description.id, directory, bool(description.readonly)))
    return found, errors
