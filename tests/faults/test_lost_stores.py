"""A store that goes away in the middle of a plan is waited for; nothing is lost or written in its place."""

from __future__ import annotations

import errno
import os
import time
from pathlib import Path

import pytest

from damocles_worker.journal import read_history
from tests.e2e.cluster import Cluster, children, cluster
from tests.e2e.sealed import SealedSector, files, remove, seal
from tests.e2e.test_plans import deal, done, jobs, options, whole_piece
from tests.unit.mounts import Vanishing, vanishing

KINDS = pytest.mark.parametrize("mounted", [False, True], ids=["moved away", "unmounted"])
COPIES = pytest.mark.parametrize("text", ["", children("transfer")], ids=["copied here", "by a child"])


def waits_for(running: Cluster, store: Path, sector: SealedSector) -> None:
    """Wait until ``worker list`` and the manager are told what is waited for, and what to do."""

    def said() -> bool:
        thread = running.threads()[0]
        error = str(thread["last_error"] or "")
        return "waiting for store" in error and str(store) in error

    running.wait(said, what="the message")
    thread = running.threads()[0]
    assert thread["job_id"] == sector.text and thread["thread_state"]["state"] == "Paused"
    assert thread["last_error"].startswith("temporary: ") and "goes on by itself" in thread["last_error"]
    assert f"sector {sector.text}" in thread["last_error"]


def held(running: Cluster, state: str) -> None:
    running.wait(lambda: running.threads() and running.threads()[0]["job_state"] == state, what=state)


@COPIES
@KINDS
def test_nothing_is_persisted_beside_a_store_that_went_away(tmp_path: Path, mounted: bool, text: str) -> None:
    with vanishing(tmp_path / "persist", mounted=mounted) as store:
        sector = seal(tmp_path, 1)
        before = files(store.path)
        with cluster(tmp_path, *options(tmp_path), plan="rebuild", sealing=text) as running:
            running.import_sector(sector.record())
            remove(running.persist, sector)
            running.order({"method": "StoreReserveSpace", "action": "null", "count": None})
            running.order_work(plan="rebuild", number=1)
            running.start_worker()
            held(running, "SnapDone")
            store.go_away()
            running.clear_faults()
            waits_for(running, store.path, sector)
            store.come_back()
            running.wait(lambda: running.sector()["rebuilt"] == 1 and done(running), what="the rebuild")
            assert files(store.path) == before


@KINDS
def test_the_sealing_store_itself_is_waited_for(tmp_path: Path, mounted: bool) -> None:
    sector = seal(tmp_path, 1)
    before = files(tmp_path / "persist")
    with (
        vanishing(tmp_path / "store", mounted=mounted) as store,
        cluster(tmp_path, *options(tmp_path), plan="rebuild") as running,
    ):
        running.import_sector(sector.record())
        remove(running.persist, sector)
        running.order({"method": "FindSector", "action": "refuse", "count": None})
        running.order_work(plan="rebuild", number=1)
        running.start_worker()
        held(running, "PC2Done")
        store.go_away()
        running.clear_faults()
        waits_for(running, store.path, sector)
        store.come_back()
        running.wait(lambda: running.sector()["rebuilt"] == 1 and done(running), what="the rebuild")
        assert files(running.persist) == before
        assert running.terminate() == 0


def test_an_idle_thread_whose_store_went_away_goes_on_with_its_hot_file_later(tmp_path: Path) -> None:
    """The missing hot file is not a removed one: nothing may be taken for the plan of the main file."""
    (tmp_path / "pieces").mkdir()
    with (
        vanishing(tmp_path / "store", mounted=False) as store,
        cluster(tmp_path, *options(tmp_path, "--sectors", "1"), plan="sealer") as running,
    ):
        running.sealing = "request_task_max_retries = 1"
        (store.path / "config.toml").write_text('plan = "unseal"\n')
        running.start_worker()
        running.wait(lambda: running.state()["calls"].get("AllocateUnsealSector"), what="the hot plan")
        store.go_away()
        running.wait(lambda: "waiting for store" in str(running.threads()[0]["last_error"]), what="the error")
        assert running.threads()[0]["plan"] == "unseal"
        asked = running.state()["calls"]["AllocateUnsealSector"]
        store.come_back()
        running.wait(lambda: running.state()["calls"]["AllocateUnsealSector"] > asked, what="the next ask")
        assert not running.state()["sectors"]


