"""Space: the formula, and promises that are kept."""

from __future__ import annotations

import asyncio
import json
import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from damocles_worker import _native
from damocles_worker.errors import WorkerError
from damocles_worker.filesystem import disk_usage, free_bytes
from damocles_worker.sealing.machine.task import Task
from damocles_worker.sealing.stages.space import reserve_space
from damocles_worker.sectors import prover_id
from damocles_worker.stores import space
from damocles_worker.stores.attached import KnownStores
from damocles_worker.stores.space import (
    Adoption,
    SpaceLedger,
    plan_bytes,
    sealing_bytes,
    synthetic_proofs_bytes,
)
from tests.unit import virtual_time
from tests.unit.mounts import small_disk

KIB = 1 << 10
GIB = 1 << 30
PROOF = "StackedDrg2KiBV1_1_Feat_SyntheticPoRep"


@pytest.fixture(scope="module")
def sealed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of a real 2 KiB sector at the end of its synthetic proofs."""
    root = tmp_path_factory.mktemp("sector")
    cache = root / "cache"
    cache.mkdir()
    (root / "sealed").touch()
    proof = {"registered_proof": PROOF}
    paths = {"cache_path": str(cache), "in_path": str(root / "staged"), "out_path": str(root / "sealed")}
    sector: dict[str, Any] = {"prover_id": list(prover_id(1000)), "sector_id": 7, "ticket": [1] * 32}

    def run(stage: Callable[[bytes], bytes], **task: Any) -> Any:
        return json.loads(stage(json.dumps(task).encode()))

    staged = paths["in_path"]
    sector["piece_infos"] = run(_native.add_pieces, seal_proof_type=PROOF, pieces=[], staged_filepath=staged)
    run(_native.tree_d, **proof, staged_file=staged, cache_dir=str(cache))
    pc1out = run(_native.pc1, **proof, **paths, **sector)
    pc2out = run(_native.pc2, pc1out=pc1out, cache_dir=str(cache), sealed_file=paths["out_path"])
    run(
        _native.synth_proof,
        cache_path=str(cache),
        replica_path=paths["out_path"],
        pc2out=pc2out,
        **sector,
    )
    return root


def test_synthetic_proofs_of_a_real_sector(sealed: Path) -> None:
    real = (sealed / "cache" / "syn-porep-vanilla-proofs.dat").stat().st_size
    assert synthetic_proofs_bytes(2 * KIB) == real


def test_a_real_sector_fits(sealed: Path) -> None:
    sizes = {path.name: path.stat().st_size for path in sealed.rglob("*") if path.is_file()}
    assert {"staged", "sealed", "sc-02-data-layer-2.dat", "sc-02-data-tree-c.dat"} <= sizes.keys()
    needed = sealing_bytes(2 * KIB, synthetic=True)
    assert disk_usage(sealed) <= needed
    assert sum(sizes.values()) <= needed <= sum(sizes.values()) + 4 * KIB + (1 << 20)


@pytest.mark.parametrize(
    ("size", "low", "high"),
    [
        # 11 layers, staged, sealed, replica, tree_d twice, tree_c 8/7: 17.14 sector sizes and a little.
        (32 * GIB, 548 * GIB, 554 * GIB),
        (64 * GIB, 1096 * GIB, 1108 * GIB),
        (512 << 20, 9 * (512 << 20), 10 * (512 << 20)),
    ],
)
def test_large_sectors(size: int, low: int, high: int) -> None:
    assert low < sealing_bytes(size) < high


def test_a_linked_tree_d_takes_nothing() -> None:
    assert sealing_bytes(32 * GIB) - sealing_bytes(32 * GIB, static_tree_d=True) == 64 * GIB


def test_synthetic_proofs_count_on_top() -> None:
    assert sealing_bytes(32 * GIB, synthetic=True) - sealing_bytes(32 * GIB) == synthetic_proofs_bytes(
        32 * GIB
    )
    assert 10 * GIB < synthetic_proofs_bytes(32 * GIB) < 11 * GIB


class TestRealDisk:
    def test_second_sector_must_fit_beside_the_first(self, tmp_path: Path) -> None:
        with small_disk(tmp_path / "disk", "1m") as disk:
            ledger = SpaceLedger()
            a, b = disk / "a", disk / "b"
            a.mkdir()
            b.mkdir()
            ledger.reserve(a, [600 * KIB], "a")
            with pytest.raises(WorkerError, match="a sector in b needs 600") as caught:
                ledger.reserve(b, [600 * KIB], "b")
            assert f"on {disk}" in caught.value.cause
            assert "promised to a" in caught.value.cause
            assert caught.value.waits_for == f"space on {disk}"
            ledger.release("a")
            ledger.release("a")
            ledger.reserve(b, [600 * KIB], "b")
            assert ledger.free(disk) == 424 * KIB

    def test_what_is_written_is_not_counted_twice(self, tmp_path: Path) -> None:
        with small_disk(tmp_path / "disk", "1m") as disk:
            ledger = SpaceLedger()
            (disk / "a").mkdir()
            (disk / "a" / "earlier").write_bytes(os.urandom(100 * KIB))
            ledger.reserve(disk / "a", [600 * KIB], "a")
            assert ledger.free(disk) == 324 * KIB
            (disk / "a" / "file").write_bytes(os.urandom(400 * KIB))
            assert ledger.free(disk) == 324 * KIB
            ledger.reserve(disk, [300 * KIB], "b")

    def test_sector_of_an_earlier_run_is_counted_even_if_it_does_not_fit(self, tmp_path: Path) -> None:
        with small_disk(tmp_path / "disk", "1m") as disk:
            ledger = SpaceLedger()
            (disk / "a").mkdir()
            (disk / "a" / "file").write_bytes(os.urandom(500 * KIB))
            ledger.adopt(disk / "a", 2048 * KIB, "a")
            assert ledger.free(disk) == 0
            with pytest.raises(WorkerError, match="promised to a"):
                ledger.reserve(disk, [KIB], "b")

    def test_file_systems_are_apart(self, tmp_path: Path) -> None:
        with small_disk(tmp_path / "one") as one, small_disk(tmp_path / "two") as two:
            ledger = SpaceLedger()
            ledger.reserve(one, [1000 * KIB], "a")
            ledger.reserve(two, [1000 * KIB], "a")
            assert ledger.free(one) == ledger.free(two) == 24 * KIB
            ledger.reserve(two, [500 * KIB], "a")
            assert (ledger.free(one), ledger.free(two)) == (24 * KIB, 524 * KIB)

    def test_space_is_given_back_while_another_disk_does_not_answer(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """It is given back on the event loop, which waited for the disk, and with it every heartbeat."""
        ledger = SpaceLedger()
        ledger.reserve(tmp_path, [KIB], "a")
        asked, answered = threading.Event(), threading.Event()

        def stalled(_path: Path) -> int:
            asked.set()
            answered.wait(60)
            return 1 << 40

        monkeypatch.setattr(space, "free_bytes", stalled)
        with ThreadPoolExecutor(2) as disk:
            looking = disk.submit(ledger.free, tmp_path)
            deciding = disk.submit(ledger.reserve, tmp_path, [KIB], "b")
            try:
                assert asked.wait(60)
                giving = threading.Thread(target=ledger.release, args=("a",))
                giving.start()
                giving.join(10)
                assert not giving.is_alive()
            finally:
                answered.set()
            looking.result()
            assert deciding.result() == KIB

    def test_missing_directory(self, tmp_path: Path) -> None:
        with pytest.raises(WorkerError, match="doesn't exist"):
            SpaceLedger().reserve(tmp_path / "none", [1], "a")


OWNERS = ("a", "b", "c", "d")
steps = st.lists(
    st.tuples(
        st.sampled_from(["reserve", "adopt", "write", "release"]), st.sampled_from(OWNERS), st.integers(0, 60)
    ),
    max_size=30,
)


@settings(max_examples=200, deadline=None)
@given(steps=steps)
def test_promises_never_exceed_the_disk(steps: list[tuple[str, str, int]]) -> None:
    """A disk of 100 bytes; the model keeps each owner's promise and what it wrote since."""
    written = dict.fromkeys(OWNERS, 0)
    promised: dict[str, int] = {}
    start = dict.fromkeys(OWNERS, 0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(space, "free_bytes", lambda _path: 100 - sum(written.values()))
        patch.setattr(space, "disk_usage", lambda path: written[path.name])
        patch.setattr(space, "_device", lambda _path: 1)
        ledger = SpaceLedger()

        def outstanding(leave_out: str | None = None) -> int:
            return sum(
                max(0, size - max(0, written[owner] - start[owner]))
                for owner, size in promised.items()
                if owner != leave_out
            )

        def disk_free() -> int:
            return 100 - sum(written.values())

        for action, owner, size in steps:
            if action == "write":
                written[owner] += min(size, disk_free())
            elif action == "release":
                ledger.release(owner)
                promised.pop(owner, None)
            elif action == "adopt":
                ledger.adopt(Path(owner), size, owner)
                promised[owner], start[owner] = size, 0
            else:
                room = disk_free() - outstanding(leave_out=owner)
                fitting = [one for one in (size, size // 2) if one <= room]
                try:
                    reserved = ledger.reserve(Path(owner), [size, size // 2], owner)
                except WorkerError:
                    assert not fitting
                else:
                    assert reserved == max(fitting)
                    promised[owner], start[owner] = reserved, written[owner]
            assert ledger.free(Path("a")) == max(0, disk_free() - outstanding())
        for owner in OWNERS:
            ledger.release(owner)
        assert ledger.free(Path("a")) == disk_free()


class TestAdoption:
    def test_no_sector_is_accepted_for_the_space_of_one_still_being_read(self, tmp_path: Path) -> None:
        """Right after a restart an idle thread was quicker than the thread whose sector needs the space."""
        ledger, adoption = SpaceLedger(), Adoption()
        slow, idle = tmp_path / "slow", tmp_path / "idle"
        slow.mkdir()
        idle.mkdir()
        for thread in (0, 1):
            adoption.expect(thread)

        async def nobody() -> None:
            return None

        store = SimpleNamespace(data=idle)
        services = SimpleNamespace(adoption=adoption, space=ledger, known=KnownStores(nobody))
        bench: Any = SimpleNamespace(
            services=services,
            store=store,
            location=str(idle),
            policy=SimpleNamespace(allowed_sizes=(2 * KIB,)),
            needed_bytes=plan_bytes,
        )

        async def start() -> None:
            adoption.settled(1)
            asking = asyncio.create_task(
                reserve_space(bench, Task(plan="sealer"), lambda _done, _total: None)
            )
            await asyncio.sleep(0.2)
            assert not asking.done()
            ledger.adopt(slow, 2 * free_bytes(tmp_path), "slow")
            adoption.settled(0)
            with pytest.raises(WorkerError, match="promised to slow"):
                await asking

        asyncio.run(start())

    def test_a_disk_that_does_not_answer_holds_up_the_others_for_a_minute_only(self) -> None:
        async def wait() -> float:
            adoption = Adoption()
            adoption.expect(0)
            await adoption.wait()
            passed = asyncio.get_running_loop().time()
            await adoption.wait()
            assert asyncio.get_running_loop().time() == passed
            return passed

        assert virtual_time.run(wait()) == 60.0
