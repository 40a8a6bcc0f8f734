"""The sealer plan's methods: what the devnet hands out, what it accepts, what it refuses and why."""

from __future__ import annotations

import asyncio
import base64
import hashlib
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from damocles_worker._native import StageError
from damocles_worker.devnet.options import Deals, Options
from damocles_worker.errors import Level
from damocles_worker.manager.client import RpcError
from damocles_worker.manager.types import (
    AcquireDealsSpec,
    AllocatedSector,
    AllocateSectorSpec,
    OnChainState,
    PreCommitOnChainInfo,
    ProofOnChainInfo,
    Res,
    SectorID,
    SubmitResp,
    Ticket,
)
from damocles_worker.sectors import unpadded, zero_commitment
from tests.unit.devnet.support import GOOD_PROOF, Stage, running

CC_COMM_D = list(zero_commitment(unpadded(2048)))
COMM_R = list(range(32))
ANY = AllocateSectorSpec()
NO_LIMITS = AcquireDealsSpec()


def on_stage(scenario: Callable[[Stage], Awaitable[None]], **options: Any) -> None:
    async def run() -> None:
        async with running(Options(**options)) as stage:
            await scenario(stage)

    asyncio.run(run())


async def allocated(stage: Stage) -> AllocatedSector:
    sector = await stage.client.allocate_sector(ANY)
    assert sector is not None
    return sector


async def pre_commit(
    stage: Stage, sector: AllocatedSector, comm_d: list[int] = CC_COMM_D, ticket: Ticket | None = None
) -> SubmitResp:
    """Submit a pre-commit, a good one unless some part is given."""
    ticket = ticket or await stage.client.assign_ticket(sector.id)
    return await stage.client.submit_pre_commit(sector, PreCommitOnChainInfo(COMM_R, comm_d, ticket), False)


async def seeded(stage: Stage) -> AllocatedSector:
    """A sector whose seed has been handed out."""
    sector = await allocated(stage)
    assert (await pre_commit(stage, sector)).res == Res.ACCEPTED
    while (await stage.client.poll_pre_commit_state(sector.id)).state != OnChainState.LANDED:
        pass
    stage.clock.now += 100
    assert (await stage.client.wait_seed(sector.id, sector.proof_type)).seed is not None
    return sector


async def submit(stage: Stage, sector: AllocatedSector, proof: bytes, reset: bool = False) -> SubmitResp:
    info = ProofOnChainInfo(base64.b64encode(proof).decode())
    return await stage.client.submit_proof(sector.id, info, reset)


def test_sectors_are_numbered_from_1_until_there_are_no_more() -> None:
    async def scenario(stage: Stage) -> None:
        assert [await allocated(stage) for _ in range(3)] == [
            AllocatedSector(SectorID(77, number), 6) for number in (1, 2, 3)
        ]
        assert await stage.client.allocate_sector(ANY) is None

    on_stage(scenario, sectors=3, miner=77, sector_size=8 << 20)


def test_synthetic_sectors_on_demand() -> None:
    async def scenario(stage: Stage) -> None:
        assert (await allocated(stage)).proof_type == 10

    on_stage(scenario, synthetic=True)


@pytest.mark.parametrize(
    ("miners", "proofs", "given"),
    [([], [], True), ([1, 10000], [8, 5], True), ([1], None, False), (None, [0, 10], False)],
)
def test_allowed_lists_are_honoured(miners: list[int] | None, proofs: list[int] | None, given: bool) -> None:
    async def scenario(stage: Stage) -> None:
        sector = await stage.client.allocate_sector(AllocateSectorSpec(miners, proofs))
        assert (sector is not None) is given

    on_stage(scenario)


def test_a_good_sector_goes_all_the_way() -> None:
    async def scenario(stage: Stage) -> None:
        sector = await allocated(stage)
        assert await stage.client.acquire_deals(sector.id, NO_LIMITS) is None
        poll = stage.client.poll_pre_commit_state
        assert (await poll(sector.id)).state == OnChainState.NOT_FOUND
        ticket = await stage.client.assign_ticket(sector.id)
        assert ticket.epoch == 100
        assert (await pre_commit(stage, sector, ticket=ticket)).res == Res.ACCEPTED
        assert [(await poll(sector.id)).state for _ in range(4)] == [
            OnChainState.PENDING,
            OnChainState.PENDING,
            OnChainState.LANDED,
            OnChainState.LANDED,
        ]
        stage.clock.now = 1.5
        waiting = await stage.client.wait_seed(sector.id, 5)
        assert (waiting.should_wait, waiting.delay, waiting.seed) == (True, 3, None)
        stage.clock.now = 4.0
        found = await stage.client.wait_seed(sector.id, 5)
        assert found.seed is not None
        assert found.seed.epoch == 1004
        assert (await submit(stage, sector, GOOD_PROOF)).res == Res.ACCEPTED
        assert stage.proofs.verified == [
            {
                "registered_proof": "StackedDrg2KiBV1_1",
                "comm_r": COMM_R,
                "comm_d": CC_COMM_D,
                "prover_id": [0x90, 0x4E] + [0] * 30,
                "sector_id": 1,
                "ticket": list(ticket.randomness()),
                "seed": list(found.seed.randomness()),
                "proof": list(GOOD_PROOF),
            }
        ]
        while (await stage.client.poll_proof_state(sector.id)).state != OnChainState.LANDED:
            pass
        await stage.client.report_finalized(sector.id)
        [shown] = stage.devnet.state()["sectors"]
        assert shown["sector"] == "s-t010000-1"
        assert all(shown[key] for key in ("comm_d_checked", "proof_verified", "proof_landed", "finalized"))
        assert shown["calls"][:3] == ["AcquireDeals", "PollPreCommitState", "AssignTicket"]

    on_stage(scenario, pending_polls=2, seed_delay=4)


