"""A sealing thread between an operator and a manager that do what they like."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from damocles_worker.errors import Level, WorkerError
from damocles_worker.manager.rpc_error import bad_answer, refused_by_manager
from damocles_worker.manager.types import WindowPoStOutput
from damocles_worker.sealing import stages
from damocles_worker.sealing.active import HOT_NEXT_STEP
from damocles_worker.sealing.machine.events import Failure
from damocles_worker.sealing.thread import SealingThread
from tests.machine.world import JOB, unsealed
from tests.unit.sealing.harness import SECTOR, Bench, Manager, away, hang, instead_of_stages, until

#: A pause or a resume acts within this, seconds: one second is promised, and this machine may be busy.
ACTS = 3.0


def run(bench: Bench, story: Callable[[SealingThread], Awaitable[None]]) -> None:
    async def main() -> None:
        async with bench.running() as thread:
            await story(thread)

    asyncio.run(main())


def last_error(thread: SealingThread) -> str:
    return thread.info().last_error or ""


@pytest.fixture
def idle_sizes(monkeypatch: pytest.MonkeyPatch) -> None:
    instead_of_stages(monkeypatch, reserve_space=[2048])


# ---- why there is no work -----------------------------------------------------------------------


@pytest.mark.usefixtures("idle_sizes")
def test_a_manager_that_is_down_is_shown_by_an_idle_thread_and_logged_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    bench = Bench(tmp_path / "store", Manager(allocate_sector=away("AllocateSector")))

    async def story(thread: SealingThread) -> None:
        # Of four requests is a run.
        await until(lambda: bench.manager.count("allocate_sector") > 9)
        assert "can't be reached" in last_error(thread)
        # Between two requests: while one is being answered it is at work.
        await until(lambda: thread.info().state == "Idle")
        assert "can't be reached" in last_error(thread)
        bench.manager.answers["allocate_sector"] = None
        await until(lambda: not last_error(thread))

    with caplog.at_level(logging.WARNING):
        run(bench, story)
    assert caplog.text.count("can't be reached") == 1


@pytest.mark.usefixtures("idle_sizes")
def test_an_idle_thread_does_not_log_each_time_it_asks_for_work(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    bench = Bench(tmp_path / "store", Manager(allocate_sector=None))

    async def story(_thread: SealingThread) -> None:
        await until(lambda: bench.manager.count("allocate_sector") > 9)

    with caplog.at_level(logging.INFO):
        run(bench, story)
    assert "reserve_space" not in caplog.text


@pytest.mark.usefixtures("idle_sizes")
@pytest.mark.parametrize(
    ("error", "shown"),
    [
        (refused_by_manager("AllocateSector", "http://m", -32601, "not found"), "does not serve this method"),
        (bad_answer("AllocateSector", "http://m", "sent a result that can't be read: x: '{\"Id\"'"), '{"Id"'),
    ],
)
def test_a_manager_that_answers_nonsense_is_shown_with_what_it_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, error: Exception, shown: str
) -> None:
    bench = Bench(tmp_path / "store", Manager(allocate_sector=error))

    async def story(thread: SealingThread) -> None:
        await until(lambda: shown in last_error(thread))
        assert ("queue it again at the manager" in last_error(thread)) == ("Id" in shown)

    run(bench, story)
    assert shown in caplog.text


def test_a_stage_that_waits_for_parameters_is_not_logged_each_time_it_looks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    looked = 0
    there = asyncio.Event()

    async def tree_d(_task: Any, _args: Any, progress: Callable[[int, int], None]) -> None:
        nonlocal looked
        looked += 1
        progress(0, 10)
        if not there.is_set():
            raise WorkerError("no parameters", next_step="Put them there", waits_for="parameters")
        progress(1, 10)

    instead_of_stages(monkeypatch, reserve_space=[2048], add_pieces=[], tree_d=tree_d)
    bench = Bench(tmp_path / "store", Manager(allocate_sector=SECTOR, assign_ticket=hang))

    async def story(thread: SealingThread) -> None:
        await until(lambda: looked > 4)
        assert "no parameters" in last_error(thread)
        assert [caplog.text.count(f"tree_d {what}") for what in ("started", "goes on")] == [1, 0]
        there.set()
        await until(lambda: bench.manager.count("assign_ticket") == 1)

    with caplog.at_level(logging.INFO):
        run(bench, story)
    assert [caplog.text.count(f"tree_d {what}") for what in ("started", "goes on")] == [1, 1]


# ---- settings -----------------------------------------------------------------------------------


@pytest.mark.usefixtures("idle_sizes")
def test_a_hot_file_changed_during_a_pause_is_in_force_for_the_next_sector(tmp_path: Path) -> None:
    bench = Bench(tmp_path / "store", Manager())

    async def story(thread: SealingThread) -> None:
        await until(lambda: bench.manager.count("allocate_sector") > 0)
        thread.pause()
        await until(lambda: thread.info().state == "Paused", ACTS)
        asked = bench.manager.count("allocate_sector")
        bench.hot = (replace(bench.config, plan="rebuild"), None)
        assert thread.resume(None) is None
        await until(lambda: bench.manager.count("allocate_rebuild_sector") > 0)
        assert bench.manager.count("allocate_sector") == asked

    run(bench, story)


def test_a_broken_hot_file_is_shown_beside_the_failure_until_it_is_mended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also while a sector is under way, whose settings stay as they are."""
    broken = WorkerError("the piece is short", level=Level.PERMANENT, next_step="Get it again")

    async def fails(*_: Any) -> None:
        raise broken

    instead_of_stages(monkeypatch, reserve_space=[2048], add_pieces=fails)
    bench = Bench(tmp_path / "store", Manager(allocate_sector=SECTOR))
    bench.hot = (
        bench.config,
        Failure(Level.CRITICAL, "the hot file is not used: config.toml:3: no such key", HOT_NEXT_STEP),
    )

    async def story(thread: SealingThread) -> None:
        await until(lambda: thread.info().state == "Paused")
        assert "the piece is short" in last_error(thread) and "config.toml:3" in last_error(thread)
        bench.hot = (replace(bench.config, plan="rebuild"), None)
        await until(lambda: "config.toml:3" not in last_error(thread))
        assert "the piece is short" in last_error(thread) and thread.info().plan == "sealer"

    run(bench, story)


