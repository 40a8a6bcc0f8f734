"""Deals: the layout of a sector, and the bytes behind its pieces, over HTTP."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from damocles_worker import _native
from damocles_worker.cid import commd_cid, parse_cid
from damocles_worker.devnet.deals import Slot, lay_out, make_deals, piece_data
from damocles_worker.devnet.faults import Action, Rule
from damocles_worker.devnet.options import Deals, Options
from damocles_worker.devnet.server import Devnet
from damocles_worker.manager.types import AcquireDealsSpec, AllocateSectorSpec, SectorID, SectorPiece
from damocles_worker.sectors import unpadded, zero_commitment
from tests.unit.devnet.support import Stage, running

SECTOR = SectorID(10000, 1)
TOKEN = {"Authorization": "Bearer secret"}


def test_fillers_align_each_deal_and_fill_the_rest() -> None:
    assert lay_out(2048, [512, 256]) == [
        Slot(0, 256, True),
        Slot(256, 256, False),
        Slot(512, 512, True),
        Slot(1024, 1024, False),
    ]


@settings(deadline=None)
@given(st.lists(st.sampled_from([128, 256, 512, 1024, 2048]), max_size=8))
def test_a_layout_fills_the_sector_exactly_or_is_refused(sizes: list[int]) -> None:
    try:
        slots = lay_out(4096, sizes)
    except ValueError:
        assert sum(sizes) > 4096 - 2048
        return
    assert [slot.size for slot in slots if slot.deal] == sorted(sizes)
    offset = 0
    for slot in slots:
        assert slot.offset == offset
        assert offset % slot.size == 0
        offset += slot.size
    assert offset == 4096


def deals_in(directory: Path, spec: AcquireDealsSpec = AcquireDealsSpec()) -> list[SectorPiece] | None:  # noqa: B008
    return make_deals("devnet", SECTOR, 2048, spec, directory, _native)


def test_the_pieces_are_what_the_proofs_library_says_of_their_data(tmp_path: Path) -> None:
    pieces = deals_in(tmp_path)
    assert pieces is not None
    commitments = []
    for entry in pieces:
        cid = entry.piece.piece_cid.text
        size = unpadded(entry.piece.size)
        if entry.is_pledge:
            assert cid == commd_cid(zero_commitment(size))
            assert entry.payload_size == 0
        else:
            assert 0 < entry.payload_size < size
            assert (tmp_path / cid).stat().st_size == entry.payload_size
            again = _native.piece_commitment(str(tmp_path / cid), entry.payload_size, size)
            assert cid == commd_cid(again)
        commitments.append((parse_cid(cid)[1], size))
    assert sum(entry.piece.size for entry in pieces) == 2048
    assert len(_native.data_commitment(2048, commitments)) == 32


def test_deals_are_of_both_markets(tmp_path: Path) -> None:
    pieces = deals_in(tmp_path)
    assert pieces is not None
    kinds = [
        (info.deal_id != 0, info.allocation_id != 0, info.is_builtin_market)
        for info in (entry.deal_info for entry in pieces if not entry.is_pledge)
        if info is not None
    ]
    assert kinds == [(True, False, True), (True, False, True), (False, True, False)]


@pytest.mark.parametrize(
    ("spec", "count"),
    [
        (AcquireDealsSpec(max_deals=1), 1),
        (AcquireDealsSpec(max_deals=10), 3),
        (AcquireDealsSpec(min_used_space=1280), 3),
        (AcquireDealsSpec(min_used_space=1281), 0),
        (AcquireDealsSpec(max_deals=0), 0),
        (AcquireDealsSpec(max_deals=1, min_used_space=1024), 0),
    ],
)
def test_limits_are_honoured(tmp_path: Path, spec: AcquireDealsSpec, count: int) -> None:
    pieces = deals_in(tmp_path, spec)
    assert sum(not entry.is_pledge for entry in pieces or []) == count
    assert (pieces is None) is (count == 0)


def test_piece_data_of_several_chunks_is_cut_to_its_length() -> None:
    long = b"".join(piece_data("devnet", SECTOR, 0, 3 * 2**20 + 5))
    assert len(long) == 3 * 2**20 + 5
    assert long.startswith(b"".join(piece_data("devnet", SECTOR, 0, 1000)))
    assert not long.startswith(b"".join(piece_data("devnet", SECTOR, 1, 1000)))


def with_deals(
    scenario: Callable[[Stage, aiohttp.ClientSession, SectorPiece], Awaitable[None]],
    rules: list[Rule] | None = None,
    **options: Any,
) -> None:
    """Run a scenario with a devnet, an HTTP session and the first piece of its first sector."""

    async def run() -> None:
        async with running(Options(deals=Deals.EVERY, **options), rules) as stage:
            await stage.client.allocate_sector(AllocateSectorSpec())
            pieces = await stage.client.acquire_deals(SECTOR, AcquireDealsSpec())
            assert pieces is not None
            async with aiohttp.ClientSession() as session:
                await scenario(stage, session, pieces[0])

    asyncio.run(run())


def test_a_call_repeated_while_data_is_written_gets_the_same_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    async def run() -> None:
        async with running(Options(deals=Deals.EVERY)) as stage:
            await stage.client.allocate_sector(AllocateSectorSpec())
            made = []
            commitment = stage.proofs.piece_commitment

            def counted(path: str, payload_size: int, piece_size_unpadded: int) -> bytes:
                made.append(path)
                return commitment(path, payload_size, piece_size_unpadded)

            monkeypatch.setattr(stage.proofs, "piece_commitment", counted)
            first, second = await asyncio.gather(
                *(stage.client.acquire_deals(SECTOR, AcquireDealsSpec()) for _ in range(2))
            )
            assert first == second
            assert len(made) == 3

    asyncio.run(run())


def payload(piece: SectorPiece) -> bytes:
    return b"".join(piece_data("devnet", SECTOR, 0, piece.payload_size))


@pytest.mark.parametrize("suffix", ["", ".car"])
def test_a_piece_is_served_in_chunks(suffix: str) -> None:
    async def scenario(stage: Stage, session: aiohttp.ClientSession, piece: SectorPiece) -> None:
        async with session.get(f"{stage.url}/piecestore/{piece.piece.piece_cid.text}{suffix}") as response:
            assert response.status == 200
            assert response.headers["Transfer-Encoding"] == "chunked"
            assert "Content-Length" not in response.headers
            assert await response.read() == payload(piece)

    with_deals(scenario)


def test_a_bad_cid_and_an_unknown_piece_are_told_apart() -> None:
    async def scenario(stage: Stage, session: aiohttp.ClientSession, _piece: SectorPiece) -> None:
        async with session.get(f"{stage.url}/piecestore/nonsense") as response:
            assert response.status == 400
        unknown = commd_cid(bytes(32))
        for path in (f"/piecestore/{unknown}", f"/resource?resource-id={unknown}"):
            async with session.get(stage.url + path) as response:
                assert response.status == 404

    with_deals(scenario)


def test_a_redirect_leads_to_the_market_which_asks_for_the_token() -> None:
    async def scenario(stage: Stage, session: aiohttp.ClientSession, piece: SectorPiece) -> None:
        cid = piece.piece.piece_cid.text
        async with session.get(f"{stage.url}/piecestore/{cid}", allow_redirects=False) as response:
            assert response.status == 302
            location = stage.url + response.headers["Location"]
        for headers in ({}, {"Authorization": "Bearer other"}):
            async with session.get(location, headers=headers) as response:
                assert response.status == 401
        async with session.get(location, headers=TOKEN) as response:
            assert await response.read() == payload(piece)
        async with session.get(location, headers=TOKEN | {"Range": "bytes=100-"}) as response:
            assert response.status == 206
            assert await response.read() == payload(piece)[100:]

    with_deals(scenario, piece_redirect=True, piece_token="secret")


def test_a_piece_can_break_off_in_the_middle() -> None:
    async def scenario(stage: Stage, session: aiohttp.ClientSession, piece: SectorPiece) -> None:
        url = f"{stage.url}/piecestore/{piece.piece.piece_cid.text}"
        async with session.get(url) as response:
            with pytest.raises(aiohttp.ClientPayloadError):
                await response.read()
        async with session.get(url) as response:
            assert await response.read() == payload(piece)

    with_deals(scenario, [Rule("piecestore", Action.TRUNCATE)])


def test_a_gateway_error_for_a_piece() -> None:
    async def scenario(stage: Stage, session: aiohttp.ClientSession, piece: SectorPiece) -> None:
        async with session.get(f"{stage.url}/piecestore/{piece.piece.piece_cid.text}") as response:
            assert response.status == 502

    with_deals(scenario, [Rule("piecestore", Action.HTTP502)])


def test_piece_data_is_removed_at_the_end_unless_it_has_a_place(tmp_path: Path) -> None:
    async def run(options: Options, name: str) -> None:
        devnet = Devnet(options)
        await devnet.start()
        await devnet.stop()
        assert (tmp_path / name).exists() is (options.data_dir is not None)

    asyncio.run(run(Options(data_dir=tmp_path / "kept"), "kept"))
    asyncio.run(run(Options(), "not kept"))
