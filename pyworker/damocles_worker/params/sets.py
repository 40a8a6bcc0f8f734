"""Which Groth16 parameter sets there are, and which of them a plan needs."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from functools import cache
from pathlib import Path
from typing import Literal

from msgspec import Struct

from damocles_worker import _native
from damocles_worker.sectors import SECTOR_SIZES, size_name

#: What a set proves: sealing (C2), snap deals, winning and window proofs of space-time.
Kind = Literal["porep", "update", "winning", "window"]
KINDS: tuple[Kind, ...] = ("porep", "update", "winning", "window")

#: The sets of a plan. A rebuild discards its C1 output and proves upgraded sectors only; the worker
#: never computes a winning proof, so no plan of its own needs that set.
PLAN_KINDS: dict[str, tuple[Kind, ...]] = {
    "sealer": ("porep",),
    "snapup": ("update",),
    "rebuild": ("update",),
    "unseal": (),
    "wdpost": ("window",),
    "winning": ("winning",),
}

#: Sector sizes in bytes that only local networks use. Larger ones belong to public networks, whose
#: parameters come from a ceremony.
LOCAL_SIZES = (SECTOR_SIZES["2KiB"], SECTOR_SIZES["8MiB"])


class ParameterSet(Struct, frozen=True, order=True):
    """The parameters of one circuit. ``sector_size`` is in bytes."""

    sector_size: int
    kind: Kind
    #: A foreign process proves with them: here they verify, for which the ``.vk`` file is enough.
    only_vk: bool = False

    def __str__(self) -> str:
        return f"{size_name(self.sector_size)} {self.kind}"

    @property
    def name(self) -> str:
        """The stem of the files' names, the proving library's: ``v28-stacked-proof-of-replication-…``."""
        return circuit(self.kind, self.sector_size).name

    @property
    def params_file(self) -> str:
        """The proving key: needed to prove, mapped into memory."""
        return f"{self.name}.params"

    @property
    def vk_file(self) -> str:
        """The verifying key."""
        return f"{self.name}.vk"

    @property
    def meta_file(self) -> str:
        """The sector size as JSON; the library writes it beside parameters it makes, nothing reads it."""
        return f"{self.name}.meta"

    @property
    def local_record_file(self) -> str:
        """Ours: marks a set as generated here, insecure, and says with what digests."""
        return f"{self.name}.local-insecure.json"

    def keys_in(self, directory: Path) -> list[str]:
        """Names of the proving and the verifying key, those of them that are in ``directory``."""
        return [name for name in (self.params_file, self.vk_file) if (directory / name).exists()]

    @property
    def is_local_size(self) -> bool:
        """Whether a set may be generated for this sector size."""
        return self.sector_size in LOCAL_SIZES


@cache
def circuit(kind: Kind, sector_size: int) -> _native.CircuitInfo:
    """Names and sizes of a set's circuit; ``ValueError`` for a size that has no parameters."""
    return _native.circuit_info(kind, sector_size)


@cache
def published_digests() -> dict[str, str]:
    """The published digest of every published file, by file name (see ``digests.PUBLISHED``)."""
    return _native.published_digests()


def cache_directory() -> Path:
    """Where the proving library looks for parameters: ``FIL_PROOFS_PARAMETER_CACHE`` or its default."""
    return Path(_native.parameter_cache_dir())


def required(
    sizes: Iterable[int], plans: Iterable[str], *, foreign_plans: Collection[str] = ()
) -> list[ParameterSet]:
    """The sets that these plans need for these sector sizes (bytes), each once, by size and kind.

    The proofs of ``foreign_plans`` are computed by another program: their sets only verify here,
    unless another plan needs them whole.
    """
    found: dict[tuple[int, Kind], bool] = {}
    sector_sizes = tuple(sizes)
    for plan in plans:
        for kind in PLAN_KINDS[plan]:
            for size in sector_sizes:
                key = (size, kind)
                found[key] = found.get(key, True) and plan in foreign_plans
    return [ParameterSet(size, kind, only_vk) for (size, kind), only_vk in sorted(found.items())]