# ---- pauses -------------------------------------------------------------------------------------


def test_a_pause_does_not_wait_for_a_manager_that_does_not_listen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun: list[str] = []

    async def pieces(*_: Any) -> None:
        begun.append("add_pieces")

    instead_of_stages(monkeypatch, reserve_space=[2048], add_pieces=pieces)
    bench = Bench(tmp_path / "store", Manager(allocate_sector=SECTOR, report_state=hang))

    async def story(thread: SealingThread) -> None:
        await until(lambda: bench.manager.count("report_state") == 1)
        assert thread.pause() and not thread.pause()
        await until(lambda: thread.info().state == "Paused", ACTS)
        assert not begun and thread.info().job_id == "s-t01000-7"
        assert thread.resume(None) is None
        await until(lambda: bool(begun), ACTS)

    run(bench, story)


def test_a_pause_outlives_a_job_that_ends_before_it_can_act(monkeypatch: pytest.MonkeyPatch) -> None:
    go_on = asyncio.Event()

    async def fails(*_: Any) -> None:
        await go_on.wait()
        raise WorkerError("it is broken", level=Level.PERMANENT, next_step="Mend it")

    instead_of_stages(monkeypatch, window_post=fails)
    bench = Bench(None, Manager(wdpost_allocate_jobs=[[JOB], [JOB]]), "wdpost")

    async def story(thread: SealingThread) -> None:
        await until(lambda: thread.info().job_state == "Allocated" and thread.info().processor is not None)
        thread.pause()
        await asyncio.sleep(0.1)
        go_on.set()
        await until(lambda: thread.info().state == "Paused", ACTS)
        assert thread.info().job_id is None and bench.manager.count("wdpost_allocate_jobs") == 1

    run(bench, story)


@pytest.mark.parametrize("with_store", [False, True])
def test_the_history_of_a_thread_shows_the_faulty_sectors_of_a_window_proof(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, with_store: bool
) -> None:
    instead_of_stages(monkeypatch, window_post=(WindowPoStOutput([], [7]), ""))
    bench = Bench(tmp_path / "store" if with_store else None, Manager(wdpost_allocate_jobs=[[JOB]]), "wdpost")

    async def story(thread: SealingThread) -> None:
        await until(lambda: len(thread.history(200)) == 4)
        rows = thread.history(200)
        assert [(row.sector, row.event) for row in rows] == [
            ("job1", "Allocate"), ("job1", "Generate"), ("job1", "Finish"), ("job1", "Finish"),
        ]  # fmt: skip
        assert rows[1].detail.startswith("1 of 1 sectors faulty (s-t01000-7): ")
        assert thread.history(1) == rows[-1:]

    run(bench, story)


