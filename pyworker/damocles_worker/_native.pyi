"""The Rust extension: stages of sealing and proving, TOML with positions, Groth16 parameters.

Every call that computes or does I/O releases the GIL and may run on any thread. Tasks and outputs
are the JSON of the external-processor protocol; 32-byte values in JSON are arrays of integers.
"""

from collections.abc import Callable, Sequence
from os import PathLike
from pathlib import Path
from typing import Any, final

# --- Sealing stages -----------------------------------------------------------------------------

_Progress = Callable[[int, int], object]
"""Called with ``(done, total)`` from the computing thread, at most ten times a second and once more,
with ``(total, total)``, when the stage is complete. What it raises ends the stage and is raised."""

class StageError(Exception):
    """A stage failed, for the reason in the message (one line, causes joined by ``": "``).

    A panic of the proofs library is such a failure too; its message starts with ``panic: ``.
    """

class Cancelled(Exception):
    """A stage ended because its :class:`Cancel` was set."""

@final
class Cancel:
    """A flag that ends the stages it was given to; set from any thread, it stays set.

    ``add_pieces``, ``tree_d``, ``static_tree_d``, ``piece_commitment``, ``pc1``, ``unseal`` and
    ``snap_decode`` look at it as they run, ``window_post`` while replicas are read; the other stages before
    they start only, since the library can't be interrupted.
    """

    def __new__(cls) -> Cancel: ...
    def cancel(self) -> None: ...
    @property
    def cancelled(self) -> bool: ...

def add_pieces(task: bytes, progress: _Progress | None = None, cancel: Cancel | None = None) -> bytes:
    """Write the pieces, fr32 padded, into the staged file; the output is the array of piece infos.

    ``piece_file`` is ``{"local": path}``, ``{"fd": n}`` (an open descriptor in blocking mode, read
    from its position and left open) or ``"pledge"``; a URL is refused. Zeros are left as holes.
    Without pieces the staged file is one hole and the output the zero commitment of the sector.
    Progress is in unpadded bytes.
    """

def tree_d(task: bytes, progress: _Progress | None = None, cancel: Cancel | None = None) -> bytes:
    """Build ``sc-02-data-tree-d.dat`` in the cache directory from the staged file; output ``true``.

    A link of that name is replaced, not followed. Progress is in bytes of the staged file.
    """

def pc1(task: bytes, progress: _Progress | None = None, cancel: Cancel | None = None) -> bytes:
    """Compute the label layers and copy the staged file to the sealed file.

    Layers of an earlier run that are whole and of this replica are kept, and any moment will do to cancel.
    Progress is in labels; before, if the parents cache is missing, in nodes of that cache. With
    ``DAMOCLES_PC1_ENGINE=crate`` the proofs library labels: then earlier layers are removed, there is no
    progress before the end, and it can't be cancelled.
    """

def pc2(task: bytes, progress: _Progress | None = None, cancel: Cancel | None = None) -> bytes:
    """Build tree_c and tree_r_last from the label layers, and replace the sealed file by the replica.

    The replica is written beside the sealed file: a run that was cut leaves that as it was, and finished
    base trees for the next run. Progress is in elements hashed. A layer that is not what PC1 wrote is an
    error that begins with ``label layer``. With ``DAMOCLES_PC2_ENGINE=crate`` the proofs library encodes
    the sealed file in place: after such a run that was cut it must be a copy of the staged file again,
    there is no progress before the end, and it can't be cancelled.
    """

def synth_proof(task: bytes, progress: _Progress | None = None, cancel: Cancel | None = None) -> bytes:
    """Write the synthetic vanilla proofs into the cache directory; output ``true``."""

def c1(task: bytes, progress: _Progress | None = None, cancel: Cancel | None = None) -> bytes:
    """Compute the vanilla proofs of the seed's challenges; they are checked before they are returned."""

def c2(task: bytes, progress: _Progress | None = None, cancel: Cancel | None = None) -> bytes:
    """Compute the SNARK and verify it; output ``{"proof": [..]}``. Needs the proof type's Groth16 parameters.

    Progress is the prover's own measure of its work; between its parts it can be cancelled. With
    ``DAMOCLES_C2_ENGINE=crate`` the proofs library computes the SNARK, and that of upgrades and proofs of
    spacetime: then there is no progress before the end, and it can't be cancelled.
    """

def verify_seal(task: bytes) -> bool:
    """Whether a seal proof holds; bytes that are no proof at all don't.

    :class:`StageError` means that it could not be decided, for want of the verifying key say.
    """