def test_two_runs_give_the_same_tickets_seeds_and_pieces() -> None:
    seen: list[object] = []

    async def scenario(stage: Stage) -> None:
        sector = await seeded(stage)
        pieces = await stage.client.acquire_deals(sector.id, NO_LIMITS)
        ticket = await stage.client.assign_ticket(sector.id)
        answer = await stage.client.wait_seed(sector.id, 5)
        assert answer.seed is not None
        seen.append((ticket.ticket, answer.seed.seed, pieces))

    on_stage(scenario, deals=Deals.EVERY)
    on_stage(scenario, deals=Deals.EVERY)
    on_stage(scenario, deals=Deals.EVERY, seed="another")
    assert seen[0] == seen[1]
    assert seen[0] != seen[2]


def test_comm_d_other_than_the_pieces_give_is_mismatched() -> None:
    async def scenario(stage: Stage) -> None:
        sector = await allocated(stage)
        pieces = await stage.client.acquire_deals(sector.id, NO_LIMITS)
        assert pieces
        refused = await pre_commit(stage, sector)
        assert refused.res == Res.MISMATCHED_SUBMISSION
        assert refused.desc is not None
        record = stage.devnet.book.online(sector.id)
        right = hashlib.sha256(b"".join(commitment for commitment, _ in record.data_pieces())).digest()
        assert right.hex() in refused.desc
        assert bytes(CC_COMM_D).hex() in refused.desc
        assert not record.comm_d_checked
        assert (await pre_commit(stage, sector, comm_d=list(right))).res == Res.ACCEPTED
        assert record.comm_d_checked

    on_stage(scenario, deals=Deals.EVERY)


def test_a_ticket_that_was_not_assigned_is_rejected() -> None:
    async def scenario(stage: Stage) -> None:
        sector = await allocated(stage)
        foreign = Ticket(base64.b64encode(bytes(32)).decode(), 100)
        refused = await pre_commit(stage, sector, ticket=foreign)
        assert (refused.res, refused.desc) == (Res.REJECTED, "no ticket was assigned")
        await stage.client.assign_ticket(sector.id)
        refused = await pre_commit(stage, sector, ticket=foreign)
        assert refused.res == Res.REJECTED
        assert "not the assigned one" in (refused.desc or "")

    on_stage(scenario)


def test_only_the_latest_ticket_counts() -> None:
    async def scenario(stage: Stage) -> None:
        sector = await allocated(stage)
        first = await stage.client.assign_ticket(sector.id)
        stage.clock.now = 5
        second = await stage.client.assign_ticket(sector.id)
        assert second.epoch == first.epoch + 5
        assert (await pre_commit(stage, sector, ticket=first)).res == Res.REJECTED
        assert (await pre_commit(stage, sector, ticket=second)).res == Res.ACCEPTED

    on_stage(scenario)


@pytest.mark.parametrize(("age", "res"), [(50, Res.ACCEPTED), (51, Res.REJECTED)])
def test_a_ticket_expires(age: int, res: int) -> None:
    async def scenario(stage: Stage) -> None:
        sector = await allocated(stage)
        ticket = await stage.client.assign_ticket(sector.id)
        stage.clock.now += age
        answer = await pre_commit(stage, sector, ticket=ticket)
        assert answer.res == res
        assert ("expired" in (answer.desc or "")) is (res == Res.REJECTED)

    on_stage(scenario, ticket_max_age=50)


def test_another_proof_type_is_rejected() -> None:
    async def scenario(stage: Stage) -> None:
        sector = await allocated(stage)
        ticket = await stage.client.assign_ticket(sector.id)
        refused = await pre_commit(stage, AllocatedSector(sector.id, 10), ticket=ticket)
        assert refused.res == Res.REJECTED

    on_stage(scenario)


