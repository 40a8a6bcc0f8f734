"""Rebuild, unseal and WindowPoSt on a real daemon and a real devnet, from sectors that are sealed already."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from damocles_worker.manager.types import SectorPiece
from damocles_worker.sectors import unpadded
from tests.e2e.cluster import Cluster, children, cluster
from tests.e2e.sealed import SealedSector, files, remove, seal

SYNTHETIC = 10


def options(root: Path, *more: str) -> tuple[str, ...]:
    return ("--sectors", "0", "--data", str(root / "pieces"), *more)


def paused_with(running: Cluster) -> str:
    """Wait for the pause; what ``worker list`` says about it."""
    running.wait(
        lambda: running.threads() and running.threads()[0]["thread_state"]["state"] == "Paused",
        what="the pause",
    )
    error: str = running.threads()[0]["last_error"]
    return error


def done(running: Cluster, rows: int = 1) -> bool:
    """Whether so many tasks have ended, in the journal and on disk."""
    ended = sum(row.event == "Finish" and row.state == "Finished" for row in running.history())
    return ended >= rows and not any((running.store / "data").iterdir())


# ---- rebuild ------------------------------------------------------------------------------------


def test_rebuilt_sectors_are_the_old_ones_byte_for_byte(tmp_path: Path) -> None:
    sealed = [
        seal(tmp_path, 1),
        seal(tmp_path, 2, deals=True),
        seal(tmp_path, 3, deals=True, proof_type=SYNTHETIC),
    ]
    before = files(tmp_path / "persist")
    with cluster(tmp_path, *options(tmp_path), plan="rebuild") as running:
        for sector in sealed:
            running.import_sector(sector.record())
            running.order_work(plan="rebuild", number=sector.number)
            remove(running.persist, sector)
        running.start_worker()
        running.wait(lambda: all(running.sector(n).get("rebuilt") == 1 for n in (1, 2, 3)), 120, "rebuilds")
        running.wait(lambda: done(running, 3))
        assert files(running.persist) == before
        assert "not compared" not in running.log
        assert running.terminate() == 0


def test_a_sector_rebuilt_from_other_data_is_never_stored(tmp_path: Path) -> None:
    sector = seal(tmp_path, 1)
    sector.comm_r = [7] * 32
    with cluster(tmp_path, *options(tmp_path), plan="rebuild") as running:
        running.import_sector(sector.record())
        remove(running.persist, sector)
        running.order_work(plan="rebuild", number=1)
        running.start_worker()
        error = paused_with(running)
        assert "07" * 32 in error and "recorded" in error
        assert not files(running.persist) and running.state()["calls"].get("ReportAborted") is None


# ---- unseal -------------------------------------------------------------------------------------


def deal(pieces: list[SectorPiece]) -> SectorPiece:
    return next(piece for piece in pieces if not piece.is_pledge)


def whole_piece(root: Path, piece: SectorPiece) -> bytes:
    payload = (root / "pieces" / piece.piece.piece_cid.text).read_bytes()
    return payload.ljust(unpadded(piece.piece.size), b"\0")


@pytest.mark.parametrize("kind", ["sealed", "upgraded", "upgraded, old replica gone"])
def test_an_unsealed_piece_is_what_was_sealed_and_the_store_is_only_read(tmp_path: Path, kind: str) -> None:
    upgraded = kind != "sealed"
    sector = seal(tmp_path, 1, deals=not upgraded, upgraded=upgraded)
    piece = deal(sector.update_pieces if upgraded else sector.pieces)
    cid = piece.piece.piece_cid.text
    target = tmp_path / "out" / "piece"
    text = children("unseal", "transfer") if kind == "sealed" else ""
    more = ("--piece-token", "open-sesame")
    with cluster(tmp_path, *options(tmp_path, *more), plan="unseal", sealing=text) as running:
        running.readonly = True
        running.import_sector(sector.record())
        if kind.endswith("gone"):
            remove(running.persist, sector)
        before = files(running.persist)
        host = running.devnet_url.removeprefix("http://")
        running.order_work(
            plan="unseal",
            number=1,
            piece=cid,
            destinations=[
                f"file://{target}",
                f"store:///{cid}",
                f"{running.devnet_url}/piecestore/{cid}",
                f"market://store1/{cid}?host={host}&scheme=http&token=open-sesame",
            ],
        )
        running.start_worker()
        running.wait(lambda: running.state()["unseals"][0]["state"] == "finished", 60, "the piece")
        running.wait(lambda: done(running))
        assert target.read_bytes() == whole_piece(tmp_path, piece)
        assert running.state()["uploaded"] == [cid] * 3
        assert files(running.persist) == before
        assert "open-sesame" not in running.log
        assert running.terminate() == 0


@pytest.mark.parametrize("text", ["", children("transfer")], ids=["here", "by a child"])
def test_a_piece_goes_into_an_attached_store(tmp_path: Path, text: str) -> None:
    sector = seal(tmp_path, 1, deals=True)
    cid = deal(sector.pieces).piece.piece_cid.text
    with cluster(tmp_path, *options(tmp_path), plan="unseal", sealing=text) as running:
        running.import_sector(sector.record())
        destination = f"store://persist/unsealed/{cid}"
        running.order_work(plan="unseal", number=1, piece=cid, destinations=[destination])
        running.start_worker()
        running.wait(lambda: running.state()["unseals"][0]["state"] == "finished", 60, "the piece")
        assert (running.persist / "unsealed" / cid).read_bytes() == whole_piece(tmp_path, deal(sector.pieces))
        assert running.log.count(" for transfer\n") == (1 if text else 0)


@pytest.mark.parametrize(
    ("change", "texts"),
    [
        ({"offset": 2032}, ("2032", "s-t010000-1")),
        ({"offset": 1016}, ("asked for is",)),
        ({"destinations": ["ftp://elsewhere/x"]}, ("ftp://elsewhere/x", "Expected")),
        ({"destinations": ["store://elsewhere/x"]}, ("elsewhere", "[[attached]]")),
    ],
)
def test_a_piece_that_can_not_be_delivered_is_told_to_its_requester(
    tmp_path: Path, change: dict[str, Any], texts: tuple[str, ...]
) -> None:
    sector = seal(tmp_path, 1, deals=True)
    cid = deal(sector.pieces).piece.piece_cid.text
    with cluster(tmp_path, *options(tmp_path), plan="unseal") as running:
        running.import_sector(sector.record())
        order = {"plan": "unseal", "number": 1, "piece": cid, "destinations": [], **change}
        running.order_work(**order)
        running.start_worker()
        error = paused_with(running)
        running.wait(lambda: running.state()["unseals"][0]["state"] == "failed", what="the notice")
        unseal = running.state()["unseals"][0]
        for text in texts:
            assert text in error and text in unseal["error"]
        assert running.call("WorkerResume", 0, "Aborted") is True
        running.wait(lambda: running.history()[-1].event == "Aborted", what="the end")
        assert running.state()["calls"].get("ReportAborted") is None


def test_missing_and_short_files_of_a_sector_are_named(tmp_path: Path) -> None:
    sector = seal(tmp_path, 1, deals=True)
    cid = deal(sector.pieces).piece.piece_cid.text
    with cluster(tmp_path, *options(tmp_path), plan="unseal") as running:
        running.import_sector(sector.record())
        replica = running.persist / "sealed" / sector.text
        content = replica.read_bytes()
        replica.write_bytes(content[:1000])
        running.order_work(plan="unseal", number=1, piece=cid, destinations=[])
        running.start_worker()
        error = paused_with(running)
        assert str(replica) in error and "1000" in error and "2048" in error
        replica.unlink()
        running.call("WorkerResume", 0, None)
        running.wait(lambda: "missing" in paused_with(running), what="the second pause")
        replica.write_bytes(content)
        running.call("WorkerResume", 0, None)
        running.wait(lambda: done(running), what="the end")


# ---- snapup -------------------------------------------------------------------------------------


@pytest.mark.parametrize("missing", ["sealed/s-t010000-1", "cache/s-t010000-1/p_aux"])
def test_an_upgrade_of_a_sector_whose_files_are_missing_waits_for_the_operator(
    tmp_path: Path, missing: str
) -> None:
    """Before any long work, and without losing the sector: the files can be brought back."""
    sector = seal(tmp_path, 1)
    # Copied instead of linked in one of the cases.
    text = children("transfer") + 'envs = { DISABLE_LINK = "true" }\n' if "aux" in missing else ""
    with cluster(tmp_path, *options(tmp_path), plan="snapup", sealing=text) as running:
        running.import_sector(sector.record())
        gone = running.persist / missing
        gone.rename(tmp_path / "gone")
        running.order_work(plan="snapup", number=1)
        running.start_worker()
        error = paused_with(running)
        assert str(gone) in error and sector.text in error and "resume" in error
        (tmp_path / "gone").rename(gone)
        assert running.call("WorkerResume", 0, None) is True
        running.wait(lambda: running.history()[-1].event == "SnapEncode", what="the encoding")
        running.call("WorkerPause", 0)
        assert (running.store / "data" / "sealed" / sector.text).is_symlink() == (not text)
        assert running.state()["calls"].get("ReportAborted") is None
        running.kill()


# ---- WindowPoSt ---------------------------------------------------------------------------------

PROVER = ("--worker-prover", "--heartbeat-timeout", "6")


def jobs(running: Cluster) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = running.state()["jobs"]
    return found


def window(tmp_path: Path) -> list[SealedSector]:
    return [seal(tmp_path, 1), seal(tmp_path, 2, upgraded=True)]


def test_a_window_proof_holds_for_sealed_and_for_upgraded_sectors(tmp_path: Path) -> None:
    sealed = window(tmp_path)
    text = children("window_post")
    with cluster(tmp_path, *options(tmp_path, *PROVER), plan="wdpost", sealing=text) as running:
        running.readonly = True
        for sector in sealed:
            running.import_sector(sector.record())
        running.order_work(plan="wdpost", numbers=[1, 2])
        running.start_worker()
        running.wait(lambda: jobs(running)[0]["state"] == "finished", 120, "the proof")
        assert jobs(running)[0]["verified"] is True and jobs(running)[0]["faults"] == []
        assert running.threads()[0]["location"] == "-"
        assert running.terminate() == 0


def test_a_truncated_replica_is_listed_as_a_fault(tmp_path: Path) -> None:
    sealed = window(tmp_path)
    with cluster(tmp_path, *options(tmp_path, *PROVER), plan="wdpost") as running:
        for sector in sealed:
            running.import_sector(sector.record())
        (running.persist / "sealed" / sealed[0].text).write_bytes(b"\1" * 32)
        running.order_work(plan="wdpost", numbers=[1, 2])
        running.start_worker()
        running.wait(lambda: jobs(running)[0]["state"] == "finished", 120, "the outcome")
        assert jobs(running)[0]["faults"] == [1] and jobs(running)[0]["verified"] is None


def test_a_missing_store_is_told_to_the_manager(tmp_path: Path) -> None:
    sealed = window(tmp_path)
    with cluster(tmp_path, *options(tmp_path, *PROVER), plan="wdpost") as running:
        for sector in sealed:
            running.import_sector(sector.record())
        running.order_work(plan="wdpost", numbers=[1], store="elsewhere")
        running.start_worker()
        running.wait(lambda: jobs(running)[0]["state"] == "finished", 60, "the outcome")
        job = jobs(running)[0]
        assert len(job["failures"]) == 2 and "elsewhere" in job["error"] and "s-t010000-1" in job["error"]


def test_a_job_survives_hung_calls_and_a_stopping_worker_hands_its_outcome_in(tmp_path: Path) -> None:
    sector = seal(tmp_path, 1)
    with cluster(tmp_path, *options(tmp_path, *PROVER), plan="wdpost") as running:
        running.import_sector(sector.record())
        # The answer to the outcome hangs for longer than the manager waits for a heartbeat.
        running.order({"method": "WdPoStFinishJob", "action": "delay", "seconds": 7, "count": 1})
        running.order_work(plan="wdpost", numbers=[1])
        running.start_worker()
        running.wait(lambda: jobs(running)[0]["heartbeats"] >= 2, 60, "heartbeats")
        running.wait(lambda: jobs(running)[0]["state"] == "finished", 60, "the proof")
        assert jobs(running)[0]["tries"] == 1 and jobs(running)[0]["verified"] is True
        running.order({"method": "WdPoStFinishJob", "action": "delay", "seconds": 30, "count": 1})
        running.order_work(plan="wdpost", numbers=[1], store="elsewhere")
        running.wait(lambda: running.threads()[0]["job_state"] == "Generated", what="the second job")
        assert running.terminate() == 0
        # The outcome was known; that the worker was stopped is no reason to say something else.
        assert len(jobs(running)[1]["failures"]) == 1 and "elsewhere" in jobs(running)[1]["failures"][0]
