"""Whether stored files are those of a comm_r, as far as a window proof would read them."""

from __future__ import annotations

from pathlib import Path

import msgspec

from damocles_worker._native import StageError
from damocles_worker.devnet.proofs import Proofs
from damocles_worker.devnet.wire import MethodError
from damocles_worker.manager.types import Commitment, SectorID
from damocles_worker.processors.tasks import PoStReplica, WindowPoStOutput, WindowPoStTask
from damocles_worker.sectors import size_name


def is_of(
    proofs: Proofs, sector: SectorID, size: int, replica: Path, cache: Path, comm_r: Commitment
) -> bool:
    """Whether ``replica``, with the files in ``cache``, is that of ``comm_r``.

    p_aux has to hash to comm_r, the root of tree_r_last has to be p_aux's comm_r_last, and the replica's
    nodes at ten challenges have to lead to that root: of 2 KiB these are all nodes, of larger sectors those
    around the challenges. ``MethodError`` when it can't be decided.
    """
    task = WindowPoStTask(
        miner_id=sector.miner,
        proof_type=f"StackedDrgWindow{size_name(size)}V1_2",
        # With a fault there is no proof: a second sector without files keeps the SNARK from being computed.
        replicas=[
            PoStReplica(sector.number, comm_r, str(cache), str(replica)),
            PoStReplica(sector.number + 1, comm_r, "", ""),
        ],
        # Who stored the files could not choose the challenges, which follow from what they are to be.
        seed=comm_r,
    )
    try:
        output = msgspec.json.decode(proofs.window_post(msgspec.json.encode(task)), type=WindowPoStOutput)
    except StageError as error:
        raise MethodError(f"the files of {sector} can't be checked: {error}") from None
    return sector.number not in output.faults
