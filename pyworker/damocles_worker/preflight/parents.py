"""Parents caches, which PC1 maps: there, of the right size, with the right digest."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from damocles_worker import _native
from damocles_worker.config.settings import Processor, Settings
from damocles_worker.filesystem import free_bytes
from damocles_worker.preflight.lines import Line
from damocles_worker.preflight.parameters import Reading
from damocles_worker.preflight.work import LABELLING_PLANS, sector_sizes
from damocles_worker.sectors import proof_name, proofs_for_sizes, size_name
from damocles_worker.units import format_duration, format_size

_AREA = "parents cache"
#: Proof types of a size that a manager hands out, the first ones of those that are asked for.
_VARIANTS = ("v1_1", "synthetic")
#: CPU seconds per node to make one (docs/benchmarks.md).
_SECONDS_PER_NODE = 0.25e-6
_NODE_BYTES = 32
#: What chooses the proofs library's engine.
_ENGINE, _LIBRARY = "DAMOCLES_PC1_ENGINE", "crate"
#: Made faster than this, a missing one is not worth a word.
_SHORT = 60


def look(settings: Settings, *, read: bool, reading: Reading) -> list[Line]:
    """A line per proof type that a manager hands out for the configured sizes.

    With ``read`` digests that were never compared are. None where other programs compute PC1, or where
    the proofs library's engine is chosen, which has its own way with its files.
    """
    places = _places(settings.processors.stages.get("pc1", ()))
    return [
        _line(size, proof_name(proof), variant, place, read=read, reading=reading)
        for size in sector_sizes(settings, LABELLING_PLANS)
        for variant, proof in zip(_VARIANTS, proofs_for_sizes([size]), strict=False)
        for place in places
    ]


def _places(processors: Sequence[Processor]) -> list[Path | None]:
    """Directories in which PC1 of this program's engine looks; None is the place of this process.

    A processor has what its envs say, and what it inherits.
    """
    if not processors:
        return [] if os.environ.get(_ENGINE) == _LIBRARY else [None]
    places: list[Path | None] = []
    for processor in processors:
        environ = {**(os.environ if processor.inherit_envs else {}), **processor.envs}
        if processor.bin is None and environ.get(_ENGINE) != _LIBRARY:
            place = _directory(environ)
            places.append(None if place == _directory(os.environ) else place)
    return list(dict.fromkeys(places))


def _directory(environ: Mapping[str, str]) -> Path:
    """Where a process with these variables looks (``default_dir`` of rust/sdr)."""
    cache = environ.get("FIL_PROOFS_CACHE_DIR", "/var/tmp/")
    return Path(environ.get("FIL_PROOFS_PARENT_CACHE", f"{cache}filecoin-parents"))


def _line(size: int, proof: str, variant: str, place: Path | None, *, read: bool, reading: Reading) -> Line:
    if place is not None:
        read = False  # The extension reads the files of this process's place only.
    try:
        path, needed, state, why = _native.parents_cache_file(
            proof, read, lambda done, total: reading(f"parents cache of {proof}", done, total)
        )
    except _native.StageError as error:
        return Line(
            "problem", _AREA, proof, str(error), command="See who may read the file and its directory"
        )
    if place is not None:
        path = place / path.name
        state, why = _state(path, needed)
    if state == "whole":
        return Line("ok", _AREA, proof, f"whole, its digest is right: {path}")
    if state == "not compared":
        found = f"{path} has the right size; the first PC1 compares its digest before it uses it"
        return Line("ok", _AREA, proof, found)
    seconds = round(size // _NODE_BYTES * _SECONDS_PER_NODE / len(os.sched_getaffinity(0)))
    found = f"{path} is missing" if state == "missing" else f"{path}: {why}"
    made = f"the first such sector's PC1 makes it ({format_duration(max(1, seconds))})"
    room = _room(path.parent)
    if room is not None and room < needed:
        return Line(
            "problem", _AREA, proof, f"{found}, and {format_size(room)} are free for it", format_size(needed),
            "free space there, or name another directory with FIL_PROOFS_PARENT_CACHE",
        )  # fmt: skip
    if seconds < _SHORT:
        return Line("ok", _AREA, proof, f"{found}; {made}")
    command = f"damocles-worker generator parents-cache -s {size_name(size)} --variant {variant}"
    return Line("warning", _AREA, proof, f"{found}; {made}", format_size(needed), command)


def _state(path: Path, needed: int) -> tuple[str, str]:
    """Of a file in another place, by its size."""
    try:
        found = path.stat().st_size
    except FileNotFoundError:
        return "missing", ""
    return ("not compared", "") if found == needed else ("other", f"{found} bytes, expected {needed}")


def _room(directory: Path) -> int | None:
    """Free bytes where the directory is or would be; None if that can't be told."""
    while not directory.exists() and directory != directory.parent:
        directory = directory.parent
    try:
        return free_bytes(directory)
    except OSError:
        return None
