"""Recorded exchanges, the server's half: the devnet answers as the real manager did, in status and keys."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import aiohttp
import msgspec
import pytest

from damocles_worker.devnet.faults import Action, Rule
from damocles_worker.devnet.options import Deals, Options
from damocles_worker.devnet.orders import RebuildOrder, UnsealOrder, WindowPoStOrder
from damocles_worker.devnet.sectors import Message, Sector, Upgrade
from damocles_worker.devnet.server import Devnet
from damocles_worker.devnet.unseals import Wanted
from damocles_worker.manager.types import (
    Cid,
    DealInfo,
    Piece,
    PreCommitOnChainInfo,
    SectorID,
    SectorPiece,
    SnapUpOnChainInfo,
    Ticket,
)
from tests.unit.devnet.support import Stage, running
from tests.unit.manager.transcripts import Line, load

TICKET = Ticket("A" * 43 + "=", 100)
PRE_COMMIT = PreCommitOnChainInfo(comm_r=[0] * 32, comm_d=[0] * 32, ticket=TICKET)


class Scene(msgspec.Struct, frozen=True):
    """What goes before a line. Without one, the sector it is about has just been allocated."""

    options: Options = Options(deals=Deals.NONE)
    rules: tuple[Rule, ...] = ()
    #: Changes the record of the line's sector.
    prepare: Callable[[Sector], None] | None = None
    #: The devnet has never heard of the sector.
    unknown_sector: bool = False
    #: Changes the devnet.
    work: Callable[[Devnet], None] | None = None


def landed(sector: Sector) -> None:
    sector.ticket = TICKET
    sector.pre_commit = PRE_COMMIT
    sector.pre_commit_message = Message(polls_left=0, landed_at=500)


def just_landed(sector: Sector) -> None:
    landed(sector)
    sector.pre_commit_message = Message(polls_left=0, landed_at=1000)


def another_proof_submitted(sector: Sector) -> None:
    landed(sector)
    sector.proof = "BBBB"


def poll_answers(state: str) -> Scene:
    return Scene(rules=(Rule("PollPreCommitState", Action.NOT_LANDED, state=state),))


def sealed(devnet: Devnet) -> Sector:
    """A sector on chain, with one piece."""
    sector = Sector(SectorID(10000, 101), 5, pieces=[PIECE], ticket=TICKET, persisted_in="persist-store1")
    sector.pre_commit = PRE_COMMIT
    sector.finalize()
    devnet.book.put(sector)
    return sector


def upgraded(devnet: Devnet) -> Sector:
    sector = sealed(devnet)
    info = SnapUpOnChainInfo([0] * 32, [0] * 32, "persist-store1", [PIECE.piece.piece_cid], "")
    sector.upgrade = Upgrade([PIECE], info, landed=True)
    return sector


def candidate(devnet: Devnet) -> None:
    devnet.upgrades.candidates.append(sealed(devnet))


def to_rebuild(devnet: Devnet) -> None:
    devnet.rebuilds.queue.append((sealed(devnet), RebuildOrder(101, legacy=True)))


def upgraded_to_rebuild(devnet: Devnet) -> None:
    devnet.rebuilds.queue.append((upgraded(devnet), RebuildOrder(101)))


def to_unseal(devnet: Devnet) -> None:
    order = UnsealOrder(101, PIECE.piece.piece_cid.text, ["market://store1/x"])
    devnet.unseals.wanted.append(Wanted(sealed(devnet), order))


def unsealed(devnet: Devnet) -> None:
    order = UnsealOrder(1, PIECE.piece.piece_cid.text, ["file:///data/unseal/piece", "http://127.0.0.1:1/x"])
    sector = Sector(SectorID(10000, 1), 5)
    devnet.unseals.wanted.append(Wanted(sector, order, state="allocated"))


def with_job(state: str, job_id: str = "PLvbp1JXhEg") -> Scene:
    """A devnet that hands out WindowPoSt jobs and has one in ``state``."""

    def work(devnet: Devnet) -> None:
        job = devnet.window_posts.put([sealed(devnet)], WindowPoStOrder([101]))
        devnet.window_posts.jobs = {
            job_id: replace(job, id=job_id, state=state, heartbeat_at=time.monotonic())
        }

    return Scene(options=Options(worker_prover=True), work=work)


PIECE_CID = Cid("baga6ea4seaqakcalbyirify2duqcgjrjfqxtenjyhm7ecrchjjgvau2wlfof6hy")
PIECE = SectorPiece(
    Piece(2048, PIECE_CID),
    DealInfo(deal_id=3, piece_cid=PIECE_CID, payload_size=900, is_builtin_market=True),
)
PROVER = Scene(options=Options(worker_prover=True))
DEALS = Scene(options=Options(deals=Deals.EVERY))
#: By line number.
SCENES = {
    25: Scene(prepare=landed),
    26: Scene(prepare=landed),
    114: DEALS,
    115: DEALS,
    118: Scene(prepare=just_landed),
    119: Scene(prepare=just_landed),
    120: Scene(prepare=landed),
    121: Scene(prepare=lambda sector: setattr(sector, "pre_commit_message", Message(polls_left=1))),
    122: poll_answers("Packed"),
    123: poll_answers("Failed"),
    124: poll_answers("PermFailed"),
    125: poll_answers("ShouldAbort"),
    127: Scene(prepare=another_proof_submitted),
    131: Scene(unknown_sector=True),
    132: Scene(prepare=Sector.finalize),
    134: Scene(work=candidate),
    136: Scene(work=to_rebuild),
    137: Scene(work=upgraded_to_rebuild),
    139: Scene(work=to_unseal),
    141: Scene(work=unsealed),
    142: Scene(rules=(Rule("AcquireUnsealDest", Action.ERROR, message="no such unseal task"),)),
    150: with_job("ready2run"),
    151: with_job("ready2run"),
    152: with_job("ready2run"),
    153: with_job("ready2run"),
    154: with_job("ready2run"),
    155: with_job("running"),
    156: with_job("running", "MJTdEkBxU7G"),
    157: PROVER,
    158: with_job("running"),
    159: with_job("running", "MJTdEkBxU7G"),
    160: with_job("running"),
    161: with_job("running", "MJTdEkBxU7G"),
    162: with_job("finished", "MJTdEkBxU7G"),
    163: with_job("running"),
    164: with_job("running"),
    166: with_job("finished"),
    167: with_job("finished"),
    168: with_job("ready2run"),
    171: with_job("finished"),
    173: with_job("ready2run"),
    144: Scene(options=Options(stores={"another store": None})),
}

NOT_KEPT = "the mock keeps no states and knows every sector; the devnet answers 11001, as line 131"
EXCEPTIONS = {
    24: "an old name of SubmitPersistedEx; a worker does not call it",
    36: NOT_KEPT,
    79: "null is sector 0 of miner 0 to Go, and the mock has a ticket for any",
    116: "an empty list of pieces; the devnet says 'no deals' with null",
}
#: Methods of the manager that only its own tools call.
TOOLS = ("GetInfo", "GetMinerConfig", "ListSectors", "StoreList", "WorkerPingInfoList", "SectorIndexerFind",
         "RemoveSector", "TerminateSector")  # fmt: skip
#: The same, of a manager that runs with its worker prover; without it no WdPoSt method is served.
PROVER_TOOLS = ("WdPoStAllJobs", "WdPoStResetJob", "WdPoStRemoveJob")


def exception(line: Line) -> str:
    """Why the devnet answers this line otherwise; empty if it doesn't."""
    if line.method in TOOLS or (line.method in PROVER_TOOLS and line.number > 148):
        return "a method no worker calls; the devnet does not serve it"
    return EXCEPTIONS.get(line.number, "")


