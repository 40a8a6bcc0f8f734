"""Whole sectors on a real daemon and a real devnet."""

from __future__ import annotations

from pathlib import Path

from tests.e2e.cluster import cluster
from tests.e2e.conftest import Undisturbed


def test_a_sector_without_deals_is_sealed_verified_and_finalized(undisturbed: Undisturbed) -> None:
    comm_d, comm_r = undisturbed.commitments
    assert len(bytes.fromhex(comm_d)) == len(bytes.fromhex(comm_r)) == 32
    assert [row.event for row in undisturbed.rows][-3:] == ["SubmitProof", "Finish", "Finish"]


def test_an_8_mib_sector_goes_through_pc2_and_c1_with_its_vanilla_proofs_checked(
    logged: Path, undisturbed: Undisturbed
) -> None:
    """C1 checks every vanilla proof; the worker is stopped at the write that follows it."""
    write = [row.event for row in undisturbed.rows].index("C1") + 1
    marker = logged / "c1-done"
    with cluster(logged, "--sectors", "1", "--deals", "none", "--sector-size", "8MiB") as running:
        running.start_worker(DAMOCLES_WORKER_FAILPOINT=f"journal:{write}:after:{marker}")
        running.wait(marker.exists, 300, "C1")
        assert running.sector()["comm_d_checked"]
        assert (running.persist / "sealed/s-t010000-1").stat().st_size == 8 << 20
        assert running.history()[-1].state == "C1Done"
