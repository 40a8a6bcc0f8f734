"""Which sets a plan needs, and what they are called."""

from __future__ import annotations

import pytest

from damocles_worker import _native
from damocles_worker.params import KINDS, ParameterSet, required
from damocles_worker.params.sets import circuit, published_digests
from damocles_worker.sectors import SECTOR_SIZES

SMALL, LARGE = SECTOR_SIZES["2KiB"], SECTOR_SIZES["32GiB"]


def test_each_plan_needs_the_sets_of_its_proofs() -> None:
    assert required([SMALL], ["sealer"]) == [ParameterSet(SMALL, "porep")]
    assert required([SMALL], ["snapup"]) == [ParameterSet(SMALL, "update")]
    assert required([SMALL], ["wdpost"]) == [ParameterSet(SMALL, "window")]
    assert required([SMALL], ["unseal"]) == []


def test_sets_are_listed_once_by_size_and_kind() -> None:
    found = required([LARGE, SMALL], ["snapup", "sealer", "rebuild"])
    assert [(item.sector_size, item.kind) for item in found] == [
        (SMALL, "porep"),
        (SMALL, "update"),
        (LARGE, "porep"),
        (LARGE, "update"),
    ]


def test_a_foreign_prover_needs_the_verifying_key_only() -> None:
    assert required([SMALL], ["sealer"], foreign_plans=["sealer"])[0].only_vk
    assert not required([SMALL], ["rebuild", "snapup"], foreign_plans=["snapup"])[0].only_vk
    assert not required([SMALL], ["snapup", "rebuild"], foreign_plans=["snapup"])[0].only_vk


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", SECTOR_SIZES.values())
def test_every_set_is_published_under_its_name(kind: str, size: int) -> None:
    wanted = ParameterSet(size, kind)  # type: ignore[arg-type]
    assert {wanted.params_file, wanted.vk_file} <= published_digests().keys()


def test_only_local_sizes_have_a_generated_length() -> None:
    for kind in KINDS:
        known = [size for size in SECTOR_SIZES.values() if circuit(kind, size).params_bytes is not None]
        assert known == [SECTOR_SIZES["2KiB"], SECTOR_SIZES["8MiB"]]


def test_an_unknown_circuit_is_named() -> None:
    with pytest.raises(ValueError, match="4096"):
        _native.circuit_info("porep", 4096)
    with pytest.raises(ValueError, match="pore"):
        _native.circuit_info("pore", SMALL)
