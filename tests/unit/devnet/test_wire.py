"""The server's reading of requests: any bytes get an answer as the manager gives it, never a breakdown."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from damocles_worker.devnet.godecode import GoDecodeError, decode
from damocles_worker.devnet.wire import Reply, decode_params, parse
from damocles_worker.manager.methods import METHODS
from damocles_worker.manager.types import AllocateSectorSpec, PreCommitOnChainInfo, SectorID, Ticket

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


@settings(deadline=None)
@given(st.binary())
def test_any_body_is_a_request_or_none(body: bytes) -> None:
    assert parse(body) is None or body.strip()


@pytest.mark.parametrize("request_id", ["1" + "0" * 400, "{}", "[]", "true"])
def test_a_request_with_an_impossible_id_is_none(request_id: str) -> None:
    assert parse(f'{{"method":"Venus.Version","id":{request_id}}}'.encode()) is None


@settings(deadline=None)
@given(st.sampled_from(sorted(METHODS)), JSON)
def test_any_parameters_are_decoded_or_refused(name: str, params: object) -> None:
    request = parse(json.dumps({"method": "Venus." + name, "params": params, "id": 1}).encode())
    assert request is not None
    typed = decode_params(request, METHODS[name])
    if isinstance(typed, Reply):
        assert typed.status == 500
        assert json.loads(typed.body)["error"]["code"] in (-32602, -32700)
    else:
        assert len(typed) == len(METHODS[name].params)


def test_null_and_absent_are_the_zero_value() -> None:
    assert decode(None, SectorID) == SectorID(0, 0)
    assert decode({}, AllocateSectorSpec) == AllocateSectorSpec(None, None)
    assert decode({"Ticket": None}, PreCommitOnChainInfo) == PreCommitOnChainInfo(
        [0] * 32, [0] * 32, Ticket("", 0)
    )


def test_an_array_of_fixed_length_is_cut_and_filled() -> None:
    info = decode({"CommR": [1], "CommD": [2] * 40}, PreCommitOnChainInfo)
    assert info.comm_r == [1] + [0] * 31
    assert info.comm_d == [2] * 32


@pytest.mark.parametrize(
    ("value", "complaint"),
    [
        ({"Miner": "1"}, "cannot unmarshal string into Go struct field SectorID.Miner of type uint64"),
        ({"Miner": 2**64}, "cannot unmarshal number 18446744073709551616 into"),
        ({"Miner": True}, "cannot unmarshal bool into"),
        ({"Number": 1.0}, "cannot unmarshal number 1.0 into"),
        ([1, 2], "cannot unmarshal array into Go value of type SectorID"),
    ],
)
def test_go_is_strict_about_kinds(value: object, complaint: str) -> None:
    with pytest.raises(GoDecodeError, match=complaint):
        decode(value, SectorID)