def test_the_same_pre_commit_again_is_accepted_and_another_only_with_reset() -> None:
    async def scenario(stage: Stage) -> None:
        sector = await allocated(stage)
        ticket = await stage.client.assign_ticket(sector.id)
        info = PreCommitOnChainInfo(COMM_R, CC_COMM_D, ticket)
        other = PreCommitOnChainInfo(COMM_R[::-1], CC_COMM_D, ticket)

        async def again(what: PreCommitOnChainInfo, reset: bool) -> SubmitResp:
            return await stage.client.submit_pre_commit(sector, what, reset)

        assert (await again(info, False)).res == Res.ACCEPTED
        assert (await again(info, False)).res == Res.ACCEPTED
        assert await again(other, False) == SubmitResp(Res.MISMATCHED_SUBMISSION, None)
        assert (await again(other, True)).res == Res.ACCEPTED
        assert (await again(other, False)).res == Res.ACCEPTED

    on_stage(scenario)


def test_there_is_no_seed_before_the_pre_commit_landed() -> None:
    async def scenario(stage: Stage) -> None:
        sector = await allocated(stage)
        with pytest.raises(RpcError, match="not found on chain") as failed:
            await stage.client.wait_seed(sector.id, 5)
        assert (failed.value.code, failed.value.level) == (1, Level.TEMPORARY)

    on_stage(scenario)


def test_a_proof_that_does_not_verify_is_rejected() -> None:
    async def scenario(stage: Stage) -> None:
        sector = await seeded(stage)
        refused = await submit(stage, sector, bytes(range(192)))
        assert refused.res == Res.REJECTED
        assert "192 bytes that do not hold" in (refused.desc or "")
        assert not stage.devnet.book.online(sector.id).proof_verified
        assert (await stage.client.poll_proof_state(sector.id)).state == OnChainState.NOT_FOUND
        assert (await submit(stage, sector, GOOD_PROOF)).res == Res.ACCEPTED

    on_stage(scenario)


def test_a_proof_without_pre_commit_or_seed_is_rejected_unverified() -> None:
    async def scenario(stage: Stage) -> None:
        sector = await allocated(stage)
        assert (await submit(stage, sector, GOOD_PROOF)).desc == "no pre-commit was submitted"
        assert (await pre_commit(stage, sector)).res == Res.ACCEPTED
        assert (await submit(stage, sector, GOOD_PROOF)).desc == "no seed was handed out"
        assert stage.proofs.verified == []

    on_stage(scenario)


def test_the_same_proof_again_is_accepted_and_another_only_with_reset() -> None:
    async def scenario(stage: Stage) -> None:
        sector = await seeded(stage)
        assert (await submit(stage, sector, GOOD_PROOF)).res == Res.ACCEPTED
        assert (await submit(stage, sector, GOOD_PROOF)).res == Res.ACCEPTED
        assert await submit(stage, sector, b"x") == SubmitResp(Res.MISMATCHED_SUBMISSION, None)
        assert (await submit(stage, sector, b"x", reset=True)).res == Res.REJECTED

    on_stage(scenario)


def test_a_proof_that_can_not_be_verified_is_an_error_and_not_a_rejection(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def scenario(stage: Stage) -> None:
        sector = await seeded(stage)

        def no_key(_task: bytes) -> bool:
            raise StageError("no verifying key v28-stacked.vk")

        monkeypatch.setattr(stage.proofs, "verify_seal", no_key)
        with pytest.raises(RpcError, match=r"v28-stacked\.vk") as failed:
            await submit(stage, sector, GOOD_PROOF)
        assert failed.value.code == 1

    on_stage(scenario)


@pytest.mark.parametrize("known", [False, True])
def test_a_sector_that_is_not_online_is_not_found(known: bool) -> None:
    async def scenario(stage: Stage) -> None:
        sector = await allocated(stage)
        if known:
            await stage.client.report_finalized(sector.id)
        sector_id = sector.id if known else SectorID(10000, 99)
        with pytest.raises(RpcError) as failed:
            await stage.client.assign_ticket(sector_id)
        assert (failed.value.code, failed.value.level) == (11001, Level.ABORT)

    on_stage(scenario)


def test_a_handler_that_breaks_down_answers_as_a_panic_does(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario(stage: Stage) -> None:
        sector = await allocated(stage)

        def broken(_sector: SectorID) -> None:
            raise RuntimeError("nil map")

        monkeypatch.setattr(stage.devnet.book, "online", broken)
        with pytest.raises(RpcError, match=r"fatal error calling .*AssignTicket': nil map") as failed:
            await stage.client.assign_ticket(sector.id)
        assert failed.value.code == 0

    on_stage(scenario)
