"""What PC2 finds when it starts, whoever did PC1 and whoever does PC2."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import cast

import msgspec
import pytest

from damocles_worker.processors.inprocess import InProcess
from damocles_worker.processors.pool import Pool
from damocles_worker.processors.scheduler import Scheduler
from damocles_worker.processors.spec import ChildSpec
from damocles_worker.processors.tasks import PC1Task
from damocles_worker.sealing.stages import replica
from damocles_worker.sealing.stages.workbench import Workbench

SECTOR = "s-t01000-1"
STAGED = b"staged data"
KEPT = ("pc2-finished-trees.json", "pc2-c.dat")
RESULTS = ("p_aux", "t_aux", "sc-02-data-tree-c.dat", "sc-02-data-tree-r-last.dat")
UPSTREAM = "/usr/local/bin/upstream-worker"

OURS = ChildSpec("pc2", 0)
LIBRARY = ChildSpec("pc2", 0, envs={"DAMOCLES_PC2_ENGINE": "crate"})
FOREIGN = ChildSpec("pc2", 0, bin=UPSTREAM)


class Sector:
    """A sector's files, and the programs of its PC1 and PC2 (None: this process)."""

    def __init__(self, root: Path, pc1: str | None = None, pc2: ChildSpec | None = None) -> None:
        specs = {}
        if pc1 is not None:
            specs["pc1"] = [ChildSpec("pc1", 0, bin=pc1)]
        if pc2 is not None:
            specs["pc2"] = [pc2]
        self.pool = Pool(specs, Scheduler({}, {}), InProcess())
        self.cache, self.sealed = root / "cache", root / "sealed"
        staged = root / "staged"
        staged.write_bytes(STAGED)
        store = SimpleNamespace(
            cache_dir=lambda _: self.cache,
            staged=lambda _: staged,
            sealed=lambda _: self.sealed,
            tree_d=lambda _: root / "tree_d",
        )
        services = SimpleNamespace(processors=self.pool)
        self.bench = cast(Workbench, SimpleNamespace(store=store, services=services))

    def pc1(self) -> None:
        """Prepare PC1, and leave the sealed file that it leaves."""
        ours = not self.pool.is_foreign("pc1")
        replica._prepare_pc1(self.bench, SECTOR, ours)
        self.sealed.write_bytes(bytes(len(STAGED)) if ours else STAGED)

    def pc2(self) -> bytes:
        """Prepare PC2; what the sealed file holds then."""
        replica._prepare_pc2(self.bench, SECTOR)
        return self.sealed.read_bytes()

    def leave(self, *names: str) -> None:
        for name in names:
            (self.cache / name).write_bytes(b"")

    def has(self, *names: str) -> list[bool]:
        return [(self.cache / name).exists() for name in names]


@pytest.mark.parametrize("pc2", [None, OURS])
@pytest.mark.parametrize("pc1", [None, UPSTREAM])
def test_a_second_run_of_our_pc2_finds_the_trees_of_the_first_and_copies_nothing(
    tmp_path: Path, pc1: str | None, pc2: ChildSpec | None
) -> None:
    sector = Sector(tmp_path, pc1, pc2)
    sector.pc1()
    before = sector.sealed.stat().st_ino
    sector.pc2()
    sector.leave(*KEPT, *RESULTS)
    sector.pc2()
    assert all(sector.has(*KEPT, *RESULTS))
    assert sector.sealed.stat().st_ino == before


@pytest.mark.parametrize("pc2", [FOREIGN, LIBRARY])
@pytest.mark.parametrize("pc1", [None, UPSTREAM])
def test_a_pc2_that_encodes_in_place_always_finds_the_staged_data_and_no_trees(
    tmp_path: Path, pc1: str | None, pc2: ChildSpec
) -> None:
    sector = Sector(tmp_path, pc1, pc2)
    sector.pc1()
    assert sector.pc2() == STAGED
    sector.sealed.write_bytes(b"half encoded")
    sector.leave(*KEPT, *RESULTS)
    assert sector.pc2() == STAGED
    assert not any(sector.has(*KEPT, *RESULTS))


def test_the_librarys_pc2_in_this_process_finds_the_staged_data(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sector = Sector(tmp_path)
    sector.pc1()
    monkeypatch.setenv("DAMOCLES_PC2_ENGINE", "crate")
    assert sector.pc2() == STAGED


def test_a_replica_of_our_pc2_is_not_encoded_again_by_another(tmp_path: Path) -> None:
    ours = Sector(tmp_path, pc1=UPSTREAM)
    ours.pc1()
    ours.pc2()
    ours.sealed.write_bytes(b"the replica")
    assert Sector(tmp_path, pc2=FOREIGN).pc2() == STAGED


def test_a_foreign_pc1_gets_the_task_as_the_protocol_has_it() -> None:
    task = PC1Task("StackedDrg2KiBV1_1", "/c", "/i", "/o", [0] * 32, 1, [1] * 32, [])
    fields = list(msgspec.json.decode(msgspec.json.encode(task)))
    assert fields[-1] == "piece_infos" and len(fields) == 8


@pytest.mark.parametrize("pc1", [None, UPSTREAM])
def test_layers_of_an_earlier_ticket_are_left_only_to_a_pc1_that_checks_them(
    tmp_path: Path, pc1: str | None
) -> None:
    """The library takes a layer for its size: labels of two replica ids went into one sector."""
    sector = Sector(tmp_path, pc1=pc1)
    sector.cache.mkdir()
    layers = [sector.cache / f"sc-02-data-layer-1.{kind}" for kind in ("dat", "sum")]
    for file in layers:
        file.write_bytes(b"of the ticket before")
    sector.pc1()
    assert [file.exists() for file in layers] == [pc1 is None] * 2
