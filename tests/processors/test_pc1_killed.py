"""A pc1 child that dies by kill -9 in the middle of a 2 KiB sector, which is sealed to the same comm_r."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest

from damocles_worker import _native
from damocles_worker.processors.tasks import PieceInfo
from tests.processors.test_child import Lines
from tests.unit.native.sector import Sector, document

#: Longer than a 2 KiB layer takes on any machine.
LONG = 120.0


def layer(sector: Sector, number: int, suffix: str = "dat") -> Path:
    return sector.cache / f"sc-02-data-layer-{number}.{suffix}"


def pc1_killed_in(number: int, sector: Sector, pieces: list[PieceInfo]) -> None:
    """A run of the child that ends in layer ``number``; those before it are there, it never gets its name.

    Such a layer is hashed in microseconds. So its checksum file, which is written before the layer gets its
    name, is a pipe that nobody reads from: opening it waits for ever.
    """
    checksum = layer(sector, number, "sum.partial")
    os.mkfifo(checksum)
    lines = Lines("pc1")
    assert lines.next() == b"pc1 processor ready\n"
    lines.send(b'{"id":1,"task":' + sector.pc1_task(pieces) + b"}\n")
    end = time.monotonic() + LONG
    # The file of the layer is made after those before it are whole.
    while not layer(sector, number, "partial").exists():
        assert lines.process.poll() is None and time.monotonic() < end, lines.end()
        time.sleep(0.01)
    lines.process.kill()
    lines.end()
    checksum.unlink()
    there = [found for found in (1, 2) if layer(sector, found).exists()]
    assert there == list(range(1, number))


def pc1_resumed(sector: Sector, pieces: list[PieceInfo]) -> bytes:
    lines = Lines("pc1")
    assert lines.next() == b"pc1 processor ready\n"
    lines.send(b'{"id":1,"task":' + sector.pc1_task(pieces) + b"}\n")
    answer = json.loads(lines.next())
    lines.end()
    assert answer["err_msg"] is None, answer
    return json.dumps(answer["output"]).encode()


@pytest.fixture(scope="module")
def comm_r(tmp_path_factory: pytest.TempPathFactory) -> list[int]:
    """That of the same sector, sealed by the proofs library alone and without a cut."""
    sector = Sector(tmp_path_factory.mktemp("undisturbed"))
    pieces = sector.stage_zeros()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DAMOCLES_PC1_ENGINE", "crate")
        patch.setenv("DAMOCLES_PC2_ENGINE", "crate")
        output = _native.pc2(sector.pc2_task(_native.pc1(sector.pc1_task(pieces))))
    found: list[int] = document(output)["comm_r"]
    return found


@pytest.mark.parametrize("computer", ["pc2", "crate"])
@pytest.mark.parametrize("number", [1, 2])
def test_a_sector_killed_in_pc1_and_resumed_has_the_same_comm_r(
    tmp_path: Path, comm_r: list[int], number: int, computer: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    sector = Sector(tmp_path)
    pieces = sector.stage_zeros()
    pc1_killed_in(number, sector, pieces)
    kept = [layer(sector, whole).stat().st_ino for whole in range(1, number)]
    output = pc1_resumed(sector, pieces)
    assert [layer(sector, whole).stat().st_ino for whole in range(1, number)] == kept
    monkeypatch.setenv("DAMOCLES_PC2_ENGINE", computer)
    assert document(_native.pc2(sector.pc2_task(output)))["comm_r"] == comm_r
