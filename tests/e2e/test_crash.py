"""kill -9 at every journal write of the sealer plan: the sector resumes, to the same commitments."""

from __future__ import annotations

from pathlib import Path

from tests.e2e import points
from tests.e2e.cluster import C2_STARTED, SECTOR_TIMEOUT, Cluster, cluster, commitments
from tests.e2e.conftest import Undisturbed


def live_until(running: Cluster, commit: int, moment: str) -> str:
    """One life of the worker: killed at its ``commit``-th write. Answers the point's event and state."""
    marker = running.root / f"point-{running.lives}"
    running.start_worker(DAMOCLES_WORKER_FAILPOINT=f"journal:{commit}:{moment}:{marker}")
    running.wait(
        lambda: marker.exists() and marker.read_text().endswith("\n"), SECTOR_TIMEOUT, "the failpoint"
    )
    running.kill()
    point = marker.read_text().strip()
    running.kills.append(points.Kill(point, moment, len(running.history())))
    return point


def _killed_within(running: Cluster, stage: str) -> None:
    """One life of the worker: killed when a part of ``stage`` is done, and not all of it."""

    def share() -> float:
        threads = running.threads()
        progress = threads[0]["progress"] if threads and threads[0]["job_stage"] == stage else None
        return progress[0] / progress[1] if progress else 0.0

    running.start_worker()
    running.wait(lambda: 0.05 < share() < 0.95, 120, f"the middle of {stage}")
    running.kill()


def _let_it_finish(running: Cluster, writes: int) -> None:
    running.start_worker()
    running.wait(running.finalized, SECTOR_TIMEOUT, "the sector")
    running.wait(lambda: len(running.history()) >= writes, what="the last write")


def _points(undisturbed: Undisturbed) -> list[str]:
    return [f"{row.event} {row.state}" for row in undisturbed.rows]


def test_killed_right_after_every_write(logged: Path, undisturbed: Undisturbed) -> None:
    """What was committed is never done again: one C2 in as many lives as there are writes."""
    expected = _points(undisturbed)
    with cluster(logged, "--sectors", "1", "--deals", "none") as running:
        killed = [live_until(running, 1, "after") for _ in expected[:-1]]
        _let_it_finish(running, len(expected))
        assert killed == expected[:-1]
        assert [f"{row.event} {row.state}" for row in running.history()] == expected
        assert commitments(running) == undisturbed.commitments
        assert running.log.count(C2_STARTED) == 1
        points.report("sealer", "right after", running.kills, running.history())


def test_killed_right_before_every_write(logged: Path, undisturbed: Undisturbed) -> None:
    """The work of the lost write is done again, to the same result; so is a C2 that was cut in its middle.

    Killed between PC2 and its write, the sealed file was encoded twice once, which only C1 noticed.
    """
    expected = _points(undisturbed)
    with cluster(logged, "--sectors", "1", "--deals", "none") as running:
        killed = []
        for point in expected[1:]:
            within = point.startswith("C2 ")
            if within:
                _killed_within(running, "C2")
            # The life that ended in the middle has written what comes before.
            killed.append(live_until(running, 1 if within else 2, "before"))
        _let_it_finish(running, len(expected))
        assert killed == expected[1:]
        assert [f"{row.event} {row.state}" for row in running.history()] == expected
        assert commitments(running) == undisturbed.commitments
        points.report("sealer", "right before", running.kills, running.history())


def test_a_synthetic_sector_killed_around_every_write_up_to_its_pre_commit(tmp_path: Path) -> None:
    """Its own states: challenges are turned into proofs, then the layers go. Two lives for each write."""
    assert _synthetic(tmp_path / "killed", kill=True) == _synthetic(tmp_path / "undisturbed", kill=False)


def _synthetic(root: Path, kill: bool) -> tuple[str, str]:
    """The commitments of a synthetic sector, up to its pre-commit; a seed that doesn't come keeps C2 away."""
    root.mkdir()
    options = ("--sectors", "1", "--deals", "none", "--synthetic", "--seed-delay", "1000000")
    with cluster(root, *options) as running:
        if kill:
            killed = [live_until(running, 1, "after")]
            while not killed[-1].startswith("SubmitPC"):
                before = live_until(running, 1, "before")
                killed.append(live_until(running, 1, "after"))
                assert killed[-1] == before
            assert "SyntheticPoRep PC2Done" in killed, killed
            assert [f"{row.event} {row.state}" for row in running.history()] == killed
        running.start_worker()
        running.wait(lambda: running.sector().get("comm_r"), what="the pre-commit")
        if kill:
            running.wait(lambda: len(running.history()) > len(killed), what="the next write")
            moment = "right before and after"
            points.report("synthetic sealer", moment, running.kills, running.history())
        return commitments(running)


def test_killed_before_the_allocation_is_written(logged: Path) -> None:
    """The one window that can't be closed: the manager's answer is lost, its sector number leaks."""
    with cluster(logged, "--sectors", "2", "--deals", "none", sealing="max_retries = 1") as running:
        assert live_until(running, 1, "before") == "Allocate Allocated"
        running.start_worker()
        running.wait(lambda: running.sector(2).get("state"), what="the second sector")
        assert running.sector(1)["state"] is None


def test_killed_in_the_middle_of_pc2_starts_from_the_staged_data(
    logged: Path, undisturbed: Undisturbed
) -> None:
    """PC2 encodes the sealed file in place: half of it must never be encoded twice."""
    with cluster(logged, "--sectors", "1", "--deals", "none") as running:
        live_until(running, len(_until(undisturbed, "PC1")), "after")
        sector = "s-t010000-1"
        (running.store / "data/cache" / sector / ".pc2_running").touch()
        (running.store / "data/sealed" / sector).write_bytes(b"\x5a" * 2048)
        running.start_worker()
        running.wait(lambda: running.sector().get("comm_r"), what="the pre-commit")
        assert commitments(running) == undisturbed.commitments
        running.call("WorkerPause", 0)


def test_an_8_mib_sector_killed_again_and_again_in_the_middle_of_pc2(tmp_path: Path) -> None:
    """The daemon's own PC2, in its process: trees that were finished stay, the rest is made again."""
    found = []
    for kills in (3, 0):
        root = tmp_path / f"{kills}"
        root.mkdir()
        options = ("--sectors", "1", "--deals", "none", "--sector-size", "8MiB", "--seed-delay", "1000000")
        with cluster(root, *options) as running:
            for _ in range(kills):
                _killed_within(running, "PC2")
                assert running.history()[-1].state == "PC1Done"
            running.start_worker()
            running.wait(lambda: running.sector().get("comm_r"), SECTOR_TIMEOUT, "the pre-commit")
            found.append(commitments(running))
            running.call("WorkerPause", 0)
    assert found[0] == found[1]


def _until(undisturbed: Undisturbed, event: str) -> list[str]:
    points = [row.event for row in undisturbed.rows]
    return points[: points.index(event) + 1]


def test_sigterm_during_a_library_call_exits_0_within_10_seconds(logged: Path) -> None:
    """The library's PC2 of 8 MiB takes long and can't be cancelled: the exit abandons it."""
    with cluster(logged, "--sectors", "1", "--deals", "none", "--sector-size", "8MiB") as running:
        running.start_worker(DAMOCLES_PC2_ENGINE="crate")
        running.wait(lambda: ": pc2 started" in running.log, what="PC2")
        assert running.terminate() == 0
        assert running.history()[-1].state == "PC1Done"
