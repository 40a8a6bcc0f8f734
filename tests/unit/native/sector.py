"""A 2 KiB sector in a directory, and the tasks of its stages."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import msgspec

from damocles_worker import _native
from damocles_worker.processors.tasks import (
    AddPiecesTask,
    C1Task,
    PC1Task,
    PC2Output,
    PC2Task,
    PieceInfo,
    PieceSource,
    TreeDTask,
)

PROOF = "StackedDrg2KiBV1_1"
SIZE = 2048
PROVER_ID = [144, 78] + [0] * 30
TICKET = [1] * 32
SEED = [5] * 32


class Sector:
    """Paths and tasks of one sector; the directory is new and empty."""

    def __init__(self, directory: Path, proof: str = PROOF) -> None:
        self.proof = proof
        self.staged = directory / "staged"
        self.sealed = directory / "sealed"
        self.cache = directory / "cache"
        self.cache.mkdir()

    def add_pieces_task(self, pieces: list[PieceSource]) -> bytes:
        return msgspec.json.encode(AddPiecesTask(self.proof, pieces, str(self.staged)))

    def tree_d_task(self) -> bytes:
        return msgspec.json.encode(TreeDTask(self.proof, str(self.staged), str(self.cache)))

    def pc1_task(self, pieces: list[PieceInfo]) -> bytes:
        return msgspec.json.encode(
            PC1Task(
                registered_proof=self.proof,
                cache_path=str(self.cache),
                in_path=str(self.staged),
                out_path=str(self.sealed),
                prover_id=PROVER_ID,
                sector_id=7,
                ticket=TICKET,
                piece_infos=pieces,
            )
        )

    def pc2_task(self, pc1out: bytes) -> bytes:
        return msgspec.json.encode(PC2Task(msgspec.Raw(pc1out), str(self.cache), str(self.sealed)))

    def c1_task(self, pc2out: bytes, pieces: list[PieceInfo]) -> bytes:
        return msgspec.json.encode(
            C1Task(
                cache_path=str(self.cache),
                replica_path=str(self.sealed),
                prover_id=PROVER_ID,
                sector_id=7,
                ticket=TICKET,
                seed=SEED,
                pc2out=msgspec.json.decode(pc2out, type=PC2Output),
                piece_infos=pieces,
            )
        )

    def stage_zeros(self) -> list[PieceInfo]:
        """Stages a sector without deals, with its tree_d; returns the piece infos."""
        infos = _native.add_pieces(self.add_pieces_task([]))
        assert _native.tree_d(self.tree_d_task()) == b"true"
        return msgspec.json.decode(infos, type=list[PieceInfo])


def document(output: bytes) -> dict[str, Any]:
    return cast(dict[str, Any], msgspec.json.decode(output))