def snap_encode(task: bytes, progress: _Progress | None = None, cancel: Cancel | None = None) -> bytes:
    """Encode the staged data into the update file, created or truncated, and build the update-cache.

    The output is ``{"comm_r_new": [..], "comm_r_last_new": [..], "comm_d_new": [..]}``. A tree_d in the
    update-cache is used if it is that of the pieces, and else replaced.
    """

def snap_vanilla(task: bytes, progress: _Progress | None = None, cancel: Cancel | None = None) -> bytes:
    """Compute the vanilla proofs of an upgrade, one array of integers per partition.

    They are checked against the three commitments before they are returned.
    """

def snap_prove(task: bytes, progress: _Progress | None = None, cancel: Cancel | None = None) -> bytes:
    """Compute the SNARK of an upgrade, an array of integers, and verify it; as :func:`c2`.

    Needs the update proof type's Groth16 parameters. The library's isn't verified here.
    """

def verify_snap(task: bytes) -> bool:
    """Whether the proof of an upgrade holds; as :func:`verify_seal`."""

def unseal(task: bytes, progress: _Progress | None = None, cancel: Cancel | None = None) -> bytes:
    """Write a range of a sealed sector's data to ``unsealed_output``; the output is the bytes written.

    ``offset`` and ``num_bytes`` are unpadded and need not be aligned. The sealed file is only read, the
    cache directory isn't touched. Labels are computed as in PC1, in memory of two sectors, of which one is
    kept while decoding. A sector sealed with another proof type, prover, number, ticket or comm_d is
    recognised: an error. Progress is in labels, then in unpadded bytes.
    """

def snap_decode(task: bytes, progress: _Progress | None = None, cancel: Cancel | None = None) -> bytes:
    """Write a range of an upgraded sector's data to ``unsealed_output``; the output is the bytes written.

    The update file and the key's are only read; where the key is to be computed, memory and progress are as
    in :func:`unseal`. A wrong key is recognised, as there.
    """

def window_post(task: bytes, progress: _Progress | None = None, cancel: Cancel | None = None) -> bytes:
    """Prove the replicas; the output is ``{"proofs": [base64], "faults": [..]}``.

    With faults there is no proof; the reason of each is printed to stderr. Too many open files or a lack of
    memory make an error instead. Progress is in replicas read; the SNARK follows. Needs the proof
    type's Groth16 parameters.
    """

def winning_post(task: bytes, progress: _Progress | None = None, cancel: Cancel | None = None) -> bytes:
    """Prove the challenged replica, the only one; the output is ``{"proofs": [base64]}``."""

def verify_window_post(task: bytes) -> bool:
    """Whether a window PoSt holds for the sectors; as :func:`verify_seal`."""

def verify_winning_post(task: bytes) -> bool:
    """Whether a winning PoSt holds for the challenged sector; as :func:`verify_seal`."""

def clear_cache(task: bytes) -> None:
    """Remove layers, tree_c and tree_d; tree_r_last, ``p_aux``, ``t_aux`` and synthetic proofs stay."""

def static_tree_d(
    size: int, directory: str | PathLike[str], progress: _Progress | None = None, cancel: Cancel | None = None
) -> None:
    """Build the tree_d of a sector of ``size`` zero bytes, one of the five sector sizes, in ``directory``."""

def parents_cache(
    registered_proof: str,
    directory: str | PathLike[str] | None = None,
    progress: _Progress | None = None,
    cancel: Cancel | None = None,
) -> tuple[Path, list[str]]:
    """Make the parents cache of a seal proof in ``directory``, by default where PC1 looks for it.

    One that is there is checked, by its digest if it was not checked before, and made again if it is
    wrong. Returns the file's path and a sentence for each thing worth telling. Progress is in nodes.
    ``ValueError`` for an unknown proof.
    """

def create_hugepage_files(
    directory: str | PathLike[str], size: int, count: int, node: int | None = None
) -> list[Path]:
    """Make ``count`` files of ``size`` bytes for the labels of PC1, with their memory on NUMA node ``node``.

    They are named after the size, ``32.0_GiB_0`` for example, in ``directory``, which is created. On failure
    those made so far are removed; a file that was there before is never touched.
    """

def parents_cache_file(
    registered_proof: str, read: bool = False, progress: _Progress | None = None, cancel: Cancel | None = None
) -> tuple[Path, int, str, str]:
    """The parents cache file that PC1 of a seal proof uses: its path, the bytes it has to have, its state.

    The state is ``whole``, ``missing``, ``bad`` (the last string says why) or ``not compared``: the digest
    was never compared, which is done with ``read``; progress is then in nodes. Nothing is made.
    ``ValueError`` for an unknown proof.
    """

