"""Stores of the devnet: names, reservations, and the files a sector must leave there."""

from __future__ import annotations

import asyncio
import base64
import shutil
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from damocles_worker import _native
from damocles_worker.devnet.options import Options
from damocles_worker.devnet.sectors import Sector, Upgrade, data_pieces
from damocles_worker.manager.client import RpcError
from damocles_worker.manager.types import (
    AllocateSectorSpec,
    PreCommitOnChainInfo,
    Res,
    SectorID,
    SnapUpOnChainInfo,
    StoreBasicInfo,
    Ticket,
)
from tests.e2e.sealed import seal
from tests.unit.devnet.support import GOOD_PROOF, MadeUpProofs, Stage, running

SECTOR, OTHER = SectorID(10000, 1), SectorID(10000, 2)
P_AUX, TREE_R_LAST = "p_aux", "sc-02-data-tree-r-last.dat"
CACHE_FILES = (P_AUX, "t_aux", TREE_R_LAST)


def with_two_sectors(
    scenario: Callable[[Stage], Awaitable[None]], stores: dict[str, Path | None] | None = None
) -> None:
    async def run() -> None:
        async with running(Options(stores=stores or {})) as stage:
            for _ in range(2):
                await stage.client.allocate_sector(AllocateSectorSpec())
            await scenario(stage)

    asyncio.run(run())


def test_without_stores_any_name_is_one() -> None:
    async def scenario(stage: Stage) -> None:
        assert await stage.client.store_basic_info("x") == StoreBasicInfo("x", "x", meta={})
        assert await stage.client.store_reserve_space(SECTOR, 4096, ["x", "y"]) == StoreBasicInfo(
            "x", "x", meta={}
        )
        assert await stage.client.store_reserve_space(SECTOR, 4096, []) is None

    with_two_sectors(scenario)


def test_with_stores_other_names_are_unknown(tmp_path: Path) -> None:
    async def scenario(stage: Stage) -> None:
        assert await stage.client.store_basic_info("x") is None
        found = await stage.client.store_basic_info("here")
        assert found is not None
        assert found.path == str(tmp_path)
        assert await stage.client.store_reserve_space(SECTOR, 4096, ["x"]) is None
        for candidates in (["x", "here"], []):
            store = await stage.client.store_reserve_space(SECTOR, 4096, candidates)
            assert store is not None
            assert store.name == "here"
        with pytest.raises(RpcError, match="'x' not found"):
            await stage.client.submit_persisted_ex(SECTOR, "x", False)

    with_two_sectors(scenario, {"here": tmp_path})


def test_a_full_store_is_not_offered_until_a_reservation_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(tmp_path)._replace(free=6000)
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: usage)

    async def scenario(stage: Stage) -> None:
        reserve = stage.client.store_reserve_space
        assert await reserve(SECTOR, 4096, ["here"]) is not None
        assert await reserve(SECTOR, 4096, ["here"]) is not None, "asked again, it is the same one"
        assert await reserve(OTHER, 4096, ["here"]) is None
        await stage.client.report_finalized(SECTOR)
        assert await reserve(OTHER, 4096, ["here"]) is not None

    with_two_sectors(scenario, {"here": tmp_path})


@pytest.mark.parametrize("upgrade", [False, True])
def test_persisted_files_are_looked_for(tmp_path: Path, upgrade: bool) -> None:
    sealed, cache = ("update", "update-cache") if upgrade else ("sealed", "cache")
    files = [Path(sealed, str(SECTOR)), *(Path(cache, str(SECTOR), name) for name in CACHE_FILES)]

    async def scenario(stage: Stage) -> None:
        for file in files:
            with pytest.raises(RpcError, match=f"check persisted filed: .*{file}: no such file"):
                await stage.client.submit_persisted_ex(SECTOR, "here", upgrade)
            (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / file).touch()
        assert await stage.client.submit_persisted_ex(SECTOR, "here", upgrade)
        assert stage.devnet.state()["sectors"][0]["persisted_in"] == "here"

    with_two_sectors(scenario, {"here": tmp_path})


def test_a_large_sector_has_its_last_tree_in_parts(tmp_path: Path) -> None:
    name = str(SECTOR)
    for part in (f"sealed/{name}", *(f"cache/{name}/{file}" for file in ("p_aux", "t_aux"))):
        (tmp_path / part).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / part).touch()

    async def run() -> None:
        async with running(Options(stores={"here": tmp_path}, sector_size=32 << 30)) as stage:
            await stage.client.allocate_sector(AllocateSectorSpec())
            for number in range(8):
                tree = f"sc-02-data-tree-r-last-{number}.dat"
                with pytest.raises(RpcError, match=tree):
                    await stage.client.submit_persisted_ex(SECTOR, "here", False)
                (tmp_path / "cache" / name / tree).touch()
            assert await stage.client.submit_persisted_ex(SECTOR, "here", False)

    asyncio.run(run())


class RealReplicas(MadeUpProofs):
    """Made-up proofs over replicas that are looked at."""

    def window_post(self, task: bytes) -> bytes:
        return _native.window_post(task)


@pytest.mark.parametrize("kind", ["sealed", "update"])
def test_garbage_is_not_taken_for_a_replica(tmp_path: Path, kind: str) -> None:
    """Not even as the first file of its name that is stored, with a proof that holds."""
    sealed = seal(tmp_path, 1, upgraded=True)
    assert sealed.update is not None
    persist, cache = tmp_path / "persist", "cache" if kind == "sealed" else "update-cache"
    comm_r = sealed.comm_r if kind == "sealed" else sealed.update.comm_r_new
    ticket = Ticket(base64.b64encode(sealed.ticket).decode(), 100)
    sector = Sector(
        SECTOR,
        sealed.proof_type,
        pre_commit=PreCommitOnChainInfo(sealed.comm_r, sealed.comm_d, ticket),
        upgrade=Upgrade(sealed.update_pieces),
    )

    async def submit(stage: Stage) -> None:
        if kind == "sealed":
            assert await stage.client.submit_persisted_ex(SECTOR, "persist", False)
            return
        comm_d = stage.proofs.data_commitment(2048, data_pieces(sealed.update_pieces))
        cids = [entry.piece.piece_cid for entry in sealed.update_pieces]
        proof = base64.b64encode(GOOD_PROOF).decode()
        info = SnapUpOnChainInfo(comm_r, list(comm_d), "persist", cids, proof)
        assert (await stage.client.submit_snap_up_proof(SECTOR, info)).res == Res.ACCEPTED

    async def run() -> None:
        async with running(Options(stores={"persist": persist}), proofs=RealReplicas()) as stage:
            stage.devnet.book.put(sector)
            for name in (f"{kind}/{SECTOR}", *(f"{cache}/{SECTOR}/{file}" for file in (P_AUX, TREE_R_LAST))):
                file = persist / name
                content = file.read_bytes()
                file.write_bytes(bytes([content[0] ^ 1]) + content[1:])
                with pytest.raises(RpcError, match=f"not those of comm_r {bytes(comm_r).hex()}"):
                    await submit(stage)
                file.write_bytes(content)
            await submit(stage)

    asyncio.run(run())


def test_the_stores_are_for_sectors_that_are_online() -> None:
    async def scenario(stage: Stage) -> None:
        with pytest.raises(RpcError, match="11001"):
            await stage.client.store_reserve_space(SectorID(10000, 99), 4096, ["a"])
        with pytest.raises(RpcError, match="11001"):
            await stage.client.submit_persisted_ex(SectorID(10000, 99), "a", False)

    with_two_sectors(scenario)
