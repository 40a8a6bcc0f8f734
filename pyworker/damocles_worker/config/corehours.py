"""What the stages that one gives to a GPU cost on a cpu. None was measured on the machine at hand."""

from __future__ import annotations

from damocles_worker.sectors import SECTOR_SIZES

_32GIB = SECTOR_SIZES["32GiB"]
_NODE_BYTES = 32
#: CPU seconds of C2 for a 2 KiB sector, measured (docs/benchmarks.md): the proofs library's prover, this
#: program's in portable arithmetic and with AVX-512 IFMA. The circuit grows with the depth of the trees.
_C2_2KIB_LIBRARY, _C2_2KIB, _C2_2KIB_IFMA = 93.9, 42.7, 14.3
_2KIB_DEPTH = 6

#: The variable that gives a stage to the proofs library with ``crate``: only its code uses GPUs.
#: snap_encode is always the library's.
ENGINE_OF = {
    "pc2": "DAMOCLES_PC2_ENGINE",
    "c2": "DAMOCLES_C2_ENGINE",
    "snap_prove": "DAMOCLES_C2_ENGINE",
    "window_post": "DAMOCLES_C2_ENGINE",
    "winning_post": "DAMOCLES_C2_ENGINE",
}
#: The stages that a GPU can speed up and a cpu takes long for.
STAGES = ("pc2", "c2", "snap_encode", "snap_prove", "window_post")
#: Stages whose work grows with the sector; the circuits of the others have nearly the same size.
_BY_SIZE = ("pc2", "snap_encode")

#: Core-hours for a 32 GiB sector (of window_post: a partition) with the library's code. PC2: 2^30 column
#: hashes and two trees of 2^30/7 hashes at the cost measured for one (docs/benchmarks.md); snap_encode: one
#: such tree. C2: a published run, 2:42 h on 48 threads. The others have not been measured at this size: by
#: their number of constraints snap_prove is about as much as C2, one partition of a window proof a tenth.
_LIBRARY_32GIB = {"pc2": 26.0, "c2": 130.0, "snap_encode": 2.2, "snap_prove": 130.0, "window_post": 13.0}
#: PC2 of this program's engine by the same cost of its hashes: with AVX2, and with AVX-512 IFMA.
_PC2_32GIB, _PC2_32GIB_IFMA = 11.5, 2.5


def core_hours(stage: str, size: int, *, ifma: bool, library: bool = False) -> float:
    """Core-hours of a stage for a sector of ``size`` bytes, or of a partition of a window proof.

    ``ifma``: on a cpu with AVX-512 IFMA; ``library``: with the proofs library's code. At 32 GiB SNARKs are
    a published run of the library, in the ratio of the CPU seconds that the provers take at 2 KiB.
    """
    if stage in _BY_SIZE:
        hours = _LIBRARY_32GIB[stage]
        if stage == "pc2" and not library:
            hours = _PC2_32GIB_IFMA if ifma else _PC2_32GIB
        return hours * size / _32GIB
    seconds = _C2_2KIB_LIBRARY if library else _C2_2KIB_IFMA if ifma else _C2_2KIB
    if size >= _32GIB:
        return _LIBRARY_32GIB[stage] * seconds / _C2_2KIB_LIBRARY
    depth = (size // _NODE_BYTES).bit_length() - 1
    return seconds * depth / _2KIB_DEPTH / 3600


def gains_by_ifma(stage: str) -> bool:
    """Whether this program computes the stage with an engine that uses AVX-512 IFMA."""
    return stage in ENGINE_OF


def source(stage: str, *, ifma: bool) -> str:
    """Where the figure of :func:`core_hours` comes from, in a few words."""
    arithmetic = "AVX-512 IFMA" if ifma else "AVX2" if stage == "pc2" else "portable arithmetic"
    return {
        "pc2": f"extrapolated from what its hashes cost with {arithmetic} (docs/benchmarks.md)",
        "c2": f"a published run of the proofs library, in the ratio measured at 2 KiB with {arithmetic}"
        " (docs/benchmarks.md)",
        "snap_encode": "beside pc2 of the proofs library, by the number of hashes",
        "snap_prove": "beside c2, by the number of constraints",
    }[stage]
