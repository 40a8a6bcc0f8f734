"""Task and output types of the sealing stages: the JSON of the external-processor protocol.

Field names and order are upstream's, so that a task built here can be sent to any processor. Large
results (PC1, PC2 and C1 outputs) are opaque to the worker: they travel as :class:`msgspec.Raw`.
"""

from __future__ import annotations

import msgspec
from msgspec import Struct

#: A 32-byte array as a JSON array of integers.
Bytes32 = list[int]


class PieceInfo(Struct, frozen=True):
    commitment: Bytes32
    #: Unpadded bytes.
    size: int


class PieceSource(Struct, frozen=True):
    """``piece_file`` is ``{"url": …}``, ``{"local": …}`` or the string ``pledge``.

    ``{"fd": n}`` is ours and never leaves the process: the payload is read from that descriptor.
    """

    piece_file: dict[str, str | int] | str
    payload_size: int
    #: Unpadded bytes.
    piece_size: int


class AddPiecesTask(Struct, frozen=True):
    seal_proof_type: str
    pieces: list[PieceSource]
    staged_filepath: str


class TreeDTask(Struct, frozen=True):
    registered_proof: str
    staged_file: str
    cache_dir: str


class PC1Task(Struct, frozen=True, omit_defaults=True):
    registered_proof: str
    cache_path: str
    in_path: str
    out_path: str
    prover_id: Bytes32
    sector_id: int
    ticket: Bytes32
    piece_infos: list[PieceInfo]
    #: Ours, left out for processors of others: the sealed file needs its size only, whoever needs a copy of
    #: the staged file in it gets one later.
    empty_sealed_file: bool = False


class PC2Task(Struct, frozen=True):
    pc1out: msgspec.Raw
    cache_dir: str
    sealed_file: str


class PC2Output(Struct, frozen=True):
    registered_proof: str
    comm_r: Bytes32
    comm_d: Bytes32


class SynthProofTask(Struct, frozen=True):
    """Ours: upstream runs this stage in the daemon only."""

    cache_path: str
    replica_path: str
    prover_id: Bytes32
    sector_id: int
    ticket: Bytes32
    pc2out: PC2Output
    piece_infos: list[PieceInfo]


class C1Task(Struct, frozen=True):
    """Ours: upstream runs this stage in the daemon only."""

    cache_path: str
    replica_path: str
    prover_id: Bytes32
    sector_id: int
    ticket: Bytes32
    seed: Bytes32
    pc2out: PC2Output
    piece_infos: list[PieceInfo]


class C2Task(Struct, frozen=True):
    c1out: msgspec.Raw
    prover_id: Bytes32
    sector_id: int
    miner_id: int


class C2Output(Struct, frozen=True):
    proof: list[int]


class VerifySealTask(Struct, frozen=True):
    registered_proof: str
    comm_r: Bytes32
    comm_d: Bytes32
    prover_id: Bytes32
    sector_id: int
    ticket: Bytes32
    seed: Bytes32
    proof: list[int]


class ClearCacheTask(Struct, frozen=True):
    """Removes layers, tree-c and tree-d; tree-r-last, p_aux and t_aux stay."""

    registered_proof: str
    cache_path: str


class SnapEncodeTask(Struct, frozen=True):
    """``registered_proof`` of this and the next four is the update proof, ``StackedDrg2KiBV1``.

    ``sector_path`` and ``sector_cache_path`` are the sealed file and the cache directory from before the
    upgrade, ``new_replica_path`` and ``new_cache_path`` the update file and the update-cache directory.
    """

    registered_proof: str
    new_replica_path: str
    new_cache_path: str
    sector_path: str
    sector_cache_path: str
    staged_data_path: str
    piece_infos: list[PieceInfo]


class SnapEncodeOutput(Struct, frozen=True):
    comm_r_new: Bytes32
    comm_r_last_new: Bytes32
    comm_d_new: Bytes32


class SnapVanillaTask(Struct, frozen=True):
    """Ours: upstream runs this stage in the daemon only. The output is ``vannilla_proofs`` below."""

    registered_proof: str
    comm_r_old: Bytes32
    comm_r_new: Bytes32
    comm_d_new: Bytes32
    sector_path: str
    sector_cache_path: str
    new_replica_path: str
    new_cache_path: str


class SnapProveTask(Struct, frozen=True):
    """The output is the proof, an array of integers. The misspelling is upstream's."""

    registered_proof: str
    vannilla_proofs: msgspec.Raw
    comm_r_old: Bytes32
    comm_r_new: Bytes32
    comm_d_new: Bytes32


class VerifySnapTask(Struct, frozen=True):
    """Ours: upstream runs this stage in the daemon only."""

    registered_proof: str
    comm_r_old: Bytes32
    comm_r_new: Bytes32
    comm_d_new: Bytes32
    proof: list[int]


class SealedEmpty(Struct, frozen=True):
    """What a sector without data was sealed with; ``registered_proof`` is the seal proof type."""

    registered_proof: str
    prover_id: Bytes32
    sector_id: int
    ticket: Bytes32


class SnapDecodeTask(Struct, frozen=True):
    """Ours: a range of an upgraded sector's data. The output is the number of bytes written.

    ``key`` is ``{"sealed_file": …}``, the sealed file from before the upgrade, or, where that is gone,
    ``{"sealed": SealedEmpty}``: the key is then computed in memory.
    """

    registered_proof: str
    new_replica_path: str
    key: dict[str, str | SealedEmpty]
    comm_r_old: Bytes32
    comm_d_new: Bytes32
    unsealed_output: str
    #: Unpadded bytes, as ``num_bytes``.
    offset: int
    num_bytes: int


class UnsealTask(Struct, frozen=True):
    """A range of a sector's data. The output is the number of bytes written."""

    registered_proof: str
    prover_id: Bytes32
    sector_id: int
    comm_d: Bytes32
    ticket: Bytes32
    cache_dir: str
    sealed_file: str
    unsealed_output: str
    #: Unpadded bytes, as ``num_bytes``.
    offset: int
    num_bytes: int


class PoStReplica(Struct, frozen=True):
    sector_id: int
    comm_r: Bytes32
    cache_dir: str
    sealed_file: str


class WindowPoStTask(Struct, frozen=True):
    """The task of ``winning_post`` too, which takes the challenged replica alone."""

    miner_id: int
    proof_type: str
    replicas: list[PoStReplica]
    seed: Bytes32


class WindowPoStOutput(Struct, frozen=True):
    #: Base64 in JSON; empty when there are faults.
    proofs: list[bytes]
    #: Numbers of the sectors that can't be proven, ascending.
    faults: list[int]


class WinningPoStOutput(Struct, frozen=True):
    #: Base64 in JSON.
    proofs: list[bytes]


class PoStSector(Struct, frozen=True):
    sector_id: int
    comm_r: Bytes32


class VerifyPoStTask(Struct, frozen=True):
    """Ours: ``verify_window_post`` and ``verify_winning_post``."""

    miner_id: int
    proof_type: str
    replicas: list[PoStSector]
    seed: Bytes32
    proofs: list[bytes]
