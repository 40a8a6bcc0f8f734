"""kill -9 before and after every journal write of the other plans: each resumes, to the same result.

Every write is met twice: a life that is killed before it, which loses it, and one that is killed after it.
So the long work of a write is done twice and no more.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from tests.e2e import points as crash_points
from tests.e2e.cluster import SECTOR_TIMEOUT, SNAP_STARTED, Cluster, children, cluster
from tests.e2e.sealed import SealedSector, files, remove, seal, upgrade
from tests.e2e.test_crash import live_until
from tests.e2e.test_plans import deal, options, whole_piece


def _kill_at_every_write(running: Cluster, order: Callable[[], None]) -> list[str]:
    """Live through a task in as many lives as it takes; answers the points, ``event state``."""
    order()
    before = live_until(running, 1, "before")
    # The one window that can't be closed: the answer to the allocation is lost.
    order()
    points = [live_until(running, 1, "after")]
    assert points == [before]
    while not crash_points.is_over(running.history()):
        before = live_until(running, 1, "before")
        points.append(live_until(running, 1, "after"))
        assert points[-1] == before
    assert [f"{row.event} {row.state}" for row in running.history()] == points
    return points


def _let_it_finish(running: Cluster) -> None:
    running.start_worker()
    running.wait(lambda: running.threads() and not any((running.store / "data").iterdir()))
    assert running.terminate() == 0
    crash_points.report(running.plan, "right before and after", running.kills, running.history())


def _expect(points: list[str], *events: str) -> None:
    assert [point.split()[0] for point in points] == list(events)


def test_rebuild_of_an_upgraded_sector(logged: Path) -> None:
    sector = seal(logged, 1, upgraded=True)
    before = files(logged / "persist")
    with cluster(logged, *options(logged), plan="rebuild") as running:
        running.import_sector(sector.record())
        remove(running.persist, sector, update=True)
        points = _kill_at_every_write(running, lambda: running.order_work(plan="rebuild", number=1))
        _expect(
            points, "AllocatedRebuildSector", "AddPiece", "BuildTreeD", "PC1", "PC2", "CheckSealed",
            "AddPiece", "BuildTreeD", "SnapEncode", "SnapProve", "Persist", "SubmitPersistance", "Finish",
        )  # fmt: skip
        _let_it_finish(running)
        assert running.sector()["rebuilt"] == 1
        assert files(running.persist) == before
        assert running.log.count(SNAP_STARTED) == 2


def test_rebuild_of_a_sector_with_deals(logged: Path) -> None:
    sector = seal(logged, 1, deals=True)
    before = files(logged / "persist")
    with cluster(logged, *options(logged), plan="rebuild") as running:
        running.import_sector(sector.record())
        remove(running.persist, sector)
        _kill_at_every_write(running, lambda: running.order_work(plan="rebuild", number=1, legacy=True))
        _let_it_finish(running)
        assert running.sector()["rebuilt"] == 1 and files(running.persist) == before


def test_snapup_through_external_processors(logged: Path) -> None:
    sector = seal(logged, 1)
    text = children("add_pieces", "snap_encode", "snap_prove", "transfer")
    with cluster(logged, *options(logged), plan="snapup", sealing=text) as running:
        running.import_sector(sector.record())
        before = files(running.persist)
        points = _kill_at_every_write(running, lambda: running.order_work(plan="snapup", number=1))
        _expect(
            points, "AllocatedSnapUpSector", "AddPiece", "BuildTreeD", "SnapEncode", "SnapProve", "Persist",
            "Finish", "Finish",
        )  # fmt: skip
        _let_it_finish(running)
        landed = running.sector()["upgrade"]
        assert landed["proof_verified"] and landed["landed"]
        assert running.log.count(SNAP_STARTED) == 2
        after = files(running.persist)
        assert {name: after[name] for name in before} == before, "the old replica is only read"
        # The devnet's deals follow from its own seed.
        expected = upgrade(logged, sector, "devnet upgrade")
        assert sector.update is not None and landed["comm_r"] == bytes(sector.update.comm_r_new).hex()
        assert {name: content for name, content in after.items() if name not in before} == expected
        assert len(expected) == 4, "the update, its p_aux, its t_aux and its tree_r_last"
        assert running.children_left() == [], "they end with a daemon that is killed"


def test_unseal(logged: Path) -> None:
    sector = seal(logged, 1, upgraded=True)
    with cluster(logged, *options(logged), plan="unseal") as running:
        running.import_sector(sector.record())
        _unseal_in_many_lives(running, logged, sector)


def _unseal_in_many_lives(running: Cluster, root: Path, sector: SealedSector) -> None:
    piece = deal(sector.update_pieces)
    cid = piece.piece.piece_cid.text
    targets = [root / "out-1" / cid, root / "out-2" / cid]
    destinations = [f"file://{target}" for target in targets]
    before = files(running.persist)
    points = _kill_at_every_write(
        running,
        lambda: running.order_work(plan="unseal", number=1, piece=cid, destinations=destinations),
    )
    _expect(
        points, "AllocatedUnsealSector", "Unsealed", "UploadPiece", "UploadPiece", "UploadPieceDone",
        "Finish",
    )  # fmt: skip
    _let_it_finish(running)
    assert running.state()["unseals"][-1]["state"] == "finished"
    assert [target.read_bytes() for target in targets] == [whole_piece(root, piece)] * 2
    assert files(running.persist) == before


def test_window_post(tmp_path: Path) -> None:
    """Nothing is on disk: a killed worker's job is handed out again after its heartbeat timeout."""
    sector = seal(tmp_path, 1)
    more = ("--worker-prover", "--heartbeat-timeout", "4")
    with cluster(tmp_path, *options(tmp_path, *more), plan="wdpost") as running:
        running.import_sector(sector.record())
        running.order({"method": "WdPoStFinishJob", "action": "refuse", "count": None})
        running.order_work(plan="wdpost", numbers=[1])
        running.start_worker()
        running.wait(lambda: running.threads() and running.threads()[0]["job_state"] == "Generated")
        running.kill()
        running.clear_faults()
        running.start_worker()
        running.wait(lambda: running.state()["jobs"][0]["state"] == "finished", SECTOR_TIMEOUT, "the proof")
        job = running.state()["jobs"][0]
        assert job["failures"] == ["heartbeat timeout"] and job["tries"] == 2 and job["verified"] is True


