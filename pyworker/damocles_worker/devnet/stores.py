"""Persist stores: which there are, what is reserved in them, whether a sector's files arrived."""

from __future__ import annotations

import asyncio
import hashlib
import shutil
from collections import defaultdict
from collections.abc import Callable, Mapping
from pathlib import Path

from damocles_worker.devnet import replicas
from damocles_worker.devnet.proofs import Proofs
from damocles_worker.devnet.sectors import Sector, SectorBook
from damocles_worker.devnet.wire import MethodError, Served
from damocles_worker.manager import methods as m
from damocles_worker.manager import types as t
from damocles_worker.sectors import SECTOR_SIZES, sector_size

#: Trees that tree-r-last is split into; smaller sectors have one, without a number in its name.
_TREE_R_LAST_PARTS = {SECTOR_SIZES["32GiB"]: 8, SECTOR_SIZES["64GiB"]: 16}


class Stores:
    """Serves the store methods. With no store given, any name is one, of unlimited room."""

    def __init__(
        self, known: Mapping[str, Path | None], book: SectorBook, proofs: Proofs, say: Callable[[str], None]
    ) -> None:
        self._known = known
        self._book = book
        self._proofs = proofs
        self._say = say
        #: Store name → sector → bytes.
        self._reserved: dict[str, dict[t.SectorID, int]] = defaultdict(dict)

    def served(self) -> list[Served]:
        return [
            Served(m.STORE_BASIC_INFO, self.store_basic_info),
            Served(m.STORE_RESERVE_SPACE, self.store_reserve_space),
            Served(m.SUBMIT_PERSISTED_EX, self.submit_persisted_ex),
        ]

    async def store_basic_info(self, name: str) -> t.StoreBasicInfo | None:
        if self._known and name not in self._known:
            return None
        path = self._known.get(name)
        return t.StoreBasicInfo(name=name, path=name if path is None else str(path), meta={})

    async def store_reserve_space(
        self, sector_id: t.SectorID, size: int, candidates: list[str]
    ) -> t.StoreBasicInfo | None:
        self._book.online(sector_id)
        if self._known:
            candidates = [name for name in candidates or self._known if name in self._known]
        for name in candidates:
            if self._reserved[name].get(sector_id) == size:
                return await self.store_basic_info(name)
        for name in candidates:
            if self._has_room(name, size):
                self._reserved[name][sector_id] = self._reserved[name].get(sector_id, 0) + size
                self._say(f"{sector_id} reserves {size} bytes in store {name}")
                return await self.store_basic_info(name)
        return None

    def _has_room(self, name: str, size: int) -> bool:
        path = self._known.get(name)
        if path is None:
            return True
        return shutil.disk_usage(path).free >= sum(self._reserved[name].values()) + size

    def release(self, sector_id: t.SectorID) -> None:
        """Forget what a sector reserved."""
        for reserved in self._reserved.values():
            reserved.pop(sector_id, None)

    async def submit_persisted_ex(self, sector_id: t.SectorID, instance: str, upgrade: bool) -> bool:
        sector = self._book.online(sector_id)
        if self._known and instance not in self._known:
            raise MethodError(f"store instance {instance!r} not found")
        update = None if sector.upgrade is None else sector.upgrade.info
        submitted = update if upgrade else sector.pre_commit
        await self._check_files(sector, instance, upgrade, None if submitted is None else submitted.comm_r)
        if not upgrade or sector.persisted_in is None:
            sector.persisted_in = instance
        self._say(f"{sector_id} persisted in store {instance}")
        return True

    async def _check_files(
        self, sector: Sector, instance: str, upgrade: bool, comm_r: t.Commitment | None
    ) -> None:
        """Files in view are all there, those of ``comm_r`` if one was submitted, and the first ones."""
        root = self._known.get(instance)
        if root is None:
            return
        size = sector_size(sector.proof_type)
        missing = await asyncio.to_thread(_first_missing, root, str(sector.id), size, upgrade)
        if missing is not None:
            raise missing_file(missing)
        if comm_r is not None:
            replica, cache = _places(root, str(sector.id), upgrade)
            good = await asyncio.to_thread(
                replicas.is_of, self._proofs, sector.id, size, replica, cache, comm_r
            )
            if not good:
                raise MethodError(
                    f"{replica} and the files in {cache} are not those of comm_r {bytes(comm_r).hex()}"
                )
        await self._compare_with_first(sector, instance, upgrade)

    async def _compare_with_first(self, sector: Sector, instance: str, upgrade: bool) -> None:
        """A replica that was stored before has to be the same, byte for byte."""
        kind = "update" if upgrade else "sealed"
        digest = await self.digest(instance, kind, sector.id)
        first = sector.digests.setdefault(kind, digest or "")
        if first and digest != first:
            raise MethodError(
                f"{kind} file of {sector.id} differs from the one stored first: sha256 {digest}"
            )

    async def digest(self, instance: str | None, kind: str, sector_id: t.SectorID) -> str | None:
        """SHA-256 of ``sealed/…`` or ``update/…`` in a store; None where the devnet sees no such file."""
        root = self._known.get(instance or "")
        path = None if root is None else root / kind / str(sector_id)
        return None if path is None or not path.is_file() else await asyncio.to_thread(_sha256, path)

    async def check_update(self, sector: Sector, instance: str, comm_r: t.Commitment) -> None:
        """Raise an error when files of an update are missing in ``instance``, or not those of ``comm_r``."""
        if self._known and instance not in self._known:
            raise MethodError(f"store instance {instance!r} not found")
        await self._check_files(sector, instance, True, comm_r)

    def path(self, name: str, relative: str) -> Path | None:
        """A path in a store that the devnet sees."""
        root = self._known.get(name)
        return None if root is None else root / relative


def missing_file(path: Path) -> MethodError:
    """What a manager with a file-system store says in place of "files missed"."""
    return MethodError(f"check persisted filed: {path}: no such file or directory")


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _places(root: Path, sector: str, upgrade: bool) -> tuple[Path, Path]:
    """The replica or its update, and the directory of the files beside it."""
    if upgrade:
        return root / "update" / sector, root / "update-cache" / sector
    return root / "sealed" / sector, root / "cache" / sector


def _first_missing(root: Path, sector: str, size: int, upgrade: bool) -> Path | None:
    """The first of a sealed sector's files that a store lacks; their sizes are not looked at."""
    replica, cache = _places(root, sector, upgrade)
    parts = _TREE_R_LAST_PARTS.get(size)
    numbers = [""] if parts is None else [f"-{part}" for part in range(parts)]
    trees = [f"sc-02-data-tree-r-last{number}.dat" for number in numbers]
    files = [replica, *(cache / name for name in ("p_aux", "t_aux", *trees))]
    return next((file for file in files if not file.is_file()), None)
