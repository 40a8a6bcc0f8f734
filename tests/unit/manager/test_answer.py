"""Answers that are not what the interface says: one clear error each, and never anything else."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from damocles_worker.cid import commr_cid
from damocles_worker.errors import Level
from damocles_worker.manager import methods as m
from damocles_worker.manager.answer import decode_answer
from damocles_worker.manager.rpc_error import RpcError
from tests.unit.manager.transcripts import load

URL = "http://10.0.0.5:1789/rpc/v0"
AWAY = f"the manager at {URL}"


def refusal(body: bytes, *, method: m.Method[Any] = m.ASSIGN_TICKET, status: int = 200) -> RpcError:
    with pytest.raises(RpcError) as refused:
        decode_answer(method, URL, 7, status, body)
    error = refused.value
    assert error.cause.startswith(f"{method.name}: {AWAY} ")
    assert "\n" not in str(error)
    assert error.next_step
    return error


def answer(**fields: Any) -> bytes:
    return json.dumps({"jsonrpc": "2.0", "id": 7, **fields}).encode()


def test_a_gateways_page_shows_its_status_and_first_bytes() -> None:
    error = refusal(b"<html>\r\n<head><title>502 Bad Gateway</title></head>" + b"x" * 1000, status=502)
    assert "HTTP status 502" in error.cause
    assert "<html> <head><title>502 Bad Gateway" in error.cause
    assert len(error.cause) < 400
    assert (error.level, error.waits_for, error.code) == (Level.TEMPORARY, AWAY, None)


def test_an_empty_body_is_named() -> None:
    error = refusal(b"", status=500)
    assert "HTTP status 500 with an empty body" in error.cause
    assert error.waits_for == AWAY


def test_truncated_json_is_named() -> None:
    error = refusal(answer(result={"Ticket": "A" * 43 + "=", "Epoch": 5})[:40])
    assert "broken JSON" in error.cause
    assert "40 bytes" in error.cause


@pytest.mark.parametrize("found", [8, "7", 7.5, True, None])
def test_the_answer_to_another_request_is_refused(found: object) -> None:
    error = refusal(answer(id=found, result=None))
    assert f"answered request {json.dumps(found)} where request 7 is expected" in error.cause
    assert (error.level, error.waits_for) == (Level.TEMPORARY, None)


def test_an_error_with_a_null_id_is_an_error_of_the_manager() -> None:
    error = refusal(answer(id=None, error={"code": -32700, "message": "parse error"}))
    assert error.code == -32700


def test_neither_result_nor_error_is_refused() -> None:
    assert "neither result nor error" in refusal(answer()).cause


def test_a_method_that_returns_nothing_may_leave_the_result_out() -> None:
    decode_answer(m.REPORT_FINALIZED, URL, 7, 200, answer())
    decode_answer(m.REPORT_FINALIZED, URL, 7, 200, answer(result=None))


def test_null_where_an_object_is_needed_is_named() -> None:
    assert "answered null where a value is needed" in refusal(answer(result=None)).cause


def test_null_where_it_means_nothing_to_do_is_none() -> None:
    assert decode_answer(m.ALLOCATE_SECTOR, URL, 7, 200, answer(result=None)) is None


@pytest.mark.parametrize(
    ("result", "path"),
    [
        ({"ID": {"Miner": "10000", "Number": 1}, "ProofType": 5}, "$.ID.Miner"),
        ({"ID": {"Miner": 10000}, "ProofType": 5}, "`$.ID`"),
        ({"ID": {"Miner": 10000, "Number": -1}, "ProofType": 5}, "$.ID.Number"),
        ([], "Expected `object | null`, got `array`"),
    ],
)
def test_a_wrong_type_is_named_with_its_path(result: object, path: str) -> None:
    error = refusal(answer(result=result), method=m.ALLOCATE_SECTOR)
    assert path in error.cause
    assert error.level is Level.TEMPORARY


@pytest.mark.parametrize("ticket", ["", "AAAA", "A" * 44, "-" * 43 + "=", 5])
def test_a_ticket_that_is_not_32_bytes_of_base64_is_refused(ticket: object) -> None:
    assert "$.Ticket" in refusal(answer(result={"Ticket": ticket, "Epoch": 5})).cause


@pytest.mark.parametrize("version", ["1.0", None, 2])
def test_another_version_of_json_rpc_is_refused(version: object) -> None:
    assert "JSON-RPC version" in refusal(answer(jsonrpc=version, result=None)).cause


@pytest.mark.parametrize("error", ["text", [], {"message": "no code"}, {"code": "1"}, 5])
def test_an_error_that_is_no_error_object_is_named(error: object) -> None:
    assert "$.error" in refusal(answer(error=error)).cause


def test_an_unknown_sector_is_abort_level_and_explained() -> None:
    error = refusal(answer(error={"code": 11001, "message": "error code 11001: sector state not found"}))
    assert (error.code, error.level, error.waits_for) == (11001, Level.ABORT, None)
    assert "does not know this sector" in error.cause
    assert "another home directory" in error.next_step


def test_a_method_that_is_not_served_points_at_worker_prover() -> None:
    error = refusal(
        answer(error={"code": -32601, "message": "no"}), method=m.WDPOST_ALLOCATE_JOBS, status=500
    )
    assert (error.code, error.level) == (-32601, Level.TEMPORARY)
    assert "--worker-prover" in error.next_step


def test_any_other_error_is_temporary() -> None:
    error = refusal(answer(error={"code": 1, "message": "get miner info: chain is away"}))
    assert (error.code, error.level) == (1, Level.TEMPORARY)
    assert "chain is away" in error.cause


def test_an_error_wins_over_a_result() -> None:
    assert refusal(answer(result=None, error={"code": 1, "message": "both"})).code == 1


def test_deep_nesting_is_an_error_like_any_other() -> None:
    refusal(b'{"jsonrpc":"2.0","id":7,"result":' + b"[" * 100_000)
    refusal(b"[" * 100_000)


RECORDED = [
    (line.method, line.response.encode())
    for line in load()
    if line.method in m.METHODS and line.response and line.response.startswith("{")
]


@settings(deadline=None)
@given(st.data())
def test_mutated_answers_give_a_result_or_an_rpc_error(data: st.DataObject) -> None:
    name, body = data.draw(st.sampled_from(RECORDED))
    request_id = json.loads(body)["id"]
    mutated = bytearray(body)
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, max(0, len(mutated) - 1)))
        end = at + data.draw(st.integers(0, 20))
        mutated[at:end] = data.draw(
            st.one_of(
                st.binary(max_size=6), st.sampled_from([b"null", b"{}", b"[]", b"-1", b'"x"', b"1e999"])
            )
        )
    try:
        decode_answer(
            m.METHODS[name], URL, request_id, data.draw(st.sampled_from([200, 500])), bytes(mutated)
        )
    except RpcError as error:
        assert error.next_step


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


@settings(deadline=None)
@given(st.sampled_from(sorted(m.METHODS)), JSON)
def test_any_result_is_decoded_or_an_rpc_error(name: str, result: object) -> None:
    try:
        decode_answer(m.METHODS[name], URL, 7, 200, answer(result=result))
    except RpcError as error:
        assert error.method == name


@settings(deadline=None)
@given(st.binary(max_size=200), st.integers(100, 599))
def test_any_bytes_are_decoded_or_an_rpc_error(body: bytes, status: int) -> None:
    refusal(body, status=status)


RECORD = {
    "ID": {"Miner": 1000, "Number": 7},
    "SectorType": 5,
    "Pre": {"CommR": {"/": commr_cid(bytes(32))}, "CommD": None, "Ticket": None},
}


def test_of_a_recorded_pre_commit_only_comm_r_has_to_be_there() -> None:
    """A rebuild whose record had no ticket paused after PC2, for a value that nothing reads."""
    record = decode_answer(m.FIND_SECTOR, URL, 7, 200, answer(result=RECORD))
    assert record is not None and record.pre is not None


def test_a_recorded_commitment_that_is_none_is_named() -> None:
    """It ended the thread, with `unexpected ValueError`, and so did every resume."""
    error = refusal(answer(result={**RECORD, "Pre": {"CommR": {"/": "bafynonsense"}}}), method=m.FIND_SECTOR)
    assert "bafynonsense" in error.cause and error.unreadable


@pytest.mark.parametrize("number", [-1, 20])
def test_a_sector_with_an_unknown_proof_type_is_refused_as_a_whole(number: int) -> None:
    """Taken as it was, it ended the thread before the sector was written down."""
    sector = {"ID": {"Miner": 1000, "Number": 7}, "ProofType": number}
    assert "ProofType" in refusal(answer(result=sector), method=m.ALLOCATE_SECTOR).cause
