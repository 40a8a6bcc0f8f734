"""Reports of workers, and what the devnet shows of them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import aiohttp
import pytest

from damocles_worker.manager.client import RpcError
from damocles_worker.manager.types import (
    AllocateSectorSpec,
    ReportFailure,
    ReportStateReq,
    SectorID,
    SectorStateResp,
    StateChange,
    WorkerIdentifier,
    WorkerInfo,
    WorkerSummary,
)
from tests.unit.devnet.support import Stage, running

SECTOR = SectorID(10000, 1)
IDLE = WorkerSummary(threads=1, empty=1, paused=0, running=0, waiting=0, errors=0)


def with_a_sector(scenario: Callable[[Stage], Awaitable[None]]) -> None:
    async def run() -> None:
        async with running() as stage:
            await stage.client.allocate_sector(AllocateSectorSpec())
            await scenario(stage)

    asyncio.run(run())


def report(failure: ReportFailure | None = None) -> ReportStateReq:
    change = StateChange(prev="Allocated", next="DealsAcquired", event="AcquireDeals")
    return ReportStateReq(WorkerIdentifier("w1", "/s1"), change, failure)


def test_a_state_report_is_kept_and_shown() -> None:
    async def scenario(stage: Stage) -> None:
        answer = await stage.client.report_state(SECTOR, report(ReportFailure("Temporary", "no space\nlong")))
        assert answer == SectorStateResp(SECTOR, finalized=False, abort_reason="")
        [shown] = stage.devnet.state()["sectors"]
        assert shown["state"] == "DealsAcquired"
        assert "s-t010000-1 Allocated => DealsAcquired, Temporary failure: no space" in stage.said

    with_a_sector(scenario)


def test_a_finalised_sector_says_so_to_later_reports() -> None:
    async def scenario(stage: Stage) -> None:
        await stage.client.report_finalized(SECTOR)
        assert await stage.client.report_state(SECTOR, report()) == SectorStateResp(SECTOR, True, "")
        with pytest.raises(RpcError, match="11001"):
            await stage.client.report_finalized(SECTOR)
        assert stage.devnet.state()["sectors"][0]["finalized"]

    with_a_sector(scenario)


def test_an_aborted_sector_tells_the_reason_and_frees_its_reservation() -> None:
    async def scenario(stage: Stage) -> None:
        await stage.client.store_reserve_space(SECTOR, 4096, ["a"])
        await stage.client.report_aborted(SECTOR, "by hand")
        assert await stage.client.report_state(SECTOR, report()) == SectorStateResp(SECTOR, True, "by hand")
        [shown] = stage.devnet.state()["sectors"]
        assert (shown["finalized"], shown["abort_reason"]) == (False, "by hand")

    with_a_sector(scenario)


def test_a_report_on_a_sector_never_allocated_is_not_found() -> None:
    async def scenario(stage: Stage) -> None:
        with pytest.raises(RpcError, match="11001"):
            await stage.client.report_state(SectorID(10000, 99), report())

    with_a_sector(scenario)


def test_a_ping_needs_a_name_and_a_destination() -> None:
    async def scenario(stage: Stage) -> None:
        await stage.client.worker_ping(WorkerInfo("w1", "10.0.0.7:17890", "v1", IDLE))
        with pytest.raises(RpcError, match="name and dest"):
            await stage.client.worker_ping(WorkerInfo("w1", "", "v1", IDLE))
        assert stage.devnet.state()["workers"]["w1"].dest == "10.0.0.7:17890"

    with_a_sector(scenario)


def test_find_sector_shows_records_of_the_kind_asked_for() -> None:
    async def scenario(stage: Stage) -> None:
        found = await stage.client.find_sector("online", SECTOR)
        assert found is not None
        assert (found.id, found.sector_type, found.pre) == (SECTOR, 5, None)
        assert await stage.client.find_sector("offline", SECTOR) is None

    with_a_sector(scenario)


def test_the_state_is_served_as_json() -> None:
    async def scenario(stage: Stage) -> None:
        async with aiohttp.ClientSession() as session, session.get(stage.url + "/devnet/state") as response:
            shown = await response.json()
        assert shown["miner"] == 10000
        assert shown["calls"] == {"AllocateSector": 1}
        assert [sector["sector"] for sector in shown["sectors"]] == ["s-t010000-1"]

    with_a_sector(scenario)