@KINDS
def test_a_piece_is_unsealed_when_its_store_is_back(tmp_path: Path, mounted: bool) -> None:
    with vanishing(tmp_path / "persist", mounted=mounted) as store:
        sector = seal(tmp_path, 1, deals=True)
        piece = deal(sector.pieces)
        target = tmp_path / "out"
        with cluster(tmp_path, *options(tmp_path), plan="unseal") as running:
            running.import_sector(sector.record())
            running.order({"method": "FindSector", "action": "refuse", "count": None})
            cid = piece.piece.piece_cid.text
            running.order_work(plan="unseal", number=1, piece=cid, destinations=[f"file://{target}"])
            running.start_worker()
            held(running, "Allocated")
            store.go_away()
            running.clear_faults()
            waits_for(running, store.path, sector)
            assert running.state()["unseals"][0]["state"] == "allocated", "the requester goes on waiting"
            store.come_back()
            running.wait(lambda: done(running), what="the piece")
            assert target.read_bytes() == whole_piece(tmp_path, piece)


@COPIES
@KINDS
def test_a_piece_for_a_store_that_went_away_is_not_left_beside_it(
    tmp_path: Path, mounted: bool, text: str
) -> None:
    sector = seal(tmp_path, 1, deals=True)
    piece = deal(sector.pieces)
    cid = piece.piece.piece_cid.text
    destination = f"store://other/unsealed/{cid}"
    with (
        vanishing(tmp_path / "other", mounted=mounted) as store,
        cluster(tmp_path, *options(tmp_path, "--store", f"other={store.path}"), plan="unseal") as running,
    ):
        running.sealing = text
        running.more_stores = {"other": store.path}
        running.import_sector(sector.record())
        running.order({"method": "AcquireUnsealDest", "action": "refuse", "count": None})
        running.order_work(plan="unseal", number=1, piece=cid, destinations=[destination])
        running.start_worker()
        held(running, "Unsealed")
        store.go_away()
        running.clear_faults()
        waits_for(running, store.path, sector)
        store.come_back()
        running.wait(lambda: done(running), what="the upload")
        assert (store.path / "unsealed" / cid).read_bytes() == whole_piece(tmp_path, piece)


@KINDS
def test_an_upgrade_is_encoded_when_the_store_of_the_old_replica_is_back(
    tmp_path: Path, mounted: bool
) -> None:
    with vanishing(tmp_path / "persist", mounted=mounted) as store:
        sector = seal(tmp_path, 1)
        with cluster(tmp_path, *options(tmp_path), plan="snapup") as running:
            running.import_sector(sector.record())
            running.order({"method": "StoreBasicInfo", "action": "refuse", "count": None})
            running.order_work(plan="snapup", number=1)
            running.start_worker()
            held(running, "TreeDBuilt")
            store.go_away()
            running.clear_faults()
            waits_for(running, store.path, sector)
            store.come_back()
            running.wait(lambda: running.history()[-1].event == "SnapEncode", what="the encoding")
            running.kill()


@KINDS
def test_sectors_of_a_store_that_went_away_are_not_called_faulty(tmp_path: Path, mounted: bool) -> None:
    """It happens while the replica is read: the manager hears of the store, and hands the job out again."""
    with vanishing(tmp_path / "persist", mounted=mounted) as store:
        sector = seal(tmp_path, 1)
        more = ("--worker-prover", "--heartbeat-timeout", "60")
        with cluster(tmp_path, *options(tmp_path, *more), plan="wdpost") as running:
            running.import_sector(sector.record())
            aux = store.path / "cache" / sector.text / "p_aux"
            content = aux.read_bytes()
            aux.unlink()
            os.mkfifo(aux)
            running.order_work(plan="wdpost", numbers=[1])
            running.start_worker()
            writer = opened_for_writing(running, aux)
            store.go_away()
            os.write(writer, content)
            os.close(writer)
            running.wait(lambda: jobs(running)[0]["failures"], what="the failure")
            assert "persist" in jobs(running)[0]["failures"][0] and not jobs(running)[0]["faults"]
            running.kill()
            store.come_back()


