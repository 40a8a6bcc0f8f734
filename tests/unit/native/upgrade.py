"""An upgrade of a 2 KiB sector without data, and the tasks of its stages."""

from __future__ import annotations

from pathlib import Path

import msgspec

from damocles_worker import _native
from damocles_worker.processors.tasks import (
    PC2Output,
    PieceInfo,
    PieceSource,
    PoStReplica,
    SnapDecodeTask,
    SnapEncodeOutput,
    SnapEncodeTask,
    SnapVanillaTask,
)

from .sector import Sector

UPDATE_PROOF = "StackedDrg2KiBV1"
DATA = bytes(range(256)) * 7 + bytes(2032 - 7 * 256)


class Upgrade:
    """A sealed sector without data, and a piece of :data:`DATA` staged for it; the directory is new."""

    def __init__(self, directory: Path) -> None:
        self.sector = Sector(directory)
        zeros = self.sector.stage_zeros()
        pc2out = _native.pc2(self.sector.pc2_task(_native.pc1(self.sector.pc1_task(zeros))))
        self.comm_r_old = msgspec.json.decode(pc2out, type=PC2Output).comm_r
        self.update = directory / "update"
        self.update_cache = directory / "update-cache"
        self.update_cache.mkdir()
        deal = directory / "deal"
        deal.write_bytes(DATA)
        infos = _native.add_pieces(
            self.sector.add_pieces_task([PieceSource({"local": str(deal)}, len(DATA), len(DATA))])
        )
        self.pieces = msgspec.json.decode(infos, type=list[PieceInfo])

    def encode_task(self) -> bytes:
        return msgspec.json.encode(
            SnapEncodeTask(
                registered_proof=UPDATE_PROOF,
                new_replica_path=str(self.update),
                new_cache_path=str(self.update_cache),
                sector_path=str(self.sector.sealed),
                sector_cache_path=str(self.sector.cache),
                staged_data_path=str(self.sector.staged),
                piece_infos=self.pieces,
            )
        )

    def vanilla_task(self, encoded: SnapEncodeOutput) -> bytes:
        return msgspec.json.encode(
            SnapVanillaTask(
                registered_proof=UPDATE_PROOF,
                comm_r_old=self.comm_r_old,
                comm_r_new=encoded.comm_r_new,
                comm_d_new=encoded.comm_d_new,
                sector_path=str(self.sector.sealed),
                sector_cache_path=str(self.sector.cache),
                new_replica_path=str(self.update),
                new_cache_path=str(self.update_cache),
            )
        )

    def decode_task(self, encoded: SnapEncodeOutput, output: Path, offset: int, num_bytes: int) -> bytes:
        return msgspec.json.encode(
            SnapDecodeTask(
                registered_proof=UPDATE_PROOF,
                new_replica_path=str(self.update),
                key={"sealed_file": str(self.sector.sealed)},
                comm_r_old=self.comm_r_old,
                comm_d_new=encoded.comm_d_new,
                unsealed_output=str(output),
                offset=offset,
                num_bytes=num_bytes,
            )
        )

    def replica(self, sector_id: int) -> PoStReplica:
        """The sector from before the upgrade, as a PoSt names it."""
        return PoStReplica(sector_id, self.comm_r_old, str(self.sector.cache), str(self.sector.sealed))
