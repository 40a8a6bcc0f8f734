"""Ordered faults: each action as a client meets it, and when a rule fires."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

import aiohttp
import pytest

from damocles_worker.devnet.faults import Action, Faults, Rule, parse_rules
from damocles_worker.errors import Level
from damocles_worker.manager.client import ManagerClient, RpcError
from damocles_worker.manager.types import (
    AllocateSectorSpec,
    OnChainState,
    ReportStateReq,
    SectorID,
    StateChange,
    WorkerIdentifier,
)
from tests.unit.devnet.support import Stage, running

SECTOR = SectorID(10000, 1)


def with_rule(scenario: Callable[[Stage], Awaitable[None]], *rules: Rule) -> None:
    async def run() -> None:
        async with running(rules=list(rules)) as stage:
            await stage.client.allocate_sector(AllocateSectorSpec())
            await scenario(stage)

    asyncio.run(run())


async def fails(stage: Stage, complaint: str) -> RpcError:
    with pytest.raises(RpcError, match=complaint) as failed:
        await stage.client.assign_ticket(SECTOR)
    return failed.value


@pytest.mark.parametrize(
    ("rule", "complaint", "executed"),
    [
        (Rule("AssignTicket", Action.REFUSE), "can't be reached", False),
        (Rule("AssignTicket", Action.LOSE), "can't be reached", True),
        (Rule("AssignTicket", Action.HTTP502), "HTTP status 502 .*502 Bad Gateway", False),
        (Rule("AssignTicket", Action.GARBAGE), "not JSON-RPC", False),
        (Rule("AssignTicket", Action.TRUNCATE), "broken JSON", True),
        (Rule("AssignTicket", Action.WRONG_ID), "answered request 1001 where request 1 is expected", True),
        (Rule("AssignTicket", Action.NULL), "null where a value is needed", False),
        (Rule("AssignTicket", Action.ERROR, code=5, message="chain is away"), "code 5: chain is away", False),
    ],
    ids=lambda value: value.action if isinstance(value, Rule) else "",
)
def test_a_call_goes_wrong_once(rule: Rule, complaint: str, executed: bool) -> None:
    async def scenario(stage: Stage) -> None:
        error = await fails(stage, complaint)
        assert error.level is Level.TEMPORARY
        assert (stage.devnet.book.online(SECTOR).ticket is not None) is executed
        await stage.client.assign_ticket(SECTOR)

    with_rule(scenario, rule)


def test_a_delayed_call_is_answered_late() -> None:
    async def scenario(stage: Stage) -> None:
        impatient = ManagerClient(stage.client.address, timeout=0.05)
        with pytest.raises(RpcError, match="did not answer within"):
            await impatient.assign_ticket(SECTOR)
        await impatient.close()
        await stage.client.assign_ticket(SECTOR)

    with_rule(scenario, Rule("AssignTicket", Action.DELAY, seconds=0.3))


@pytest.mark.parametrize(
    ("state", "number"),
    [
        ("Failed", OnChainState.FAILED),
        ("NotFound", OnChainState.NOT_FOUND),
        ("ShouldAbort", OnChainState.SHOULD_ABORT),
    ],
)
def test_a_message_does_not_land(state: str, number: int) -> None:
    async def scenario(stage: Stage) -> None:
        answer = await stage.client.poll_pre_commit_state(SECTOR)
        assert (answer.state, answer.desc) == (number, "ordered failure")

    with_rule(scenario, Rule("Poll*", Action.NOT_LANDED, state=state))


def test_not_landed_leaves_other_methods_alone() -> None:
    async def scenario(stage: Stage) -> None:
        await stage.client.assign_ticket(SECTOR)

    with_rule(scenario, Rule("*", Action.NOT_LANDED))


def test_an_abort_on_the_managers_side_reaches_the_worker_by_its_report() -> None:
    async def scenario(stage: Stage) -> None:
        report = ReportStateReq(WorkerIdentifier("w1", "/s1"), StateChange("Empty", "Allocated", "Allocate"))
        answer = await stage.client.report_state(SECTOR, report)
        assert answer.finalized
        assert answer.abort_reason == "ordered by a fault rule"
        assert (await fails(stage, "does not know this sector")).level is Level.ABORT

    with_rule(scenario, Rule("ReportState", Action.ABORT))


@pytest.mark.parametrize(
    ("rule", "fired"),
    [
        (Rule("Assign*", Action.NULL), [1]),
        (Rule("Assign*", Action.NULL, nth=3), [3]),
        (Rule("Assign*", Action.NULL, nth=2, count=3), [2, 3, 4]),
        (Rule("*", Action.NULL, nth=4, count=None), [4, 5, 6]),
        (Rule("Submit*", Action.NULL, count=None), []),
    ],
)
def test_when_a_rule_fires(rule: Rule, fired: list[int]) -> None:
    faults = Faults([rule])
    assert [call for call in range(1, 7) if faults.fire("AssignTicket") is rule] == fired


def test_the_first_of_two_rules_wins_and_both_count() -> None:
    first, second = Rule("*", Action.NULL), Rule("*", Action.REFUSE, nth=2)
    faults = Faults([first, second])
    assert [faults.fire("X"), faults.fire("X"), faults.fire("X")] == [first, second, None]


async def order(stage: Stage, body: bytes) -> tuple[int, str]:
    url = stage.url + "/devnet/faults"
    async with aiohttp.ClientSession() as session, session.post(url, data=body) as response:
        return response.status, await response.text()


def test_rules_are_taken_while_it_runs_and_can_be_cleared() -> None:
    async def scenario(stage: Stage) -> None:
        rule = {"method": "AssignTicket", "action": "error", "count": None, "code": 11001}
        assert await order(stage, json.dumps([rule]).encode()) == (200, "1 rules added")
        assert (await fails(stage, "11001")).level is Level.ABORT
        url = stage.url + "/devnet/faults"
        async with aiohttp.ClientSession() as session, session.delete(url) as response:
            assert response.status == 200
        await stage.client.assign_ticket(SECTOR)

    with_rule(scenario)


@pytest.mark.parametrize("method", ["post", "delete"])
def test_rules_are_taken_from_loopback_only(monkeypatch: pytest.MonkeyPatch, method: str) -> None:
    monkeypatch.setattr("aiohttp.web.Request.remote", "192.0.2.7")

    async def scenario(stage: Stage) -> None:
        async with (
            aiohttp.ClientSession() as session,
            session.request(method, stage.url + "/devnet/faults", data=b"[]") as response,
        ):
            assert response.status == 403

    with_rule(scenario)


@pytest.mark.parametrize(
    ("rules", "complaint"),
    [
        ({}, "Expected `array`"),
        ([{"method": "X"}], "action"),
        ([{"method": "X", "action": "explode"}], "explode"),
        ([{"method": "X", "action": "null", "often": 3}], "often"),
        ([{"method": "X", "action": "null", "nth": 0}], "start at 1"),
        ([{"method": "X", "action": "not-landed", "state": "Landed"}], "expected one of Pending, Packed"),
    ],
)
def test_a_bad_rule_is_refused_with_its_place(rules: Any, complaint: str) -> None:
    text = json.dumps(rules).encode()
    with pytest.raises(ValueError, match=complaint):
        parse_rules(text)

    async def scenario(stage: Stage) -> None:
        status, answer = await order(stage, text)
        assert status == 400
        assert complaint in answer

    with_rule(scenario)
