"""Recorded exchanges, the client's half: our request equals the recorded one, and we read its answer."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import msgspec
import pytest
from aiohttp import web

from damocles_worker.errors import Level
from damocles_worker.manager.client import ManagerClient, RpcError
from damocles_worker.manager.methods import METHODS
from tests.unit.manager.test_client import client_of, manager
from tests.unit.manager.transcripts import Line, load

CALLS = {
    "AllocateSector": ManagerClient.allocate_sector,
    "AcquireDeals": ManagerClient.acquire_deals,
    "AssignTicket": ManagerClient.assign_ticket,
    "SubmitPreCommit": ManagerClient.submit_pre_commit,
    "PollPreCommitState": ManagerClient.poll_pre_commit_state,
    "StoreReserveSpace": ManagerClient.store_reserve_space,
    "StoreBasicInfo": ManagerClient.store_basic_info,
    "SubmitPersistedEx": ManagerClient.submit_persisted_ex,
    "WaitSeed": ManagerClient.wait_seed,
    "SubmitProof": ManagerClient.submit_proof,
    "PollProofState": ManagerClient.poll_proof_state,
    "ReportState": ManagerClient.report_state,
    "ReportFinalized": ManagerClient.report_finalized,
    "ReportAborted": ManagerClient.report_aborted,
    "WorkerPing": ManagerClient.worker_ping,
    "FindSector": ManagerClient.find_sector,
    "Version": ManagerClient.version,
    "AllocateSanpUpSector": ManagerClient.allocate_snap_up_sector,
    "SubmitSnapUpProof": ManagerClient.submit_snap_up_proof,
    "AllocateRebuildSector": ManagerClient.allocate_rebuild_sector,
    "AllocateUnsealSector": ManagerClient.allocate_unseal_sector,
    "AcquireUnsealDest": ManagerClient.acquire_unseal_dest,
    "AchieveUnsealSector": ManagerClient.achieve_unseal_sector,
    "WdPoStAllocateJobs": ManagerClient.wdpost_allocate_jobs,
    "WdPoStHeartbeatJobs": ManagerClient.wdpost_heartbeat_jobs,
    "WdPoStFinishJob": ManagerClient.wdpost_finish_job,
}

#: Lines that a worker would not send, by their label.
NEVER_SENT = {
    "AllocateSector, empty object": "both keys are always sent, null when unset",
    "WaitSeed, old call with one parameter": "the proof type is always sent",
    "StoreReserveSpace, candidates null": "a list is always sent",
    "WdPoStFinishJob": "proofs are sent as base64 (the form of 'finish again'), not as arrays",
    "finish: proofs as int arrays (as the Rust worker sends them)": "proofs are sent as base64",
}
#: The one line among the odd encodings that is as a worker would send it.
LARGEST_NUMBER = "enc: Number 2^64-1"


def why_not_sent(line: Line) -> str:
    """The reason why a worker does not send this line; empty if it does."""
    if line.what in NEVER_SENT:
        return NEVER_SENT[line.what]
    if line.what.startswith("enc: ") and line.what != LARGEST_NUMBER:
        return "deliberately malformed, or in an encoding a worker does not use"
    if line.what.startswith("http: "):
        return "about the server's HTTP and JSON-RPC rules; the devnet replays it"
    if line.method not in METHODS:
        return "a worker does not call this method"
    return ""


SENT = [line for line in load() if not why_not_sent(line)]


def test_every_method_has_its_coroutine() -> None:
    assert CALLS.keys() == METHODS.keys()


@pytest.mark.parametrize("line", SENT, ids=str)
def test_a_recorded_line_replays(line: Line) -> None:
    recorded = line.body
    assert recorded is not None
    params = [
        msgspec.convert(value, type_)
        for value, type_ in zip(recorded["params"], METHODS[line.method].params, strict=True)
    ]
    sent, outcome = asyncio.run(call_with(line, params))
    assert {**sent, "id": None} == {**recorded, "id": None}
    check_outcome(outcome, json.loads(line.response))


async def call_with(line: Line, params: list[Any]) -> tuple[dict[str, Any], Any]:
    """What our client sends, and what it makes of the recorded answer (a result or an RpcError)."""
    sent: dict[str, Any] = {}

    async def recorded_manager(request: web.Request) -> web.Response:
        sent.update(await request.json())
        answer = line.response.replace(f'"id":{json.loads(line.response)["id"]}', f'"id":{sent["id"]}')
        return web.Response(status=line.status, text=answer, content_type="text/plain")

    async with manager(recorded_manager) as url, client_of(url) as client:
        try:
            return sent, await CALLS[line.method](client, *params)  # type: ignore[operator]
        except RpcError as error:
            return sent, error


def check_outcome(outcome: Any, answer: dict[str, Any]) -> None:
    """The outcome is the recorded error, or a result that encodes to the recorded one again."""
    if "error" in answer:
        assert isinstance(outcome, RpcError), outcome
        assert outcome.code == answer["error"]["code"]
        assert outcome.level is (Level.ABORT if outcome.code == 11001 else Level.TEMPORARY)
        assert answer["error"]["message"] in outcome.cause
    else:
        assert json.loads(msgspec.json.encode(outcome)) == answer["result"]


def test_the_exceptions_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    reasons: dict[str, list[str]] = {}
    for line in load():
        reason = why_not_sent(line)
        if reason:
            shown = line.method if line.method and line.method not in METHODS else line.what
            reasons.setdefault(reason, []).append(f"{line.number} ({shown})")
    with capsys.disabled():
        print(f"\ntranscripts, client: {len(SENT)} of {len(load())} lines replayed; not sent by a worker:")
        for reason, lines in reasons.items():
            print(f"  {reason}: lines {', '.join(lines)}")
    labels = {line.what for line in load()}
    assert labels >= NEVER_SENT.keys(), "an exception is for a line that is not there"
    assert {line.method for line in SENT} == METHODS.keys()
