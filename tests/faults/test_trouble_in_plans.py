"""Trouble around a plan that is under way: the manager away or talking rubbish, a piece that is another."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.e2e.cluster import SECTOR_TIMEOUT, Cluster, cluster
from tests.e2e.sealed import SealedSector, files, remove, seal
from tests.e2e.test_plans import deal, done, jobs, options


def rebuild(running: Cluster, sector: SealedSector) -> Callable[[], bool]:
    remove(running.persist, sector)
    running.order_work(plan="rebuild", number=1)
    return lambda: running.sector()["rebuilt"] == 1 and done(running)


def unseal(running: Cluster, sector: SealedSector) -> Callable[[], bool]:
    target = running.root / "out"
    piece = deal(sector.pieces).piece.piece_cid.text
    running.order_work(plan="unseal", number=1, piece=piece, destinations=[f"file://{target}"])
    return lambda: target.exists() and done(running)


def wdpost(running: Cluster, _sector: SealedSector) -> Callable[[], bool]:
    running.order_work(plan="wdpost", numbers=[1])
    return lambda: jobs(running)[0]["verified"] is True


PLANS = {"rebuild": rebuild, "unseal": unseal, "wdpost": wdpost}
#: What is called for a task once it is handed out.
LATER_CALLS = ("Report*", "FindSector", "StoreReserveSpace", "*Unseal*Dest", "Achieve*", "WdPoStFinishJob")


@pytest.mark.parametrize("action", ["refuse", "http502", "truncate"])
@pytest.mark.parametrize("plan", PLANS)
def test_a_manager_that_goes_away_in_the_middle_is_waited_for(tmp_path: Path, plan: str, action: str) -> None:
    sector = seal(tmp_path, 1, deals=plan == "unseal")
    more = ("--worker-prover", "--heartbeat-timeout", "300")
    with cluster(tmp_path, *options(tmp_path, *more), plan=plan) as running:
        running.import_sector(sector.record())
        finished = PLANS[plan](running, sector)
        running.order(*({"method": method, "action": action, "count": None} for method in LATER_CALLS))
        running.start_worker()
        # A proof may have to be computed first.
        message = "waiting for the manager"
        running.wait(lambda: message in last_error(running), SECTOR_TIMEOUT, "the message")
        assert running.devnet_url in last_error(running) and "damocles-manager runs" in last_error(running)
        running.clear_faults()
        running.wait(finished, SECTOR_TIMEOUT, "the end")
        assert running.state()["calls"].get("ReportAborted") is None


@pytest.mark.parametrize("local", [False, True], ids=["from the manager", "in a local directory"])
@pytest.mark.parametrize("damage", ["shorter", "longer", "other bytes"])
def test_a_piece_that_is_not_the_deals_never_gets_into_a_sector(
    tmp_path: Path, damage: str, local: bool
) -> None:
    sector = seal(tmp_path, 1, deals=True)
    before = files(tmp_path / "persist")
    piece = deal(sector.pieces)
    with cluster(tmp_path, *options(tmp_path), plan="rebuild") as running:
        directory = tmp_path / "local"
        if local:
            (tmp_path / "pieces").rename(directory)
            (tmp_path / "pieces").mkdir()
            running.worker_keys = f'local_pieces_dirs = ["{directory}"]'
        file = (directory if local else tmp_path / "pieces") / piece.piece.piece_cid.text
        good = file.read_bytes()
        file.write_bytes({"shorter": good[:-9], "longer": good + b"!", "other bytes": good[::-1]}[damage])
        running.import_sector(sector.record())
        finished = rebuild(running, sector)
        running.start_worker()
        if damage != "longer":
            # What is behind the payload is not the deal's and is left out.
            running.wait(lambda: piece.piece.piece_cid.text in last_error(running), what="the message")
            error = last_error(running)
            assert error.startswith("permanent: ") and "resume" in error
            assert f"sector {sector.text}" in error and piece.piece.piece_cid.text in error
            assert damage == "other bytes" or str(len(good)) in error
            assert not local or str(file) in error
            file.write_bytes(good)
            assert running.call("WorkerResume", 0, None) is True
        running.wait(finished, what="the rebuild")
        assert files(running.persist) == before


def last_error(running: Cluster) -> str:
    threads = running.threads()
    return str(threads[0]["last_error"] or "") if threads else ""
