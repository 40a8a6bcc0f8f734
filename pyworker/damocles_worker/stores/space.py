"""Space: what a sector needs while it is sealed, and who has been promised how much of a file system."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Sequence
from pathlib import Path

from msgspec import Struct

from damocles_worker.errors import WorkerError
from damocles_worker.filesystem import disk_usage, file_error, free_bytes, mount_point
from damocles_worker.units import format_size

log = logging.getLogger(__name__)

_NODE = 32
_GIB = 1 << 30
#: Challenges of the synthetic proof file: one per node, at most this many (storage-proofs-porep).
_SYNTHETIC_CHALLENGES = 1 << 18
#: Parents of a node in the label graph: 6 of the bucket graph, 8 of the expander.
_PARENTS = 14
#: p_aux, t_aux, directories, and the rounding of some thirty files up to whole blocks.
_SMALL_FILES = 1 << 20


def sdr_layers(sector_size: int) -> int:
    """Label layers of a sector size in bytes: 11 for 32 and 64 GiB, 2 for the small ones."""
    return 11 if sector_size >= 32 * _GIB else 2


def tree_count(sector_size: int) -> int:
    """Base trees of tree_c and tree_r_last: 8 for 32 GiB, 16 for 64 GiB, 1 for the small sizes."""
    return {32 * _GIB: 8, 64 * _GIB: 16}.get(sector_size, 1)


def synthetic_proofs_bytes(sector_size: int) -> int:
    """Size of ``syn-porep-vanilla-proofs.dat`` in bytes; exact.

    The format is that of storage-proofs-porep (``SynthProofs::write``): three roots; then for each
    challenge 15 node indices of 8 bytes, the path in tree_d (a leaf and one sibling per level), 15
    columns (the layers' labels) each with its path in tree_c, and the path in tree_r_last.
    """
    nodes = sector_size // _NODE
    depth = nodes.bit_length() - 1
    trees = tree_count(sector_size)
    base_levels = (depth - (trees.bit_length() - 1)) // 3
    # Arity 8 has seven siblings a level; 8 base trees join by one more such level, 16 by one of
    # arity 8 and one of arity 2.
    siblings = 7 * base_levels + {1: 0, 8: 7, 16: 8}[trees]
    per_challenge = (
        8 * (_PARENTS + 1)
        + _NODE * (1 + depth)
        + (_PARENTS + 1) * _NODE * (sdr_layers(sector_size) + 1 + siblings)
        + _NODE * (1 + siblings)
    )
    return 3 * _NODE + min(nodes, _SYNTHETIC_CHALLENGES) * per_challenge


def sealing_bytes(sector_size: int, *, synthetic: bool = False, static_tree_d: bool = False) -> int:
    """Upper bound in bytes of what one sector occupies in its sealing store at the worst moment.

    The worst moment is the end of PC2 (of the synthetic proofs, where there are any): nothing is
    deleted before it. In sector sizes: staged 1 (nothing for a sector without deals, whose staged
    file is all hole; but deals are asked for after the sector is accepted), sealed 1 and as much
    for the replica, which is written beside it, tree_d 2 (a binary tree; 0 when it is a link to the
    static one), each label layer 1, tree_c 8/7 (an octal tree with its leaves), tree_r_last 8/7 of
    one base tree, which is whole while it is built, and 1/448 for those finished (8/7 with the
    lowest three rows dropped).
    """
    octal_tree = -(-8 * sector_size // 7)
    tree_d = 0 if static_tree_d else 2 * sector_size
    tree_r_last = -(-octal_tree // tree_count(sector_size)) + sector_size // 448
    layers = sdr_layers(sector_size) * sector_size
    total = 3 * sector_size + tree_d + layers + octal_tree + tree_r_last + _SMALL_FILES
    if synthetic:
        total += synthetic_proofs_bytes(sector_size)
    return total


def update_bytes(sector_size: int) -> int:
    """Most bytes of a replica update beside the old replica: staged file, tree_d, update, tree_r_last."""
    octal_tree = -(-8 * sector_size // 7)
    tree_r_last = -(-octal_tree // tree_count(sector_size)) + sector_size // 448
    return 4 * sector_size + tree_r_last + _SMALL_FILES


def replica_bytes(sector_size: int) -> int:
    """Most bytes of a sealed sector's finished files: the replica, tree_r_last, p_aux and t_aux."""
    return sector_size + sector_size // 448 + _SMALL_FILES


def plan_bytes(
    plan: str, sector_size: int, *, synthetic: bool, copied: bool = False, layered: bool = False
) -> int:
    """Most bytes that a sector of ``plan`` takes in a sealing store.

    ``copied``: the old replica of an upgrade may be brought there, where it is only linked to otherwise.
    For unseal it is a piece as large as the sector; ``layered``: and label layers, which are held in memory
    otherwise.
    """
    match plan:
        case "snapup":
            return update_bytes(sector_size) + (replica_bytes(sector_size) if copied else 0)
        case "rebuild":
            return sealing_bytes(sector_size, synthetic=synthetic) + update_bytes(sector_size)
        case "unseal":
            layers = sealing_bytes(sector_size, synthetic=synthetic) if layered else 0
            return layers + sector_size + _SMALL_FILES
        case _:
            return sealing_bytes(sector_size, synthetic=synthetic)


class _Promise(Struct, frozen=True):
    device: int
    directory: Path
    size: int
    #: Bytes in ``directory`` before the owner wrote any of the promised ones.
    baseline: int

    def outstanding(self) -> int:
        """The part not written yet; what is written is missing from the disk's free space already."""
        written = max(0, disk_usage(self.directory) - self.baseline)
        return max(0, self.size - written)


class SpaceLedger:
    """Promises of space per file system (``st_dev``), so that two sectors are never accepted for one gap.

    A promise is made for a directory that only its owner writes to. It counts with the bytes that the
    owner has not written yet, since the others are no longer free anyway. Callable from any thread.
    """

    def __init__(self) -> None:
        #: Guards the promises. Never held while a disk is asked: a sealing thread gives its space back on the
        #: event loop.
        self._mutex = threading.Lock()
        #: Held while it is decided whether a promise fits.
        self._deciding = threading.Lock()
        self._promises: dict[str, list[_Promise]] = {}

    def reserve(self, directory: Path, sizes: Sequence[int], owner: str) -> int:
        """Promise ``owner`` the largest of ``sizes`` more bytes that fits into ``directory``; answers it.

        Raises :class:`WorkerError` with ``waits_for`` when none fits beside the other promises on the
        file system; nothing is promised then. A second promise to the same owner on the same file
        system replaces the first.
        """
        device = _device(directory)
        baseline = disk_usage(directory)
        with self._deciding:
            others = self._others(device, owner)
            free = _free(directory)
            promised = sum(other.size for _, other in others)
            # What the others have written is only looked for, in every one of their directories, where it
            # matters: where a size fits if they had written all of it, but not if they had written nothing.
            if any(free - promised < size <= free for size in sizes) or min(sizes) > free:
                promised = sum(other.outstanding() for _, other in others)
                free = _free(directory)
            size = max((size for size in sizes if size <= free - promised), default=None)
            if size is None:
                holders = sorted({holder for holder, _ in others})
                raise _too_small(directory, owner, min(sizes), free, promised, holders)
            self._put(owner, _Promise(device, directory, size, baseline))
            return size

    def adopt(self, directory: Path, size: int, owner: str) -> None:
        """Count the promise of a sector taken over from an earlier run, whether or not it fits.

        What lies in ``directory`` is the part already written.
        """
        self._put(owner, _Promise(_device(directory), directory, size, 0))

    def release(self, owner: str) -> None:
        """Forget every promise to ``owner``; it need not have one."""
        with self._mutex:
            self._promises.pop(owner, None)

    def free(self, path: Path) -> int:
        """Bytes on the file system of ``path`` that are neither used nor promised; never negative."""
        promised = sum(other.outstanding() for _, other in self._others(_device(path), None))
        return max(0, _free(path) - promised)

    def _put(self, owner: str, promise: _Promise) -> None:
        with self._mutex:
            kept = [one for one in self._promises.get(owner, []) if one.device != promise.device]
            self._promises[owner] = [*kept, promise]

    def _others(self, device: int, owner: str | None) -> list[tuple[str, _Promise]]:
        """The promises on ``device``, by owner, to all but ``owner``."""
        with self._mutex:
            return [
                (holder, promise)
                for holder, promises in self._promises.items()
                for promise in promises
                if promise.device == device and holder != owner
            ]


class Adoption:
    """Who has yet to count the space of a sector from an earlier run; until then none is promised anew.

    For one event loop. A thread whose store can't be opened is not waited for, nor one that has not told
    after ``patience`` seconds: its disk doesn't answer.
    """

    def __init__(self, patience: float = 60.0) -> None:
        self._patience = patience
        self._awaited: set[int] = set()
        self._all = asyncio.Event()
        self._all.set()

    def expect(self, thread: int) -> None:
        """Thread ``thread`` has a store and is going to start."""
        self._awaited.add(thread)
        self._all.clear()

    def settled(self, thread: int) -> None:
        """The thread has adopted the space of its sector, or failed to open its store."""
        self._awaited.discard(thread)
        if not self._awaited:
            self._all.set()

    async def wait(self) -> None:
        """Return when nobody is awaited any more."""
        try:
            await asyncio.wait_for(self._all.wait(), self._patience)
        except TimeoutError:
            names = ", ".join(f"sealing_thread[{thread}]" for thread in sorted(self._awaited))
            log.warning("%s can't tell what its sector needs: its space is not counted", names)
            self._awaited.clear()
            self._all.set()


def _device(path: Path) -> int:
    try:
        return path.stat().st_dev
    except OSError as error:
        raise file_error(error, "look at", path) from error


def _free(path: Path) -> int:
    try:
        return free_bytes(path)
    except OSError as error:
        raise file_error(error, "ask for the free space of", path) from error


def _too_small(
    place: Path, owner: str, needed: int, free: int, promised: int, holders: list[str]
) -> WorkerError:
    where = mount_point(place)
    others = f", {format_size(promised)} of them promised to {', '.join(holders)}" if holders else ""
    return WorkerError(
        f"a sector in {owner} needs {format_size(needed)} on {where}; {format_size(free)} are free{others}",
        next_step=f"Free space on {where}, give it fewer sealing threads, or use a larger disk",
        waits_for=f"space on {where}",
    )
