"""Copies: durable, whole or not at all, and clear about what went wrong."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from msgspec import structs

from damocles_worker import _native
from damocles_worker.errors import WorkerError
from damocles_worker.stores import pump, transfer
from damocles_worker.stores.attached import AttachedStore
from damocles_worker.stores.pump import CopyCancelledError
from damocles_worker.stores.sealing import SealingStore
from damocles_worker.stores.transfer import (
    cache_files,
    copy_durable,
    persist,
    settle_copy,
)
from tests.unit.mounts import fill, remount, small_disk, two_disks
from tests.unit.stores.layout import make_sector_dirs

SECTOR = "s-t01000-7"
CONTENT = os.urandom(3_000_000)


class Flag:
    def __init__(self, cancelled: bool = True) -> None:
        self.cancelled = cancelled


@pytest.fixture(autouse=True, params=["past the cache", "through the cache"])
def small_buffers(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    """Several turns of the copy loop, page dropping included, for a small file."""
    monkeypatch.setattr(transfer, "BUFFER", 1 << 18)
    monkeypatch.setattr(pump, "BUFFER", 1 << 18)
    monkeypatch.setattr(pump, "STRIDE", 1 << 18)
    monkeypatch.setattr(pump, "SYNC_EVERY", 1 << 19)
    monkeypatch.setattr(pump, "LARGE", 1 << 20)
    monkeypatch.setattr(pump, "PROGRESS_INTERVAL", 0.0)
    if request.param == "through the cache":
        monkeypatch.setattr(pump, "DIRECT", frozenset())


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "source"
    path.write_bytes(CONTENT)
    return path


@pytest.fixture
def target(tmp_path: Path) -> Path:
    """A destination that has an older file."""
    (tmp_path / "store").mkdir()
    path = tmp_path / "store" / "target"
    path.write_bytes(b"old")
    return path


def checksum_of(content: bytes) -> str:
    checksum = _native.Checksum()
    checksum.update(content)
    return checksum.hexdigest()


def assert_untouched(target: Path) -> None:
    assert target.read_bytes() == b"old"
    assert [path.name for path in target.parent.iterdir()] == ["target"]


class TestCopy:
    @pytest.mark.parametrize("size", [0, 1, 1 << 18, (1 << 18) + 1, len(CONTENT)])
    @pytest.mark.parametrize("verify", [False, True])
    def test_content_and_checksum(self, source: Path, target: Path, size: int, verify: bool) -> None:
        source.write_bytes(CONTENT[:size])
        assert copy_durable(source, target, verify=verify) == checksum_of(CONTENT[:size])
        assert target.read_bytes() == CONTENT[:size]
        assert [path.name for path in target.parent.iterdir()] == ["target"]

    def test_progress_counts_bytes(self, source: Path, target: Path) -> None:
        reports: list[tuple[int, int]] = []
        copy_durable(source, target, progress=lambda done, total: reports.append((done, total)))
        assert reports[-1] == (len(CONTENT), len(CONTENT))
        assert [done for done, _ in reports] == sorted({done for done, _ in reports})
        assert len(reports) > 5

    def test_holes_become_zeros(self, tmp_path: Path, target: Path) -> None:
        sparse = tmp_path / "sparse"
        with open(sparse, "wb") as file:
            file.truncate(2_000_000)
        copy_durable(sparse, target)
        assert target.read_bytes() == bytes(2_000_000)

    def test_durable_before_visible(
        self, source: Path, target: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The order that a power loss asks for: file synced, then renamed, then the directory synced."""
        steps: list[str] = []
        fsync, rename = os.fsync, Path.rename

        def record_fsync(descriptor: int) -> None:
            path = Path(f"/proc/self/fd/{descriptor}").readlink()
            steps.append(f"fsync {'directory' if path.is_dir() else path.name.split('tmp-')[0]}")
            fsync(descriptor)

        def record_rename(self: Path, to: Path) -> Path:
            steps.append(f"rename to {to.name}")
            return rename(self, to)

        monkeypatch.setattr(os, "fsync", record_fsync)
        monkeypatch.setattr(Path, "rename", record_rename)
        copy_durable(source, target)
        assert steps == ["fsync .target.", "rename to target", "fsync directory"]

    def test_cancel(self, source: Path, target: Path) -> None:
        with pytest.raises(CopyCancelledError, match="0 of 3000000"):
            copy_durable(source, target, cancel=Flag())
        assert_untouched(target)

    def test_cancel_in_the_middle(self, source: Path, target: Path) -> None:
        flag = Flag(cancelled=False)

        def stop(_done: int, _total: int) -> None:
            flag.cancelled = True

        with pytest.raises(CopyCancelledError):
            copy_durable(source, target, progress=stop, cancel=flag)
        assert_untouched(target)

    def test_a_copy_that_is_cancelled_while_the_disk_takes_it_is_not_put_in_its_place(
        self, source: Path, target: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Whoever had cancelled it no longer waited, and may have begun another one."""
        flag = Flag(cancelled=False)
        fsync = os.fsync

        def slow(descriptor: int) -> None:
            flag.cancelled = True
            fsync(descriptor)

        monkeypatch.setattr(os, "fsync", slow)
        with pytest.raises(CopyCancelledError, match="before it was put in its place"):
            copy_durable(source, target, cancel=flag)
        assert_untouched(target)

    def test_a_large_copy_leaves_little_to_its_last_fsync(
        self, source: Path, target: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
    ) -> None:
        """A pause had to wait until gigabytes were on the disk."""
        synchronised: list[int] = []
        fdatasync = os.fdatasync

        def counted(descriptor: int) -> None:
            synchronised.append(descriptor)
            fdatasync(descriptor)

        monkeypatch.setattr(os, "fdatasync", counted)
        copy_durable(source, target)
        if "through the cache" in request.node.name:
            assert len(synchronised) == len(CONTENT) // pump.SYNC_EVERY
        else:
            # Nothing was left in the cache.
            assert not synchronised


class TestCopyErrors:
    def test_missing_source(self, tmp_path: Path, target: Path) -> None:
        with pytest.raises(WorkerError, match=f"can't read {tmp_path / 'none'}: it doesn't exist"):
            copy_durable(tmp_path / "none", target)
        assert_untouched(target)

    def test_source_is_a_directory(self, tmp_path: Path, target: Path) -> None:
        with pytest.raises(WorkerError, match="not a regular file"):
            copy_durable(tmp_path, target)

    def test_destination_is_a_directory(self, source: Path, tmp_path: Path) -> None:
        (tmp_path / "taken").mkdir()
        with pytest.raises(WorkerError, match="is a directory where a file belongs"):
            copy_durable(source, tmp_path / "taken")

    def test_no_directory_to_copy_into(self, source: Path, tmp_path: Path) -> None:
        with pytest.raises(WorkerError, match="doesn't exist"):
            copy_durable(source, tmp_path / "none" / "target")

    @pytest.mark.parametrize("size", [0, 1_000_000, 2_999_999])
    def test_source_truncated_while_copying(self, source: Path, target: Path, size: int) -> None:
        def cut(_done: int, _total: int) -> None:
            os.truncate(source, size)

        with pytest.raises(WorkerError, match="changed while it was copied") as caught:
            copy_durable(source, target, progress=cut)
        assert f"{len(CONTENT)} bytes at the start" in caught.value.cause
        assert f"{size} now" in caught.value.cause
        assert_untouched(target)

    def test_source_written_while_copying(self, source: Path, target: Path) -> None:
        def scribble(done: int, total: int) -> None:
            if done == total:
                with open(source, "r+b") as file:
                    file.write(b"!")

        os.utime(source, (1, 1))
        with pytest.raises(WorkerError, match="changed while it was copied"):
            copy_durable(source, target, progress=scribble)
        assert_untouched(target)

    def test_input_output_error_is_named(
        self, source: Path, target: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def fail(_descriptor: int, _buffers: object) -> int:
            raise OSError(errno.EIO, "Input/output error")

        monkeypatch.setattr(os, "readv", fail)
        with pytest.raises(WorkerError, match=f"can't read {source}: the medium reported"):
            copy_durable(source, target)
        assert_untouched(target)

    def test_too_large_for_the_disk(self, source: Path, tmp_path: Path) -> None:
        with small_disk(tmp_path / "disk") as disk:
            with pytest.raises(WorkerError, match=r"needed, 1.* free") as caught:
                copy_durable(source, disk / "target")
            assert caught.value.waits_for == f"space on {disk}"
            assert list(disk.iterdir()) == []

    def test_disk_fills_up_meanwhile(self, source: Path, tmp_path: Path) -> None:
        with small_disk(tmp_path / "disk", "4m") as disk:

            def fill_up(_done: int, _total: int) -> None:
                fill(disk)

            with pytest.raises(WorkerError, match="no space left") as caught:
                copy_durable(source, disk / "target", progress=fill_up)
            assert caught.value.waits_for == f"space on {disk}"
            assert "MiB needed" in caught.value.cause
            assert [path.name for path in disk.iterdir()] == ["filler"]

    def test_read_only_disk(self, source: Path, tmp_path: Path) -> None:
        with small_disk(tmp_path / "disk", "4m") as disk:
            remount(disk, "ro")
            with pytest.raises(WorkerError, match=f"{disk} is mounted read-only"):
                copy_durable(source, disk / "target")

    def test_read_back_finds_damage(
        self, source: Path, target: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A medium that keeps other bytes than it was given: only verify can tell."""
        fsync = os.fsync

        def damage(descriptor: int) -> None:
            os.pwrite(descriptor, b"\0" * 16, 1_000_000)
            fsync(descriptor)

        monkeypatch.setattr(os, "fsync", damage)
        with pytest.raises(WorkerError, match="read back differs"):
            copy_durable(source, target, verify=True)
        assert_untouched(target)

    def test_read_back_without_direct_io(
        self, source: Path, target: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        os_open = os.open

        def no_direct(path: Path, flags: int, *rest: int) -> int:
            if flags & os.O_DIRECT:
                raise OSError(errno.EINVAL, "Invalid argument")
            return os_open(path, flags, *rest)

        monkeypatch.setattr(os, "open", no_direct)
        copy_durable(source, target, verify=True)
        assert target.read_bytes() == CONTENT


class TestKill:
    def test_kill_in_the_middle_leaves_the_old_file(self, source: Path, target: Path, tmp_path: Path) -> None:
        marker = tmp_path / "copying"
        program = (
            "import sys, threading\nfrom pathlib import Path\n"
            "from damocles_worker.stores import pump, transfer\n"
            "pump.BUFFER, pump.PROGRESS_INTERVAL = 1 << 18, 0.0\n"
            "def stop(done, total):\n    Path(sys.argv[3]).write_text('x')\n    threading.Event().wait()\n"
            "transfer.copy_durable(Path(sys.argv[1]), Path(sys.argv[2]), progress=stop)\n"
        )
        process = subprocess.Popen([sys.executable, "-c", program, str(source), str(target), str(marker)])
        deadline = time.monotonic() + 60
        while not marker.exists():
            assert time.monotonic() < deadline
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert target.read_bytes() == b"old"
        left = {path.name for path in target.parent.iterdir()} - {"target"}
        assert len(left) == 1
        assert left.pop().startswith(f".target.tmp-{process.pid}-")


class TestPersist:
    @pytest.fixture
    def store(self, tmp_path: Path) -> Iterator[SealingStore]:
        store = SealingStore.open(tmp_path / "sealing")
        make_sector_dirs(store, SECTOR)
        yield store
        store.close()

    @pytest.fixture
    def attached(self, tmp_path: Path) -> AttachedStore:
        root = tmp_path / "attached"
        root.mkdir()
        return AttachedStore.at(root, "big")

    def sealed_sector(self, store: SealingStore, size: int) -> list[str]:
        names = cache_files(size)
        store.sealed(SECTOR).write_bytes(os.urandom(100_000))
        for name in [*names, "sc-02-data-tree-c.dat", "sc-02-data-layer-1.dat", ".pc2_running"]:
            (store.cache_dir(SECTOR) / name).write_bytes(os.urandom(1000))
        return names

    @pytest.mark.parametrize(
        ("size", "trees"),
        [
            (2048, ["sc-02-data-tree-r-last.dat"]),
            (8 << 20, ["sc-02-data-tree-r-last.dat"]),
            (512 << 20, ["sc-02-data-tree-r-last.dat"]),
            (32 << 30, [f"sc-02-data-tree-r-last-{index}.dat" for index in range(8)]),
            (64 << 30, [f"sc-02-data-tree-r-last-{index}.dat" for index in range(16)]),
        ],
    )
    def test_files_and_their_order(
        self, store: SealingStore, attached: AttachedStore, size: int, trees: list[str]
    ) -> None:
        self.sealed_sector(store, size)
        lines = persist(store, attached, SECTOR, size)
        cache = [f"cache/{SECTOR}/{name}" for name in (*trees, "p_aux", "t_aux")]
        assert [line.split("  ")[1] for line in lines] == [f"sealed/{SECTOR}", *cache]
        found = sorted(
            str(path.relative_to(attached.root)) for path in attached.root.rglob("*") if path.is_file()
        )
        assert found == sorted([f"sealed/{SECTOR}", *cache])
        for line in lines:
            checksum, name = line.split("  ")
            assert checksum == checksum_of((attached.root / name).read_bytes())

    def test_again_after_a_killed_copy(self, store: SealingStore, attached: AttachedStore) -> None:
        self.sealed_sector(store, 2048)
        persist(store, attached, SECTOR, 2048)
        left = attached.root / "sealed" / f".{SECTOR}.tmp-1-dead"
        other = attached.root / "sealed" / f".{SECTOR}9.tmp-1-alive"
        cache_left = attached.cache_dir(SECTOR) / ".p_aux.tmp-1-dead"
        for path in (left, other, cache_left):
            path.write_bytes(b"half")
        persist(store, attached, SECTOR, 2048, verify=True)
        assert not left.exists()
        assert not cache_left.exists()
        assert other.exists(), "the copy of another sector"
        assert attached.sealed(SECTOR).read_bytes() == store.sealed(SECTOR).read_bytes()

    def test_progress_runs_over_all_files(self, store: SealingStore, attached: AttachedStore) -> None:
        names = self.sealed_sector(store, 2048)
        reports: list[tuple[int, int]] = []
        persist(store, attached, SECTOR, 2048, progress=lambda done, total: reports.append((done, total)))
        total = 100_000 + 1000 * len(names)
        assert {whole for _, whole in reports} == {total}
        assert reports[-1][0] == total
        assert sorted(reports) == reports

    def test_missing_file_is_named_before_anything_is_copied(
        self, store: SealingStore, attached: AttachedStore
    ) -> None:
        self.sealed_sector(store, 2048)
        (store.cache_dir(SECTOR) / "t_aux").unlink()
        with pytest.raises(WorkerError, match="t_aux: it doesn't exist"):
            persist(store, attached, SECTOR, 2048)
        assert list(attached.root.iterdir()) == []

    def test_read_only_store(self, store: SealingStore, attached: AttachedStore) -> None:
        closed = AttachedStore.at(attached.root, "big", readonly=True)
        with pytest.raises(WorkerError, match="configured read-only"):
            persist(store, closed, SECTOR, 2048)

    def test_unmounted_store(self, store: SealingStore, attached: AttachedStore) -> None:
        self.sealed_sector(store, 2048)
        gone = structs.replace(attached, mount=attached.root)
        with pytest.raises(WorkerError, match="is not mounted") as caught:
            persist(store, gone, SECTOR, 2048)
        assert caught.value.waits_for == f"store 'big' to be back at {attached.root}"
        assert list(attached.root.iterdir()) == []

    def test_a_copy_under_way_while_two_disks_are_swapped_is_not_taken_for_stored(
        self, store: SealingStore, tmp_path: Path
    ) -> None:
        self.sealed_sector(store, 2048)
        with two_disks(tmp_path, "ext4") as disks:
            attached = AttachedStore.at(disks.one, "big")
            swapped: list[bool] = []

            def swap(_done: int, _total: int) -> None:
                if not swapped:
                    swapped.append(True)
                    for kind in ("sealed", "cache"):
                        (disks.two / kind).mkdir()
                    (disks.two / "cache" / SECTOR).mkdir()
                    disks.swap()

            with pytest.raises(WorkerError, match="another one is there since the start") as caught:
                persist(store, attached, SECTOR, 2048, progress=swap)
            assert caught.value.waits_for == f"store 'big' to be back at {disks.one}"
            disks.swap()
            assert len(persist(store, attached, SECTOR, 2048)) == 4
            assert attached.sealed(SECTOR).read_bytes() == store.sealed(SECTOR).read_bytes()

    def test_store_that_goes_away_during_the_copy(self, store: SealingStore, attached: AttachedStore) -> None:
        """An empty directory is in its place: nothing is written there, and the store is waited for."""
        self.sealed_sector(store, 2048)
        away = attached.root.with_name("away")

        def moved_away(_done: int, _total: int) -> None:
            if not away.exists():
                attached.root.rename(away)
                attached.root.mkdir()

        with pytest.raises(WorkerError, match="another directory of that name") as caught:
            persist(store, attached, SECTOR, 2048, progress=moved_away)
        assert caught.value.waits_for == f"store 'big' to be back at {attached.root}"
        assert list(attached.root.iterdir()) == []
        attached.root.rmdir()
        away.rename(attached.root)
        persist(store, attached, SECTOR, 2048)
        assert attached.sealed(SECTOR).read_bytes() == store.sealed(SECTOR).read_bytes()

    def test_file_where_a_directory_belongs(self, store: SealingStore, attached: AttachedStore) -> None:
        self.sealed_sector(store, 2048)
        (attached.root / "cache").write_text("in the way")
        with pytest.raises(WorkerError, match=f"can't create {attached.root / 'cache'}"):
            persist(store, attached, SECTOR, 2048)


@pytest.mark.parametrize("verify", [False, True])
def test_copy_of_others_is_looked_at(source: Path, target: Path, verify: bool) -> None:
    target.write_bytes(CONTENT)
    settle_copy(source, target, target.parent, verify=verify)
    target.write_bytes(CONTENT[:-1])
    with pytest.raises(WorkerError, match="has 2999999 bytes, its source 3000000"):
        settle_copy(source, target, target.parent, verify=verify)
    target.unlink()
    with pytest.raises(WorkerError, match="target: it doesn't exist"):
        settle_copy(source, target, target.parent, verify=verify)


def test_damaged_copy_of_others_is_found_when_it_is_read_back(source: Path, target: Path) -> None:
    target.write_bytes(bytes([CONTENT[0] ^ 1]) + CONTENT[1:])
    settle_copy(source, target, target.parent)
    with pytest.raises(WorkerError, match="read back differs"):
        settle_copy(source, target, target.parent, verify=True)