def test_a_store_that_is_missing_at_the_start_is_shown_as_paused_and_can_be_looked_at_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    instead_of_stages(monkeypatch, reserve_space=[2048])
    disk = tmp_path / "disk"
    bench = Bench(disk / "store", Manager())
    bench.config = replace(bench.config, sealing=replace(bench.config.sealing, recover_interval=60.0))
    bench.hot = (bench.config, None)

    async def story(thread: SealingThread) -> None:
        await until(lambda: bool(last_error(thread)))
        assert thread.info().state == "Paused" and str(disk) in last_error(thread)
        disk.mkdir()
        refused = thread.resume("PC1Done")
        assert refused is not None and "no task is loaded" in refused
        assert thread.resume(None) is None
        await until(lambda: bench.manager.count("allocate_sector") > 0)
        assert not last_error(thread)

    run(bench, story)


# ---- what the manager is told -------------------------------------------------------------------


def test_the_requester_of_a_piece_hears_of_the_failure_when_the_manager_is_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fails(*_: Any) -> None:
        raise WorkerError("the replica is gone", level=Level.PERMANENT, next_step="Mount it")

    instead_of_stages(monkeypatch, reserve_space=[2048], unseal=fails)
    manager = Manager(allocate_unseal_sector=unsealed(), achieve_unseal_sector=[away(), away(), None])
    bench = Bench(tmp_path / "store", manager, "unseal")

    async def story(thread: SealingThread) -> None:
        await until(lambda: manager.count("achieve_unseal_sector") == 3)
        await asyncio.sleep(0.3)
        assert manager.count("achieve_unseal_sector") == 3 and thread.info().state == "Paused"

    run(bench, story)
    told = [args[2] for method, args in manager.calls if method == "achieve_unseal_sector"]
    assert len(set(told)) == 1 and "the replica is gone" in told[0]


def test_an_untold_failure_is_not_told_once_the_piece_is_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    attempts: list[str] = []

    async def fails_once(*_: Any) -> None:
        attempts.append("unseal")
        if len(attempts) > 1:
            await hang()
        raise WorkerError("the replica is gone", level=Level.PERMANENT, next_step="Mount it")

    instead_of_stages(monkeypatch, reserve_space=[2048], unseal=fails_once)
    manager = Manager(allocate_unseal_sector=unsealed(), achieve_unseal_sector=away())
    bench = Bench(tmp_path / "store", manager, "unseal")

    async def story(thread: SealingThread) -> None:
        await until(lambda: manager.count("achieve_unseal_sector") > 2)
        assert thread.resume(None) is None
        await until(lambda: len(attempts) == 2)
        told = manager.count("achieve_unseal_sector")
        await asyncio.sleep(0.3)
        assert manager.count("achieve_unseal_sector") == told

    run(bench, story)


def test_a_window_proof_does_not_wait_for_a_sealing_disk_that_it_does_not_use(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The finished proof was thrown away, and the job held by heartbeats until its window had closed."""

    async def proof(*_: Any) -> tuple[WindowPoStOutput, str]:
        (tmp_path / "store").rename(tmp_path / "away")
        (tmp_path / "store").mkdir()
        return WindowPoStOutput(["cHJvb2Y="], []), ""

    monkeypatch.setitem(stages._STAGES, "window_post", proof)
    bench = Bench(tmp_path / "store", Manager(wdpost_allocate_jobs=[[JOB]]), "wdpost")

    async def story(_thread: SealingThread) -> None:
        await until(lambda: bench.manager.count("wdpost_finish_job") == 1)

    run(bench, story)
    (told,) = [args for method, args in bench.manager.calls if method == "wdpost_finish_job"]
    assert told[1].proofs == ["cHJvb2Y="] and not told[2]


# ---- estimates ----------------------------------------------------------------------------------


@pytest.mark.parametrize("with_store", [False, True])
def test_the_second_window_proof_has_an_estimate(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, with_store: bool
) -> None:
    proofs: list[str] = []

    async def proof(*_: Any) -> tuple[WindowPoStOutput, str]:
        proofs.append("window_post")
        await asyncio.sleep(0.5 if len(proofs) == 1 else 60.0)
        return WindowPoStOutput(["cHJvb2Y="], []), ""

    instead_of_stages(monkeypatch, window_post=proof)
    bench = Bench(tmp_path / "store" if with_store else None, Manager(), "wdpost")
    bench.manager.answers["wdpost_allocate_jobs"] = [[JOB], [JOB]]

    async def story(thread: SealingThread) -> None:
        await until(lambda: len(proofs) == 2)
        eta = thread.info().eta
        assert eta is not None and 0 < eta < 5

    run(bench, story)