def piece_commitment(
    path: str | PathLike[str],
    payload_size: int,
    piece_size_unpadded: int,
    progress: _Progress | None = None,
    cancel: Cancel | None = None,
) -> bytes:
    """Commitment (32 bytes) of the file's first ``payload_size`` bytes, zero-filled to the piece size."""

def data_commitment(sector_size: int, pieces: Sequence[tuple[bytes, int]]) -> bytes:
    """comm_d (32 bytes) of a sector that holds these pieces in this order.

    A piece is its 32-byte commitment and its size in unpadded bytes. Alignment gaps and the rest of
    the sector count as zeros; without pieces the sector is all zeros.
    """

def version_info() -> dict[str, str]:
    """Versions of this package and the proofs crates, and how they were built.

    ``profile`` is the cargo build profile; ``cpu_features`` are those of this machine that matter to
    sealing, ``compiled_features`` those that the build can't run without (names, space-separated).
    """

# --- The crates' log ----------------------------------------------------------------------------

_Place = tuple[int, str, str]
"""Index of a sealing thread, sector, stage."""

_LogLine = tuple[int, str, str, float, _Place | None]
"""Rank (1 is error, 5 is trace), target, text, seconds since 1970, and where it belongs."""

def forward_log(tables: Sequence[Sequence[tuple[str, int]]]) -> None:
    """Keep lines for :func:`take_log` that one of ``tables`` admits: target prefixes and the highest rank."""

def take_log(*, wait: bool) -> list[_LogLine] | None:
    """The lines that wait; with ``wait`` at least one. None after :func:`close_log`."""

def close_log() -> None:
    """End :func:`take_log`; what is logged from now on goes straight to stderr."""

def set_log_place(place: _Place | None) -> None:
    """What this thread logs from now on belongs there."""

# --- Checksums ----------------------------------------------------------------------------------

@final
class Checksum:
    """XXH3 of 128 bits: as fast as memory, and a damaged copy never has that of its source by chance.

    For one thread at a time.
    """

    def __new__(cls) -> Checksum: ...
    def update(self, data: bytes | memoryview) -> None:
        """Go on with the bytes of a contiguous buffer."""

    def hexdigest(self) -> str:
        """As ``xxh128sum`` prints it: 32 digits."""

# --- TOML with positions ------------------------------------------------------------------------

def parse_toml(text: str) -> tuple[tuple[str, int, int, Any], list[tuple[int, int, str]]]:
    """Parse TOML as far as it can be understood: the root table's node, and all syntax errors.

    A node is ``(kind, line, column, value)``; ``kind`` is ``string``, ``integer``, ``float``,
    ``boolean``, ``datetime`` (value: its text), ``array`` (a list of nodes) or ``table`` (a list of
    ``(key, line, column, node)`` in the order of the file). An error is ``(line, column, message)``.
    Lines and columns start at 1; columns count characters.
    """

# --- Groth16 parameters -------------------------------------------------------------------------

@final
class CircuitInfo:
    """The circuit behind a parameter set, and what the proving library calls the set."""

    @property
    def name(self) -> str:
        """Stem of the set's file names: ``v28-stacked-proof-of-replication-…``."""
    @property
    def inputs(self) -> int:
        """Public inputs, the constant one among them: the length of the verifying key's ic."""
    @property
    def aux(self) -> int:
        """Private variables: the length of the l query."""
    @property
    def domain(self) -> int:
        """Points of the evaluation domain: the h query is one shorter."""
    @property
    def params_bytes(self) -> int | None:
        """Bytes of the ``.params`` file; None for sector sizes that are not generated locally."""

def circuit_info(kind: str, sector_size: int) -> CircuitInfo:
    """The circuit of ``kind`` (porep, update, winning, window) for sectors of ``sector_size`` bytes.

    ``ValueError`` names an unknown kind or size.
    """

def parameter_cache_dir() -> Path:
    """Where the proving library looks for parameters (``FIL_PROOFS_PARAMETER_CACHE``), read once."""

def published_digests() -> dict[str, str]:
    """The published digests by file name: the first 32 hexadecimal digits of BLAKE2b-512."""

def parameter_seed() -> str:
    """The public seed that local parameters are derived from."""

def generate_parameters(
    kind: str,
    sector_size: int,
    path: str | PathLike[str],
    progress: _Progress | None = None,
    cancel: Cancel | None = None,
) -> tuple[bytes, bytes]:
    """Write the local, insecure parameters of a set into ``path``, an existing file, and fsync it.

    Returns the content of the ``.vk`` and of the ``.meta`` file. Only 2 KiB and 8 MiB sectors. Progress is
    in points of G1, called from the calling thread; the total is 0 at first and shrinks once.
    """
