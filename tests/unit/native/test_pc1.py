"""PC1 that was killed and is taken up again, and the choice of who computes the labels."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from damocles_worker import _native
from damocles_worker._native import StageError
from damocles_worker.processors.tasks import PieceInfo

from .sector import Sector

HELD_PC1 = Path(__file__).with_name("held_pc1.py")
LABELS = 2 * 8 * 1024 * 1024 // 32


@pytest.fixture
def sector(tmp_path: Path) -> Sector:
    return Sector(tmp_path)


def layers(sector: Sector) -> list[Path]:
    return [sector.cache / f"sc-02-data-layer-{number}.dat" for number in (1, 2)]


def killed_in_layer_2(sector: Sector, pieces: list[PieceInfo]) -> None:
    directory = sector.cache.parent
    (directory / "task.json").write_bytes(sector.pc1_task(pieces))
    # On a busy machine a run may end before it is seen in the second layer.
    for _ in range(20):
        for path in layers(sector):
            path.unlink(missing_ok=True)
        command = [sys.executable, str(HELD_PC1), str(directory)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
            assert child.stdout
            held = child.stdout.readline() == "held\n"
            child.kill()
        if held:
            return
    pytest.fail("every run ended before it was seen in layer 2")


def test_a_killed_pc1_goes_on_after_the_layers_it_had(tmp_path: Path) -> None:
    sector = Sector(tmp_path, "StackedDrg8MiBV1_1")
    pieces = sector.stage_zeros()
    killed_in_layer_2(sector, pieces)
    first, last = layers(sector)
    assert not last.exists()
    kept = first.stat().st_ino

    seen: list[int] = []
    resumed = _native.pc1(sector.pc1_task(pieces), lambda done, _total: seen.append(done))
    assert first.stat().st_ino == kept
    assert seen[-1] == LABELS
    # A layer that is computed is seen on its way.
    assert not any(0 < done < LABELS // 2 for done in seen)

    labels = [path.read_bytes() for path in (first, last)]
    for path in sector.cache.glob("sc-02-data-layer-*"):
        path.unlink()
    assert _native.pc1(sector.pc1_task(pieces)) == resumed
    assert [path.read_bytes() for path in (first, last)] == labels


def test_the_librarys_engine_makes_the_same(sector: Sector, monkeypatch: pytest.MonkeyPatch) -> None:
    pieces = sector.stage_zeros()
    engine = _native.pc1(sector.pc1_task(pieces))
    labels = [path.read_bytes() for path in layers(sector)]
    checksums = [path.with_suffix(".sum") for path in layers(sector)]
    assert all(path.exists() for path in checksums)

    monkeypatch.setenv("DAMOCLES_PC1_ENGINE", "crate")
    assert _native.pc1(sector.pc1_task(pieces)) == engine
    assert [path.read_bytes() for path in layers(sector)] == labels
    # Its layers have no checksum: the engine will not take them for its own.
    assert not any(path.exists() for path in checksums)


def test_an_unknown_engine_is_refused(sector: Sector, monkeypatch: pytest.MonkeyPatch) -> None:
    pieces = sector.stage_zeros()
    monkeypatch.setenv("DAMOCLES_PC1_ENGINE", "supra")
    with pytest.raises(StageError, match=r"^DAMOCLES_PC1_ENGINE=supra: expected sdr "):
        _native.pc1(sector.pc1_task(pieces))
