"""Sectors that can't be proven."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest

from damocles_worker.config.settings import Sealing
from damocles_worker.errors import Level, WorkerError
from damocles_worker.manager.types import (
    WdPoStAccesses,
    WdPoStAllocatedJob,
    WdPoStInput,
    WdPoStSector,
    WindowPoStOutput,
)
from damocles_worker.sealing.machine.task import Task
from tests.e2e.sealed import MINER, SealedSector, seal
from tests.unit.sealing.bench import Place, at_work


def test_a_faulty_sector_is_named_in_the_log_with_its_files(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The manager only hears its number."""
    sealed = [seal(tmp_path, 1), seal(tmp_path, 2)]
    replica = tmp_path / "persist/sealed" / sealed[1].text
    replica.write_bytes(b"\1" * 32)
    wanted = [
        WdPoStSector(sector.number, sector.comm_r, False, WdPoStAccesses("persist", "persist"))
        for sector in sealed
    ]
    job = WdPoStAllocatedJob("job1", WdPoStInput(wanted, MINER, "StackedDrgWindow2KiBV1_2", [5] * 32))

    async def prove(there: Place) -> tuple[WindowPoStOutput, str]:
        output: tuple[WindowPoStOutput, str] = await there.run("window_post", Task("wdpost", job=job))
        return output

    with caplog.at_level(logging.WARNING):
        output, error = at_work(tmp_path, prove)
    assert output.faults == [2] and not error
    # Beside what the crates themselves may say.
    (line,) = [record.getMessage() for record in caplog.records if " is faulty: " in record.getMessage()]
    assert sealed[1].text in line and str(replica) in line and "rebuild the sector" in line


#: All tries but the last one are used up.
LAST_TRY = Sealing().max_retries


def job_of(sealed: SealedSector) -> WdPoStAllocatedJob:
    wanted = [WdPoStSector(1, sealed.comm_r, False, WdPoStAccesses("persist", "persist"))]
    return WdPoStAllocatedJob("job1", WdPoStInput(wanted, MINER, "StackedDrgWindow2KiBV1_2", [5] * 32))


def test_a_store_that_went_away_is_the_reason_why_there_is_no_proof(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The library said that it could not open a file."""
    job = job_of(seal(tmp_path, 1))

    async def prove(there: Place) -> tuple[None, str]:
        async def fails(*_: Any) -> None:
            there.attached.root.rename(tmp_path / "away")
            there.attached.root.mkdir()
            raise WorkerError("can't open p_aux", next_step="Look")

        monkeypatch.setattr(there.bench, "compute", fails)
        task = Task("wdpost", job=job, retries=LAST_TRY)
        output: tuple[None, str] = await there.run("window_post", task)
        return output

    output, error = at_work(tmp_path, prove)
    assert output is None and "the attached store 'persist' is gone" in error


def test_what_can_be_mended_meanwhile_is_tried_again_before_the_manager_hears_of_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One missing parameter file, put there a minute later, had cost the window."""
    job = job_of(seal(tmp_path, 1))
    missing = WorkerError("no x.params", next_step="Put it there", waits_for="parameter file x.params")

    async def prove(there: Place) -> tuple[None, str]:
        async def fails(*_: Any) -> None:
            raise missing

        monkeypatch.setattr(there.bench, "compute", fails)
        with pytest.raises(WorkerError, match=r"no x\.params") as failed:
            await there.run("window_post", Task("wdpost", job=job))
        # A retry is burned: nobody else gets the job while it is held here.
        assert failed.value.level is Level.TEMPORARY and failed.value.waits_for is None
        last: tuple[None, str] = await there.run("window_post", Task("wdpost", job=job, retries=LAST_TRY))
        return last

    assert at_work(tmp_path, prove) == (None, str(missing))


@pytest.mark.parametrize("proof", ["AAAA" * 64, "no base64"])
def test_a_window_proof_of_another_program_that_does_not_hold_is_not_handed_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, proof: str
) -> None:
    job = job_of(seal(tmp_path, 1))
    made = WindowPoStOutput([proof], [])

    async def prove(there: Place) -> tuple[WindowPoStOutput | None, str]:
        compute = there.bench.compute

        async def of_another(stage: str, *more: Any) -> Any:
            return made if stage == "window_post" else await compute(stage, *more)

        monkeypatch.setattr(there.bench, "compute", of_another)
        ours: tuple[WindowPoStOutput, str] = await there.run("window_post", Task("wdpost", job=job))
        assert ours == (made, "")
        monkeypatch.setattr(there.bench.services.processors, "is_foreign", lambda _stage: True)
        with pytest.raises(WorkerError, match=r"1 sectors of miner .* does not hold"):
            await there.run("window_post", Task("wdpost", job=job))
        last: tuple[None, str] = await there.run("window_post", Task("wdpost", job=job, retries=LAST_TRY))
        return last

    output, error = at_work(tmp_path, prove)
    assert output is None and "does not hold" in error


def test_a_window_proof_that_can_not_be_verified_for_want_of_a_key_is_handed_in_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    job = job_of(seal(tmp_path, 1))
    made = WindowPoStOutput(["AAAA" * 64], [])

    async def prove(there: Place) -> tuple[WindowPoStOutput | None, str]:
        async def of_another(stage: str, *_: Any) -> Any:
            if stage == "window_post":
                return made
            raise WorkerError("no x.vk", next_step="Put it there", waits_for="parameter file x.vk")

        monkeypatch.setattr(there.bench, "compute", of_another)
        monkeypatch.setattr(there.bench.services.processors, "is_foreign", lambda _stage: True)
        outcome: tuple[WindowPoStOutput, str] = await there.run("window_post", Task("wdpost", job=job))
        return outcome

    assert at_work(tmp_path, prove) == (made, "")
    assert "can't be verified here, and is handed in: no x.vk" in caplog.text
