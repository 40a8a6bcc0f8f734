"""Upgrading, unsealing and decoding through the extension."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from damocles_worker import _native
from damocles_worker._native import Cancel, Cancelled, StageError
from damocles_worker.processors.tasks import (
    SnapEncodeOutput,
    SnapProveTask,
    UnsealTask,
    VerifySnapTask,
)
from damocles_worker.sectors import zero_commitment

from .sector import PROOF, PROVER_ID, SIZE, TICKET, document
from .upgrade import DATA, UPDATE_PROOF, Upgrade


@pytest.fixture
def upgrade(tmp_path: Path) -> Upgrade:
    return Upgrade(tmp_path)


def unseal_task(upgrade: Upgrade, output: Path, offset: int = 0, num_bytes: int = 2032) -> bytes:
    return msgspec.json.encode(
        UnsealTask(
            registered_proof=PROOF,
            prover_id=PROVER_ID,
            sector_id=7,
            comm_d=list(zero_commitment(2032)),
            ticket=TICKET,
            cache_dir=str(upgrade.sector.cache),
            sealed_file=str(upgrade.sector.sealed),
            unsealed_output=str(output),
            offset=offset,
            num_bytes=num_bytes,
        )
    )


def test_an_upgrade_from_encoding_to_vanilla_proofs(upgrade: Upgrade) -> None:
    output = _native.snap_encode(upgrade.encode_task())
    assert list(document(output)) == ["comm_r_new", "comm_r_last_new", "comm_d_new"]
    encoded = msgspec.json.decode(output, type=SnapEncodeOutput)
    assert bytes(encoded.comm_d_new) == _native.data_commitment(
        SIZE, [(bytes(upgrade.pieces[0].commitment), 2032)]
    )
    assert upgrade.update.stat().st_size == SIZE
    assert sorted(path.name for path in upgrade.update_cache.iterdir()) == [
        "p_aux",
        "sc-02-data-tree-d.dat",
        "sc-02-data-tree-r-last.dat",
        "t_aux",
    ]

    vanilla = msgspec.json.decode(_native.snap_vanilla(upgrade.vanilla_task(encoded)))
    assert len(vanilla) == 1
    assert all(isinstance(byte, int) for byte in vanilla[0])


@pytest.mark.parametrize(("offset", "num_bytes"), [(0, 2032), (1000, 77)])
def test_an_upgraded_sector_is_decoded(upgrade: Upgrade, tmp_path: Path, offset: int, num_bytes: int) -> None:
    encoded = msgspec.json.decode(_native.snap_encode(upgrade.encode_task()), type=SnapEncodeOutput)
    output = tmp_path / "unsealed"
    reports: list[tuple[int, int]] = []
    task = upgrade.decode_task(encoded, output, offset, num_bytes)
    written = _native.snap_decode(task, progress=lambda *report: reports.append(report))
    assert written == str(num_bytes).encode()
    assert output.read_bytes() == DATA[offset : offset + num_bytes]
    assert reports[-1] == (num_bytes, num_bytes)


def test_a_sector_is_unsealed_and_the_range_checked(upgrade: Upgrade, tmp_path: Path) -> None:
    output = tmp_path / "unsealed"
    before = {path: path.read_bytes() for path in upgrade.sector.cache.iterdir()}
    assert _native.unseal(unseal_task(upgrade, output, 127, 254)) == b"254"
    assert output.read_bytes() == bytes(254)
    assert {path: path.read_bytes() for path in upgrade.sector.cache.iterdir()} == before

    with pytest.raises(StageError) as failure:
        _native.unseal(unseal_task(upgrade, output, 2000, 33))
    assert str(failure.value) == "range of 33 bytes at offset 2000: the sector has 2032 unpadded bytes"


def test_a_set_flag_keeps_these_stages_from_starting(upgrade: Upgrade, tmp_path: Path) -> None:
    cancel = Cancel()
    cancel.cancel()
    output = tmp_path / "unsealed"
    with pytest.raises(Cancelled):
        _native.unseal(unseal_task(upgrade, output), cancel=cancel)
    with pytest.raises(Cancelled):
        _native.snap_encode(upgrade.encode_task(), cancel=cancel)
    assert not output.exists()
    assert not upgrade.update.exists()


def test_a_vanilla_proof_that_can_not_be_read_is_an_error() -> None:
    task = SnapProveTask(
        registered_proof=UPDATE_PROOF,
        vannilla_proofs=msgspec.Raw(b"[[1,2,3]]"),
        comm_r_old=[1] * 32,
        comm_r_new=[2] * 32,
        comm_d_new=[3] * 32,
    )
    with pytest.raises(StageError, match="vannilla_proofs: "):
        _native.snap_prove(msgspec.json.encode(task))


@pytest.mark.parametrize("proof", [b"", bytes(192), b"\xff" * 192, bytes(191)])
def test_bytes_that_are_no_proof_do_not_verify(proof: bytes) -> None:
    task = VerifySnapTask(
        registered_proof=UPDATE_PROOF,
        comm_r_old=[1] * 32,
        comm_r_new=[2] * 32,
        comm_d_new=[3] * 32,
        proof=list(proof),
    )
    assert _native.verify_snap(msgspec.json.encode(task)) is False
