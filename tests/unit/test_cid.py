"""CIDs of commitments."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from damocles_worker.cid import commd_cid, commr_cid, parse_cid
from damocles_worker.sectors import SECTOR_SIZES, unpadded, zero_commitment

ZERO_PIECE_32GIB = "baga6ea4seaqao7s73y24kcutaosvacpdjgfe5pw76ooefnyqw4ynr3d2y6x2mpq"
#: From a manager's answer: a comm_d, and a comm_r.
RECORDED_COMM_D = "baga6ea4seaqakcalbyirify2duqcgjrjfqxtenjyhm7ecrchjjgvau2wlfof6hy"
RECORDED_COMM_R = "bagboea4b5abcaaiib4lb2jblgi4uar2okvogg2trpb7yndmutorktmfxx3c4zuyp"


def test_the_zero_piece_of_32_gib_has_its_published_cid() -> None:
    assert commd_cid(zero_commitment(unpadded(SECTOR_SIZES["32GiB"]))) == ZERO_PIECE_32GIB


def test_recorded_cids_are_read() -> None:
    assert parse_cid(RECORDED_COMM_D) == ("unsealed", bytes([*range(5, 96, 3), 31]))
    assert parse_cid(RECORDED_COMM_R) == ("sealed", bytes([*range(1, 212, 7), 15]))


@settings(deadline=None)
@given(st.binary(min_size=32, max_size=32))
def test_a_commitment_survives_its_text(raw: bytes) -> None:
    assert parse_cid(commd_cid(raw)) == ("unsealed", raw)
    assert parse_cid(commr_cid(raw)) == ("sealed", raw)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "starts with 'b'"),
        ("QmYwAPJzv5CZsnA625s3Xf2nemtYgPpHdWEz79ojWKPbdG", "starts with 'b'"),
        (ZERO_PIECE_32GIB.upper(), "starts with 'b'"),
        ("b" + ZERO_PIECE_32GIB[1:].upper(), "upper-case"),
        ("b018", "not base32"),
        ("bafkreigh2akiscaildcqabsyg3dfr6chu3fgpregiymsck7e7aqa4s52zy", "not a Filecoin commitment"),
        (ZERO_PIECE_32GIB[:-8], "bytes of commitment where 32 are expected"),
        (ZERO_PIECE_32GIB[:-1] + "r", "bits set beyond"),
    ],
)
def test_other_texts_are_refused_with_the_reason(text: str, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        parse_cid(text)


@settings(deadline=None)
@given(st.text())
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        parse_cid(text)
    except ValueError as error:
        assert repr(text) in str(error)


def test_a_commitment_of_another_length_is_refused() -> None:
    with pytest.raises(ValueError, match="32 bytes, found 31"):
        commd_cid(bytes(31))
