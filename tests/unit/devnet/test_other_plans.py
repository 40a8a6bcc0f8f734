"""What the devnet hands out of sectors that are sealed already, and what it refuses."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from damocles_worker.cid import commd_cid
from damocles_worker.devnet.options import Options
from damocles_worker.devnet.orders import RebuildOrder, SnapUpOrder, UnsealOrder, WindowPoStOrder
from damocles_worker.devnet.sectors import Upgrade
from damocles_worker.manager.client import RpcError
from damocles_worker.manager.types import (
    AcquireDealsSpec,
    AllocateSectorSpec,
    AllocateSnapUpSpec,
    AllocateWdPoStJobSpec,
    Cid,
    Res,
    SectorID,
    SnapUpOnChainInfo,
    WindowPoStOutput,
)
from tests.unit.devnet.support import GOOD_PROOF, Stage, running

ANY = AllocateSectorSpec()
ANY_SNAP = AllocateSnapUpSpec(ANY, AcquireDealsSpec())
ANY_JOB = AllocateWdPoStJobSpec()
SECTOR = SectorID(10000, 7)
GOOD = base64.b64encode(GOOD_PROOF).decode()
IMPORTED = {
    "number": 7,
    "proof_type": 5,
    "ticket": {"Ticket": "A" * 43 + "=", "Epoch": 100},
    "comm_r": [1] * 32,
    "comm_d": [2] * 32,
    "persisted_in": "here",
}


def play(scenario: Callable[[Stage], Awaitable[None]], options: Options | None = None) -> None:
    """Run a scenario on a devnet that has the imported sector."""

    async def run() -> None:
        async with running(options) as stage:
            assert (await post(stage, "sectors", IMPORTED))[0] == 200
            await scenario(stage)

    asyncio.run(run())


async def post(stage: Stage, what: str, body: Any) -> tuple[int, str]:
    async with (
        aiohttp.ClientSession() as session,
        session.post(f"{stage.url}/devnet/{what}", data=json.dumps(body)) as response,
    ):
        return response.status, await response.text()


def test_an_imported_sector_is_on_chain() -> None:
    async def scenario(stage: Stage) -> None:
        record = await stage.client.find_sector("offline", SECTOR)
        assert record is not None and record.pre is not None and not record.upgraded
        allocated = await stage.client.allocate_sector(ANY)
        assert allocated is not None and allocated.id.number == 8

    play(scenario)


@pytest.mark.parametrize(
    ("what", "body", "text"),
    [
        ("sectors", {"number": 1}, "proof_type"),
        ("work", {"plan": "nothing"}, "plan"),
        ("work", {"plan": "rebuild", "number": 99}, "import it first"),
    ],
)
def test_orders_that_make_no_sense_are_refused(what: str, body: Any, text: str) -> None:
    async def scenario(stage: Stage) -> None:
        status, said = await post(stage, what, body)
        assert status == 400 and text in said

    play(scenario)


def test_an_upgrade_is_verified_piece_by_piece() -> None:
    async def scenario(stage: Stage) -> None:
        client = stage.client
        assert await client.allocate_snap_up_sector(ANY_SNAP) is None
        stage.devnet.order(SnapUpOrder(7))
        given = await client.allocate_snap_up_sector(ANY_SNAP)
        assert given is not None and given.pieces and given.private.access_instance == "here"
        assert given.public.comm_r == [1] * 32
        assert await client.allocate_snap_up_sector(ANY_SNAP) is None
        pieces = [entry.piece.piece_cid for entry in given.pieces]
        upgrade = stage.devnet.book.all()[0].upgrade
        assert upgrade is not None
        comm_d = stage.proofs.data_commitment(2048, upgrade.data_pieces())
        good = SnapUpOnChainInfo([3] * 32, list(comm_d), "here", pieces, GOOD)
        for bad, text in [
            (SnapUpOnChainInfo([3] * 32, list(comm_d), "here", pieces[1:], GOOD), "pieces"),
            (SnapUpOnChainInfo([3] * 32, [0] * 32, "here", pieces, GOOD), "comm_d"),
            (SnapUpOnChainInfo([3] * 32, list(comm_d), "here", pieces, "AAAA"), "invalid proof"),
        ]:
            answer = await client.submit_snap_up_proof(SECTOR, bad)
            assert answer.res == Res.REJECTED and text in (answer.desc or "")
        assert (await client.submit_snap_up_proof(SECTOR, good)).res == Res.ACCEPTED
        with pytest.raises(RpcError, match="duplicate commit job"):
            await client.submit_snap_up_proof(SECTOR, good)
        await client.report_finalized(SECTOR)
        record = await client.find_sector("offline", SECTOR)
        assert record is not None and record.upgraded and record.upgraded_info is not None
        assert record.upgrade_public is not None and record.upgrade_public.comm_r == [1] * 32

    play(scenario)


def test_a_rebuild_is_handed_out_once_and_has_to_give_the_same_files(tmp_path: Path) -> None:
    async def scenario(stage: Stage) -> None:
        client = stage.client
        assert await client.allocate_rebuild_sector(ANY) is None
        stage.devnet.order(RebuildOrder(7))
        assert await client.allocate_rebuild_sector(AllocateSectorSpec([1])) is None
        given = await client.allocate_rebuild_sector(ANY)
        assert given is not None and not given.is_snap_up and given.upgrade_public is None
        assert await client.allocate_rebuild_sector(ANY) is None
        for name in ("sealed/s-t010000-7", "cache/s-t010000-7/p_aux", "cache/s-t010000-7/t_aux",
                     "cache/s-t010000-7/sc-02-data-tree-r-last.dat"):  # fmt: skip
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_bytes(b"first")
        assert await client.submit_persisted_ex(SECTOR, "here", False)
        (tmp_path / "sealed/s-t010000-7").write_bytes(b"other")
        with pytest.raises(RpcError, match="differs from the one stored first"):
            await client.submit_persisted_ex(SECTOR, "here", False)
        await client.report_finalized(SECTOR)
        assert stage.devnet.state()["sectors"][0]["rebuilt"] == 1

    play(scenario, Options(stores={"here": tmp_path}))


def test_an_upgraded_sector_is_rebuilt_with_the_pieces_of_its_update() -> None:
    async def scenario(stage: Stage) -> None:
        sector = stage.devnet.book.all()[0]
        info = SnapUpOnChainInfo([3] * 32, [4] * 32, "here", [], "")
        sector.upgrade = Upgrade([], info, landed=True)
        stage.devnet.order(RebuildOrder(7))
        given = await stage.client.allocate_rebuild_sector(ANY)
        assert given is not None and given.is_snap_up and given.pieces_v2 == []
        assert given.upgrade_public is not None and given.upgrade_public.comm_r == [1] * 32

    play(scenario)


def test_an_unsealed_piece_is_looked_for_where_it_was_wanted(tmp_path: Path) -> None:
    data = b"the piece"
    cid = commd_cid(hashlib.sha256(data).digest())
    target = tmp_path / "piece"

    async def scenario(stage: Stage) -> None:
        client = stage.client
        stage.devnet.order(UnsealOrder(7, cid, [f"file://{target}"], offset=0, size=127))
        given = await client.allocate_unseal_sector(ANY)
        assert given is not None and given.private_info.access_instance == "here"
        assert await client.allocate_unseal_sector(ANY) is None
        assert await client.acquire_unseal_dest(SECTOR, Cid(cid)) == [f"file://{target}"]
        with pytest.raises(RpcError, match="there is no file"):
            await client.achieve_unseal_sector(SECTOR, Cid(cid), "")
        target.write_bytes(b"another")
        with pytest.raises(RpcError, match="wanted is"):
            await client.achieve_unseal_sector(SECTOR, Cid(cid), "")
        target.write_bytes(data)
        await client.achieve_unseal_sector(SECTOR, Cid(cid), "")
        assert stage.devnet.state()["unseals"][0]["state"] == "finished"
        await client.achieve_unseal_sector(SECTOR, Cid(cid), "it went wrong")
        assert stage.devnet.state()["unseals"][0] == {
            "sector": "s-t010000-7", "piece": cid, "state": "failed", "error": "it went wrong",
        }  # fmt: skip

    play(scenario)


@pytest.mark.parametrize("kind", ["manager", "market", "store"])
def test_a_piece_that_nobody_uploaded_is_not_delivered(kind: str) -> None:
    data = b"the piece"
    cid = commd_cid(hashlib.sha256(data).digest())

    async def scenario(stage: Stage) -> None:
        client = stage.client
        upload = f"{stage.url}/piecestore/{cid}"
        host = stage.url.removeprefix("http://")
        url = {
            "manager": upload,
            "market": f"market://store1/{cid}?host={host}&scheme=http&token=sesame",
            "store": f"store:///{cid}",
        }[kind]
        async with aiohttp.ClientSession() as session:
            # That of an earlier request.
            await session.put(upload, data=data)
            stage.devnet.order(UnsealOrder(7, cid, [url], offset=0, size=127))
            assert await client.allocate_unseal_sector(ANY) is not None
            await session.put(upload, data=b"other bytes")
            with pytest.raises(RpcError, match="was uploaded 0 times") as refused:
                await client.achieve_unseal_sector(SECTOR, Cid(cid), "")
            assert "sesame" not in str(refused.value)
            assert stage.devnet.state()["unseals"][0]["state"] == "allocated"
            await session.put(upload, data=data)
        await client.achieve_unseal_sector(SECTOR, Cid(cid), "")
        assert stage.devnet.state()["unseals"][0]["state"] == "finished"

    play(scenario)


def test_an_upload_needs_a_length_a_token_and_the_right_bytes() -> None:
    data = b"the piece"
    cid = commd_cid(hashlib.sha256(data).digest())

    async def chunks() -> Any:
        yield data

    async def scenario(stage: Stage) -> None:
        manager, market = f"{stage.url}/piecestore/{cid}", f"{stage.url}/resource?resource-id={cid}"
        async with aiohttp.ClientSession() as session:

            async def put(url: str, body: Any, token: str = "") -> int:
                headers = {"Authorization": f"Bearer {token}"}
                async with session.put(url, data=body, headers=headers) as response:
                    return response.status

            assert await put(manager, chunks()) == 500
            assert await put(manager, b"other bytes") == 400
            assert await put(market, data) == 401
            assert await put(manager, data) == 200
            assert await put(market, data, "sesame") == 200
        assert stage.devnet.state()["uploaded"] == [cid, cid]

    play(scenario, Options(piece_token="sesame"))


def test_a_window_job_lives_by_its_heartbeats_and_its_proof_is_verified() -> None:
    async def scenario(stage: Stage) -> None:
        client = stage.client
        stage.devnet.order(WindowPoStOrder([7]))
        (job,) = await client.wdpost_allocate_jobs(ANY_JOB, 1, "w1")
        assert job.input.sectors and job.input.sectors[0].accesses.cache_dir == "here"
        assert await client.wdpost_allocate_jobs(ANY_JOB, 1, "w2") == []
        await client.wdpost_heartbeat_jobs([job.id], "w1")
        await asyncio.sleep(0.3)
        (again,) = await client.wdpost_allocate_jobs(ANY_JOB, 1, "w2")
        assert again.id == job.id and stage.devnet.state()["jobs"][0]["failures"] == ["heartbeat timeout"]
        await client.wdpost_finish_job(job.id, WindowPoStOutput(["AAAA"], []), "")
        assert stage.devnet.state()["jobs"][0]["verified"] is False
        await client.wdpost_finish_job(job.id, WindowPoStOutput([GOOD], []), "")
        assert stage.devnet.state()["jobs"][0]["verified"] is True
        with pytest.raises(RpcError, match="key not found"):
            await client.wdpost_heartbeat_jobs([job.id], "w1")

    play(scenario, Options(worker_prover=True, heartbeat_timeout=0.2))


def test_without_the_prover_there_are_no_window_methods() -> None:
    async def scenario(stage: Stage) -> None:
        with pytest.raises(RpcError) as refused:
            await stage.client.wdpost_allocate_jobs(ANY_JOB, 1, "w1")
        assert refused.value.code == -32601

    play(scenario)
