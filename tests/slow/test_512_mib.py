"""A 512 MiB sector on a real daemon and devnet: minutes, so only ``make test-slow`` runs it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.e2e.cluster import cluster

#: PC1 takes a minute of CPU time, PC2 ten.
TIMEOUT = 3000.0


@pytest.mark.timeout(TIMEOUT)
def test_a_512_mib_sector_goes_through_c1_with_its_vanilla_proofs_checked(tmp_path: Path) -> None:
    """C1 checks every vanilla proof. There are no parameters of this size, so C2 ends there."""
    with cluster(tmp_path, "--sectors", "1", "--deals", "none", "--sector-size", "512MiB") as running:
        running.start_worker()
        running.wait(lambda: running.history() and running.history()[-1].state == "C1Done", TIMEOUT, "C1")
        assert running.sector()["comm_d_checked"]
        assert (running.persist / "sealed/s-t010000-1").stat().st_size == 512 << 20