REPLAYED = [line for line in load() if not exception(line)]


@pytest.mark.parametrize("line", REPLAYED, ids=str)
def test_a_recorded_line_replays(line: Line) -> None:
    status, content_type, body = asyncio.run(replay(line))
    assert status == line.status
    if "Content-Type" in line.headers:
        assert content_type == line.headers["Content-Type"]
    if line.response.startswith("{"):
        assert shape(json.loads(body)) == shape(json.loads(line.response))
    else:
        assert body == line.response


async def replay(line: Line) -> tuple[int, str | None, str]:
    scene = SCENES.get(line.number, Scene())
    async with running(scene.options, list(scene.rules)) as stage:
        set_up(stage, scene, line)
        async with (
            aiohttp.ClientSession() as session,
            session.request(line.http_method, stage.url + line.path, data=line.request) as response,
        ):
            return response.status, response.headers.get("Content-Type"), await response.text()


def set_up(stage: Stage, scene: Scene, line: Line) -> None:
    if scene.work is not None:
        scene.work(stage.devnet)
    sector_id = sector_of(line)
    if sector_id is None or scene.unknown_sector:
        return
    sector = Sector(id=sector_id, proof_type=5)
    stage.devnet.book.put(sector)
    if scene.prepare is not None:
        scene.prepare(sector)


def sector_of(line: Line) -> SectorID | None:
    """The sector a request is about, if it names one."""
    params = (line.body or {}).get("params")
    first = params[0] if isinstance(params, list) and params and isinstance(params[0], dict) else {}
    named = {key.lower(): value for key, value in first.get("ID", first).items()}
    if not all(isinstance(named.get(key), int) for key in ("miner", "number")):
        return None
    return SectorID(named["miner"], named["number"])


def shape(value: Any) -> Any:
    """The keys of an answer, values left out but for null and emptiness; of a list, its first entry's."""
    if isinstance(value, dict):
        return {key: shape(item) for key, item in value.items() if key not in OPTIONAL_VALUES} | {
            key: "present" for key in value if key in OPTIONAL_VALUES
        }
    if isinstance(value, list):
        return [shape(value[0])] if value else []
    return None if value is None else "value"


#: Keys whose value may be null in one answer and not in another of the same meaning.
OPTIONAL_VALUES = frozenset({"Desc", "AbortReason", "id", "Meta"})


def test_the_exceptions_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    reasons: dict[str, list[str]] = {}
    for line in load():
        if exception(line):
            reasons.setdefault(exception(line), []).append(f"{line.number} ({line.what})")
    with capsys.disabled():
        print(f"\ntranscripts, devnet: {len(REPLAYED)} of {len(load())} lines replayed; exceptions:")
        for reason, lines in reasons.items():
            print(f"  {reason}: lines {', '.join(lines)}")
    assert {line.number for line in load()} >= EXCEPTIONS.keys() | SCENES.keys()


def test_the_values_that_matter_are_the_recorded_ones() -> None:
    """Where a scene brings the state about, not only the keys are equal."""
    expected = {16: 4, 121: 1, 122: 2, 123: 5, 124: 6, 125: 7, 126: 4}
    for line in load():
        if line.number in expected:
            answer = json.loads(asyncio.run(replay(line))[2])
            recorded = json.loads(line.response)
            assert answer["result"]["State"] == recorded["result"]["State"] == expected[line.number]