def test_window_post_killed_around_every_write(tmp_path: Path) -> None:
    """Each job is ended by a later life if the manager has not heard of its end, and by none if it has.

    The outcome is that the sector is faulty, which takes no proof to find out.
    """
    sector = seal(tmp_path, 1)
    more = ("--worker-prover", "--heartbeat-timeout", "1")
    with cluster(tmp_path, *options(tmp_path, *more), plan="wdpost") as running:
        running.import_sector(sector.record())
        (running.persist / "sealed" / sector.text).write_bytes(b"\1" * 32)
        points = []
        for commit in range(1, len(WINDOW_POST_WRITES) + 1):
            for moment in ("before", "after"):
                running.order_work(plan="wdpost", numbers=[1])
                points.append(live_until(running, commit, moment))
                _job_is_ended_once(running, told=points[-1].startswith("Finish"))
        assert points == [write for write in WINDOW_POST_WRITES for _ in ("before", "after")]
        resumed = f"{len(WINDOW_POST_WRITES)} points, {len(WINDOW_POST_WRITES)} resumed"
        crash_points.LINES.append(f"kill -9, wdpost, right before and after the write: {resumed}")


#: The last one forgets the job.
WINDOW_POST_WRITES = ("Allocate Allocated", "Generate Generated", "Finish Finished", "Finish Finished")


def _job_is_ended_once(running: Cluster, *, told: bool) -> None:
    """Start a life that nobody kills, until the job of the life before has ended; then end it."""
    (job,) = running.state()["jobs"]
    assert job["state"] == ("finished" if told else "running")
    if not told:
        running.start_worker()
        running.wait(lambda: running.state()["jobs"][0]["state"] == "finished", what="the outcome")
        running.kill()
        (job,) = running.state()["jobs"]
    assert job["faults"] == [1] and not job["error"]
    assert (job["tries"], job["failures"]) == ((1, []) if told else (2, ["heartbeat timeout"]))
