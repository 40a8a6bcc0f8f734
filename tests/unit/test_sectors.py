"""Sector sizes, proof types, prover ids and zero commitments, against published values."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from damocles_worker import sectors
from damocles_worker.sectors import SECTOR_SIZES

ZERO_COMMITMENTS = {
    "32GiB": "077e5fde35c50a9303a55009e3498a4ebedff39c42b710b730d8ec7ac7afa63e",
    "64GiB": "e64005a6bfe3777953b8ad6ef93f0fca1049b2041654f2a411f7702799cece02",
}


@pytest.mark.parametrize(
    ("number", "name"),
    [
        (0, "StackedDrg2KiBV1"),
        (3, "StackedDrg32GiBV1"),
        (5, "StackedDrg2KiBV1_1"),
        (9, "StackedDrg64GiBV1_1"),
        (10, "StackedDrg2KiBV1_1_Feat_SyntheticPoRep"),
        (15, "StackedDrg2KiBV1_2_Feat_NonInteractivePoRep"),
        (19, "StackedDrg64GiBV1_2_Feat_NonInteractivePoRep"),
    ],
)
def test_proof_numbers_and_names(number: int, name: str) -> None:
    assert sectors.proof_name(number) == name
    assert sectors.proof_number(name) == number


@pytest.mark.parametrize("number", [-1, 20, 1000])
def test_a_number_without_a_proof_is_named(number: int) -> None:
    for function in (sectors.proof_name, sectors.sector_size, sectors.is_synthetic):
        with pytest.raises(ValueError, match=str(number)):
            function(number)


def test_a_name_without_a_proof_is_named() -> None:
    with pytest.raises(ValueError, match="StackedDrg2kibV1"):
        sectors.proof_number("StackedDrg2kibV1")


def test_every_proof_has_the_size_in_its_name() -> None:
    for number in range(20):
        size = sectors.size_name(sectors.sector_size(number))
        assert sectors.proof_name(number).startswith(f"StackedDrg{size}V")
        assert sectors.is_synthetic(number) == ("Synthetic" in sectors.proof_name(number))


def test_a_size_no_sector_has_is_named() -> None:
    with pytest.raises(ValueError, match="32000000000"):
        sectors.size_name(32 * 10**9)


def test_proofs_asked_for_have_the_rust_workers_order() -> None:
    assert sectors.proofs_for_sizes([SECTOR_SIZES["32GiB"]]) == [8, 13, 18]
    assert sectors.proofs_for_sizes([SECTOR_SIZES["64GiB"], SECTOR_SIZES["2KiB"]]) == [9, 14, 19, 5, 10, 15]
    assert sectors.proofs_for_sizes([]) == []


def test_the_prover_id_is_leb128() -> None:
    assert sectors.prover_id(10000) == bytes([144, 78]) + bytes(30)
    assert sectors.prover_id(0) == bytes(32)
    assert sectors.prover_id(127)[0] == 127


@given(st.integers(0, 2**64 - 1))
def test_a_prover_id_reads_back(miner: int) -> None:
    encoded = sectors.prover_id(miner)
    length = next(index for index, byte in enumerate(encoded) if byte < 128) + 1
    assert len(encoded) == 32
    assert sum((byte & 127) << (7 * index) for index, byte in enumerate(encoded[:length])) == miner
    assert not any(encoded[length:])


@pytest.mark.parametrize("miner", [-1, 2**64])
def test_no_prover_id_outside_64_bits(miner: int) -> None:
    with pytest.raises(ValueError, match=str(miner)):
        sectors.prover_id(miner)


@pytest.mark.parametrize(("name", "commitment"), ZERO_COMMITMENTS.items())
def test_zero_commitments_are_the_published_ones(name: str, commitment: str) -> None:
    assert sectors.zero_commitment(sectors.unpadded(SECTOR_SIZES[name])).hex() == commitment


def test_the_smallest_piece_has_the_published_zero_commitment() -> None:
    assert sectors.zero_commitment(127).hex().startswith("3731bb99")
    assert sectors.zero_commitment(127).hex().endswith("488333")


@pytest.mark.parametrize("size", [0, 128, 127 * 3, -127])
def test_no_zero_commitment_for_a_size_no_piece_has(size: int) -> None:
    with pytest.raises(ValueError, match=str(size)):
        sectors.zero_commitment(size)


@pytest.mark.parametrize(
    ("name", "layer"),
    [
        ("sc-02-data-layer-1.dat", True),
        ("sc-02-data-layer-11.sum", True),
        ("sc-02-data-layer-1.partial", False),
        ("sc-02-data-tree-d.dat", False),
        ("p_aux", False),
    ],
)
def test_layer_files_are_known_by_their_names(name: str, layer: bool) -> None:
    assert sectors.is_layer_file(name) == layer
