"""What the stages are assumed to take. Nothing here is measured on the machine at hand."""

from __future__ import annotations

from msgspec import Struct

from damocles_worker.config import corehours
from damocles_worker.sectors import SECTOR_SIZES
from damocles_worker.stores.space import sdr_layers
from damocles_worker.suggest.host import Host
from damocles_worker.suggest.wishes import Wishes

_32GIB = SECTOR_SIZES["32GiB"]
_NODE_BYTES = 32
_PARENTS_ROW = 56
GIB = 1 << 30
#: No stage is planned with less: files are written and synced, processors asked. In hours.
_MINUTE = 1 / 60

#: Labels per second of one core for 1 and 2 sectors on it together, 512 MiB (docs/benchmarks.md).
LABELS_PER_SECOND = {1: 1.429e6, 2: 2.331e6}
#: The same without SHA instructions: the line "crate as people get it" there.
LABELS_PER_SECOND_PORTABLE = 0.081e6
#: Minutes on one GPU for 32 GiB, in the middle of what users publish for an RTX 3080 (PC2 10 to 13, C2 13
#: to 16); for upgrades nothing is published: they are put beside those by what they compute.
_GPU_MINUTES_32GIB = {"pc2": 12, "c2": 15, "snap_encode": 4, "snap_prove": 15}
#: Where the figures above come from, in words for the reader of a suggestion.
GPU_SOURCES = {
    "pc2": "as users publish for an RTX 3080",
    "c2": "as users publish for an RTX 3080",
    "snap_encode": "beside pc2; nothing is published",
    "snap_prove": "beside c2; nothing is published",
}
#: 150 epochs of 30 s from the landing of PreCommit to the seed.
SEED_MINUTES = 75
#: Memory of a stage for 32 GiB and more with the proofs library's code, as the users' own plans have it.
_LIBRARY_MEMORY = {"pc2": 64 * GIB, "c2": 128 * GIB, "snap_encode": 64 * GIB, "snap_prove": 128 * GIB}
#: The same with this program's engines, not measured at this size. SNARKs: one partition of 2^27
#: constraints at a time, six vectors of scalars (rust/groth16); by the peak at 2 KiB it would be 19 GiB.
#: PC2: what the threads have in hand (rust/pc2), some tens of MiB each. snap_encode is the library's.
_ENGINE_MEMORY = {**_LIBRARY_MEMORY, "pc2": 4 * GIB, "c2": 24 * GIB, "snap_prove": 24 * GIB}
#: Where these figures come from, in words for the reader of a suggestion: on GPUs, and on the cpu.
MEMORY_SOURCES = {
    True: "memory of proofs as in users' plans for the proofs library",
    False: "memory of pc2 and SNARKs of this program's engines, extrapolated and not measured (snap_encode:"
    " as in users' plans)",
}

#: The two stages that follow one another on the same cpus or GPU, by plan.
PROOF_STAGES = {"sealer": ("pc2", "c2"), "snapup": ("snap_encode", "snap_prove")}


class Durations(Struct, frozen=True):
    """Assumed costs for sectors of ``size`` bytes on a machine with or without SHA and IFMA instructions."""

    size: int
    sha: bool
    ifma: bool = False

    def labels_per_second(self, lanes: int) -> float:
        """Of each of ``lanes`` sectors that share a core."""
        if not self.sha:
            return LABELS_PER_SECOND_PORTABLE / lanes
        return LABELS_PER_SECOND[lanes] / lanes

    def pc1_hours(self, lanes: int) -> float:
        """One sector's PC1 on a core that it shares with ``lanes`` - 1 others."""
        labels = sdr_layers(self.size) * (self.size // _NODE_BYTES)
        return max(_MINUTE, labels / self.labels_per_second(lanes) / 3600)

    def proof_hours(self, stage: str, cores: float, *, gpu: bool) -> float:
        """Of a proof stage on a GPU, or on so many cores."""
        return max(_MINUTE, self.gpu_hours(stage) if gpu else self.core_hours(stage) / cores)

    def core_hours(self, stage: str) -> float:
        """Of a proof stage without GPU, with this program's engines."""
        return corehours.core_hours(stage, self.size, ifma=self.ifma)

    def gpu_hours(self, stage: str) -> float:
        """Of a proof stage on one GPU."""
        ratio = self.size / _32GIB
        grows = stage in ("pc2", "snap_encode") or ratio < 1
        return _GPU_MINUTES_32GIB[stage] / 60 * (ratio if grows else 1)

    @property
    def tree_d_hours(self) -> float:
        """1 minute for 32 GiB."""
        return max(_MINUTE, self.size / _32GIB / 60)

    @property
    def label_memory(self) -> int:
        """Bytes that PC1 of a sector holds: two layers."""
        return 2 * self.size

    @property
    def parents_cache(self) -> int:
        """Bytes of the parents cache, which every PC1 reads from end to end in every layer."""
        return self.size // _NODE_BYTES * _PARENTS_ROW

    def stage_memory(self, stage: str, *, gpu: bool) -> int:
        """Bytes of a proof stage at its peak, on a GPU or with this program's engines; of small sectors a
        guess.
        """
        if self.size < _32GIB:
            return GIB + 4 * self.size
        memory = (_LIBRARY_MEMORY if gpu else _ENGINE_MEMORY)[stage]
        grows = self.size > _32GIB and stage in ("pc2", "snap_encode") and memory == _LIBRARY_MEMORY[stage]
        return memory * (2 if grows else 1)


def durations_of(host: Host, wishes: Wishes) -> Durations:
    """Of the wished sectors on this machine."""
    return Durations(wishes.sector_size, host.sha, host.ifma)
