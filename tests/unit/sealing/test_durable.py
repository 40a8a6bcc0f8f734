"""Names that the record of a sector relies on are on the disk before it, also after a power cut."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from msgspec.structs import replace

from damocles_worker.processors.spec import ChildSpec
from tests.e2e.sealed import seal
from tests.unit.sealing.bench import Place, at_work, task_of

#: A transfer processor of others, which makes nothing durable.
PROGRAM = """
import json, os, shutil, sys
print("transfer processor ready", flush=True)
for line in sys.stdin:
    request = json.loads(line)
    for route in request["task"]["routes"]:
        os.makedirs(os.path.dirname(route["dest"]["uri"]), exist_ok=True)
        shutil.copy(route["src"]["uri"], route["dest"]["uri"])
    print(json.dumps({"id": request["id"], "output": True}), flush=True)
"""
FOREIGN = ChildSpec("transfer", 0, bin=sys.executable, args=("-c", PROGRAM))

#: An add_pieces processor of others, which writes what it was started with.
ADD_PIECES = """
import json, shutil, sys
print("add_pieces processor ready", flush=True)
for line in sys.stdin:
    request = json.loads(line)
    shutil.copy(sys.argv[1], request["task"]["staged_filepath"])
    print(json.dumps({"id": request["id"], "output": json.loads(sys.argv[2])}), flush=True)
"""

#: Names in each directory when it was last made durable; files are there without names.
Durable = dict[Path, set[str]]


@pytest.fixture
def durable(monkeypatch: pytest.MonkeyPatch) -> Iterator[Durable]:
    found: Durable = {}
    fsync = os.fsync

    def noted(descriptor: int) -> None:
        path = Path(f"/proc/self/fd/{descriptor}").readlink()
        found[path] = {entry.name for entry in path.iterdir()} if path.is_dir() else set()
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", noted)
    yield found


def assert_durable(durable: Durable, root: Path, *paths: str) -> None:
    """Every name on the way from ``root`` to each of ``paths``."""
    for path in paths:
        here = root
        for name in Path(path).parts:
            assert name in durable.get(here, ()), f"{name} in {here}, for {path}"
            here /= name


def test_directories_and_links_of_a_sector(tmp_path: Path, durable: Durable) -> None:
    sector = seal(tmp_path, 1)
    tree = tmp_path / "tree_d"
    tree.touch()

    async def main(there: Place) -> None:
        task = replace(task_of(sector), deals=[])
        pieces = await there.run("add_pieces", task)
        assert_durable(durable, there.store.data, "unsealed")
        await there.run("tree_d", task)
        assert_durable(durable, there.store.data, f"prepared/{sector.text}")
        await there.run("pc1", replace(task, pieces=pieces))
        assert_durable(
            durable,
            there.store.data,
            f"cache/{sector.text}/sc-02-data-tree-d.dat",
            f"sealed/{sector.text}",
        )
        there.bench.services.static_tree_d[2048] = str(tree)
        durable.clear()
        await there.run("tree_d", task)
        assert durable[there.store.prepared_dir(sector.text)] == {"sc-02-data-tree-d.dat"}

    at_work(tmp_path, main)


def test_what_a_program_of_others_has_computed(tmp_path: Path, durable: Durable) -> None:
    """After a power cut the record said that the pieces were added, and the staged file held zeros."""
    sector = seal(tmp_path, 1, deals=True)
    kept, task = tmp_path / "staged", task_of(sector)

    async def add(there: Place) -> Any:
        infos = await there.run("add_pieces", task)
        shutil.copy(there.store.staged(sector.text), kept)
        return infos

    infos = msgspec.json.encode(at_work(tmp_path, add)).decode()
    foreign = ChildSpec("add_pieces", 0, bin=sys.executable, args=("-c", ADD_PIECES, str(kept), infos))
    durable.clear()

    async def add_elsewhere(there: Place) -> None:
        await there.run("add_pieces", task)
        staged = there.store.staged(sector.text)
        assert_durable(durable, there.store.data, f"unsealed/{staged.name}")
        assert staged in durable

    at_work(tmp_path, add_elsewhere, foreign)


@pytest.mark.parametrize("children", [(), (FOREIGN,)])
def test_the_old_replica_of_an_upgrade(
    tmp_path: Path, durable: Durable, children: tuple[ChildSpec, ...]
) -> None:
    sector = seal(tmp_path, 1)
    names = (f"sealed/{sector.text}", f"cache/{sector.text}/p_aux", f"cache/{sector.text}/t_aux")

    async def main(there: Place) -> None:
        await there.run("fetch_replica", task_of(sector))
        assert_durable(durable, there.store.data, *names)
        if children:
            assert all(there.store.data / name in durable for name in names)

    at_work(tmp_path, main, *children)


def test_what_a_program_of_others_has_stored(tmp_path: Path, durable: Durable) -> None:
    sector = seal(tmp_path, 1)

    async def main(there: Place) -> None:
        await there.run("fetch_replica", task_of(sector))
        for kind in ("sealed", "cache"):
            (there.attached.root / kind).rename(tmp_path / kind)
            (there.store.data / kind).rename(tmp_path / f"links-{kind}")
            (tmp_path / kind).rename(there.store.data / kind)
        await there.run("persist", task_of(sector), instance="persist")
        assert_durable(durable, there.attached.root, f"sealed/{sector.text}", f"cache/{sector.text}/p_aux")

    at_work(tmp_path, main, FOREIGN)