def opened_for_writing(running: Cluster, fifo: Path) -> int:
    """Open a pipe once the worker reads from it; answers the descriptor."""
    deadline = time.monotonic() + 60
    while True:
        running.alive()
        try:
            return os.open(fifo, os.O_WRONLY | os.O_NONBLOCK)
        except OSError as error:
            assert error.errno == errno.ENXIO and time.monotonic() < deadline, "nobody reads p_aux"
            time.sleep(0.02)


def under_way(running: Cluster, store: Vanishing) -> None:
    """Take a sector into the store, end the worker, and unmount the disk with it."""
    marker = running.root / "at-pieces"
    running.start_worker(DAMOCLES_WORKER_FAILPOINT=f"journal:3:after:{marker}")
    running.wait(marker.exists, what="the sector")
    running.kill()
    store.go_away()


def test_a_disk_that_is_mounted_while_the_worker_is_idle_goes_on_with_its_sector(tmp_path: Path) -> None:
    """At the start it was not mounted, and a store was made in the empty directory."""
    with (
        vanishing(tmp_path / "store", mounted=True) as store,
        cluster(tmp_path, "--sectors", "1", "--deals", "none") as running,
    ):
        under_way(running, store)
        running.start_worker()
        running.wait(lambda: running.threads() and (store.path / "meta/journal.db").exists(), what="a store")
        time.sleep(1)
        store.come_back(over_files=True)
        running.wait(lambda: any(row.state == "PC2Done" for row in running.history()), what="PC2")
        assert len(running.state()["sectors"]) == 1
        running.kill()


def test_a_sector_is_not_left_behind_for_a_disk_that_is_mounted_over_it(tmp_path: Path) -> None:
    with (
        vanishing(tmp_path / "store", mounted=True) as store,
        cluster(tmp_path, "--sectors", "2", "--deals", "none") as running,
    ):
        under_way(running, store)
        running.order({"method": "AssignTicket", "action": "refuse", "count": None})
        running.start_worker()
        running.wait(lambda: len(running.state()["sectors"]) == 2, what="the second sector")
        store.come_back(over_files=True)
        text = "s-t010000-2 is under way in the store that was at"
        running.wait(lambda: text in str((running.threads() or [{}])[0].get("last_error")), what="the error")
        assert "now holds s-t010000-1" in running.threads()[0]["last_error"]
        running.clear_faults()
        store.go_away()
        running.wait(lambda: any(row.state == "PC2Done" for row in running.history()), what="PC2")
        assert {row.sector for row in running.history()} == {"s-t010000-2"}
        running.kill()


def test_a_sector_goes_on_where_its_disk_is_when_two_disks_are_swapped(tmp_path: Path) -> None:
    """The idle thread emptied the store that it found at its location."""
    one, two = tmp_path / "store", tmp_path / "two"
    with cluster(tmp_path, "--sectors", "1", "--deals", "none") as running:
        running.sealing = f'[[sealing_thread]]\nlocation = "{two}"'
        running.order({"method": "AssignTicket", "action": "refuse", "count": None})
        running.start_worker()

        def at(store: Path) -> list[str]:
            journal = store / "meta/journal.db"
            return [row.state for row in read_history(store / "meta")] if journal.exists() else []

        running.wait(lambda: two.exists() and (at(one) or at(two)), what="the sector")
        before, after = (one, two) if at(one) else (two, one)
        after.rename(tmp_path / "aside")
        before.rename(after)
        (tmp_path / "aside").rename(before)
        running.clear_faults()
        running.wait(lambda: "PC2Done" in at(after), what="PC2")
        assert not at(before) and len(running.state()["sectors"]) == 1
        running.kill()
