"""Sealing stores: made, found, refused, emptied."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from damocles_worker.errors import Level, WorkerError
from damocles_worker.sealing.records import StoreRecords
from damocles_worker.stores.sealing import SealingStore, initialise
from tests.unit.mounts import fill, remount, small_disk, vanishing
from tests.unit.stores.layout import make_sector_dirs

SECTOR = "s-t01000-7"


def names(directory: Path) -> set[str]:
    return {path.name for path in directory.iterdir()}


class TestOpen:
    def test_missing_location_is_made(self, tmp_path: Path) -> None:
        store = SealingStore.open(tmp_path / "store")
        assert names(tmp_path / "store") == {".holder", "data", "meta"}
        assert store.journal.load() is None
        store.close()

    def test_only_the_last_component_is_made(self, tmp_path: Path) -> None:
        with pytest.raises(WorkerError, match="neither does its parent") as caught:
            SealingStore.open(tmp_path / "mount" / "store")
        assert caught.value.waits_for == f"the directory {tmp_path / 'mount'}"
        assert names(tmp_path) == set()

    def test_without_create_nothing_is_made(self, tmp_path: Path) -> None:
        with pytest.raises(WorkerError, match="not a sealing store"):
            SealingStore.open(tmp_path / "store", create=False)
        assert names(tmp_path) == set()

    @pytest.mark.parametrize("present", [(), ("lost+found/",), ("config.toml",), ("data/", "meta/")])
    def test_empty_directory_is_taken(self, tmp_path: Path, present: tuple[str, ...]) -> None:
        for name in present:
            if name.endswith("/"):
                (tmp_path / name).mkdir()
            else:
                (tmp_path / name).touch()
        SealingStore.open(tmp_path).close()
        assert names(tmp_path) == {".holder", "data", "meta", *(name.strip("/") for name in present)}

    @pytest.mark.parametrize("present", ["photos", "data/file", "meta/file"])
    def test_foreign_directory_is_refused_untouched(self, tmp_path: Path, present: str) -> None:
        file = tmp_path / present
        file.parent.mkdir(exist_ok=True)
        file.write_text("dear")
        with pytest.raises(WorkerError, match=r"has no \.holder") as caught:
            SealingStore.open(tmp_path)
        assert f"store sealing-init -l {tmp_path}" in caught.value.next_step
        assert caught.value.level is Level.CRITICAL
        assert file.read_text() == "dear"
        assert len(names(tmp_path)) == 1

    def test_file_is_refused(self, tmp_path: Path) -> None:
        (tmp_path / "store").touch()
        with pytest.raises(WorkerError, match="not a directory"):
            SealingStore.open(tmp_path / "store")

    def test_store_of_the_rust_worker_is_refused(self, tmp_path: Path) -> None:
        for directory in ("data", "meta"):
            (tmp_path / directory).mkdir()
        (tmp_path / ".holder").touch()
        (tmp_path / "meta" / "CURRENT").touch()
        with pytest.raises(WorkerError, match="Rust") as caught:
            SealingStore.open(tmp_path)
        assert f"store adopt {tmp_path}" in caught.value.next_step
        assert names(tmp_path / "meta") == {"CURRENT"}

    @pytest.mark.parametrize("lost", ["data", "meta"])
    def test_part_of_the_layout_lost(self, tmp_path: Path, lost: str) -> None:
        SealingStore.open(tmp_path).close()
        (tmp_path / lost).rename(tmp_path / "away")
        with pytest.raises(WorkerError, match=f"has no {lost}/"):
            SealingStore.open(tmp_path)

    def test_lost_journal_beside_sector_data(self, tmp_path: Path) -> None:
        store = SealingStore.open(tmp_path)
        make_sector_dirs(store, SECTOR)
        store.close()
        (tmp_path / "meta" / "journal.db").write_bytes(b"")
        with pytest.raises(WorkerError, match="record of that sector is lost"):
            SealingStore.open(tmp_path)
        assert (tmp_path / "data" / "sealed").is_dir()

    def test_two_processes(self, tmp_path: Path) -> None:
        store = SealingStore.open(tmp_path / "store")
        program = (
            "import sys\nfrom damocles_worker.errors import WorkerError\n"
            "from damocles_worker.stores.sealing import SealingStore\n"
            "try:\n    SealingStore.open(sys.argv[1])\nexcept WorkerError as error:\n    print(error.cause)\n"
        )
        command = [sys.executable, "-c", program, str(tmp_path / "store")]
        result = subprocess.run(command, capture_output=True, text=True, check=True)
        assert f"in use by the process with pid {os.getpid()}" in result.stdout
        store.close()

    def test_one_directory_by_two_names(self, tmp_path: Path) -> None:
        store = SealingStore.open(tmp_path / "store")
        (tmp_path / "alias").symlink_to(tmp_path / "store")
        with pytest.raises(WorkerError, match="already open in this process"):
            SealingStore.open(tmp_path / "alias")
        store.close()

    def test_read_only_file_system(self, tmp_path: Path) -> None:
        with small_disk(tmp_path / "disk") as disk:
            SealingStore.open(disk / "store").close()
            remount(disk, "ro")
            with pytest.raises(WorkerError, match=f"{disk} is mounted read-only") as caught:
                SealingStore.open(disk / "store")
            assert caught.value.waits_for == f"{disk} to be writable again"
            with pytest.raises(WorkerError, match="read-only"):
                SealingStore.open(disk / "other")

    def test_full_file_system(self, tmp_path: Path) -> None:
        with small_disk(tmp_path / "disk") as disk:
            fill(disk)
            with pytest.raises(WorkerError, match="no space left") as caught:
                SealingStore.open(disk / "store")
            assert caught.value.waits_for == f"space on {disk}"


class TestUse:
    def test_layout(self, tmp_path: Path) -> None:
        store = SealingStore.open(tmp_path)
        data = tmp_path / "data"
        assert store.data == data
        assert store.staged(SECTOR) == data / "unsealed" / SECTOR
        assert store.prepared_dir(SECTOR) == data / "prepared" / SECTOR
        assert store.tree_d(SECTOR) == data / "prepared" / SECTOR / "sc-02-data-tree-d.dat"
        assert store.cache_dir(SECTOR) == data / "cache" / SECTOR
        assert store.sealed(SECTOR) == data / "sealed" / SECTOR
        make_sector_dirs(store, SECTOR)
        for path in (store.staged(SECTOR), store.tree_d(SECTOR), store.sealed(SECTOR)):
            path.touch()
        assert store.cache_dir(SECTOR).is_dir()
        store.close()

    def test_wipe_removes_all_data_and_nothing_else(self, tmp_path: Path) -> None:
        outside = tmp_path / "outside"
        outside.mkdir()
        (outside / "precious").write_text("keep")
        store = SealingStore.open(tmp_path / "store")
        store.journal.commit(b"record", sector=SECTOR, event="E", state="S", detail="")
        (store.root / "config.toml").write_text("plan = 'sealer'")
        make_sector_dirs(store, SECTOR)
        store.sealed(SECTOR).write_bytes(b"replica")
        (store.cache_dir(SECTOR) / "link-to-dir").symlink_to(outside)
        store.tree_d(SECTOR).symlink_to(outside / "precious")
        (store.data / "link").symlink_to(outside)
        (store.data / "dangling").symlink_to(tmp_path / "nowhere")
        (store.data / ".hidden").touch()
        store.wipe_data()
        assert names(store.data) == set()
        assert (outside / "precious").read_text() == "keep"
        assert names(store.root) == {".holder", "data", "meta", "config.toml"}
        assert store.journal.load() == b"record"
        store.close()

    def test_data_on_another_disk(self, tmp_path: Path) -> None:
        """An operator may link data/ elsewhere; the link stays, its contents go."""
        fast = tmp_path / "fast"
        fast.mkdir()
        root = tmp_path / "store"
        SealingStore.open(root).close()
        (root / "data").rmdir()
        (root / "data").symlink_to(fast)
        store = SealingStore.open(root)
        make_sector_dirs(store, SECTOR)
        assert names(fast) == {"unsealed", "prepared", "cache", "sealed"}
        store.wipe_data()
        assert names(fast) == set()
        assert (root / "data").is_symlink()
        store.close()

    def test_unmounted_store_is_waited_for(self, tmp_path: Path) -> None:
        store = SealingStore.open(tmp_path / "store")
        store.root.rename(tmp_path / "unmounted")
        (tmp_path / "store").mkdir()
        for use in (store.check, store.wipe_data):
            with pytest.raises(WorkerError, match="is gone") as caught:
                use()
            assert caught.value.waits_for == f"store {store.root} to be mounted again"
        assert names(tmp_path / "store") == set()
        store.close()


class TestInitialise:
    def test_parents_are_made(self, tmp_path: Path) -> None:
        root = initialise(tmp_path / "a" / "b")
        assert names(root) == {".holder", "data", "meta"}
        SealingStore.open(root, create=False).close()

    def test_other_files_stay(self, tmp_path: Path) -> None:
        (tmp_path / "notes.txt").write_text("mine")
        initialise(tmp_path)
        assert (tmp_path / "notes.txt").read_text() == "mine"
        SealingStore.open(tmp_path, create=False).close()

    def test_second_time(self, tmp_path: Path) -> None:
        initialise(tmp_path)
        with pytest.raises(WorkerError, match="sealing store already"):
            initialise(tmp_path)

    def test_data_that_would_be_wiped(self, tmp_path: Path) -> None:
        (tmp_path / "data").mkdir()
        (tmp_path / "data" / "thesis").write_text("years")
        with pytest.raises(WorkerError, match="is not empty"):
            initialise(tmp_path)
        assert names(tmp_path) == {"data"}

    def test_store_of_the_rust_worker(self, tmp_path: Path) -> None:
        (tmp_path / "meta").mkdir()
        (tmp_path / "meta" / "CURRENT").touch()
        with pytest.raises(WorkerError, match="Rust"):
            initialise(tmp_path)


class TestAnotherDisk:
    """What is mounted over a store, or takes its place, is not that store."""

    def real_store(self, root: Path) -> Path:
        """A store in which a sector is under way; answers its replica."""
        store = SealingStore.open(root)
        make_sector_dirs(store, SECTOR)
        replica = store.sealed(SECTOR)
        replica.write_bytes(b"replica")
        store.journal.commit(b"record", sector=SECTOR, event="PC2", state="PC2Done", detail="")
        store.close()
        return replica

    def test_a_disk_mounted_after_the_start_keeps_its_sector(self, tmp_path: Path) -> None:
        with vanishing(tmp_path / "disk", mounted=True) as disk:
            replica = self.real_store(disk.path)
            disk.go_away()
            store = SealingStore.open(disk.path)
            records = StoreRecords(store)
            assert records.load() is None
            disk.come_back(over_files=True)
            for use in (store.check, records.load, records.wipe):
                with pytest.raises(WorkerError, match="another file system") as caught:
                    use()
                assert caught.value.waits_for == f"the store at {disk.path}"
                assert replica.read_bytes() == b"replica"
            assert store.replaced
            store.close()
            again = SealingStore.open(disk.path)
            assert again.journal.load() == b"record" and not again.replaced
            again.close()

    def test_two_stores_whose_disks_were_swapped(self, tmp_path: Path) -> None:
        one, other = tmp_path / "one", tmp_path / "other"
        self.real_store(one)
        stores = [SealingStore.open(one), SealingStore.open(other)]
        one.rename(tmp_path / "aside")
        other.rename(one)
        (tmp_path / "aside").rename(other)
        for store in stores:
            with pytest.raises(WorkerError, match="another file system"):
                store.wipe_data()
            assert store.replaced
        assert (other / "data/sealed" / SECTOR).read_bytes() == b"replica"
        for store in stores:
            store.close()

    def test_a_store_below_the_unmounted_one_is_not_taken_for_it(self, tmp_path: Path) -> None:
        root = tmp_path / "disk"
        root.mkdir()
        SealingStore.open(root).close()
        with small_disk(tmp_path / "real", "16m") as real:
            subprocess.run(["mount", "--bind", str(real), str(root)], check=True)
            store = SealingStore.open(root)
            subprocess.run(["umount", "-l", str(root)], check=True)
            with pytest.raises(WorkerError, match="is not mounted") as caught:
                store.check()
            assert caught.value.waits_for == f"store {root} to be mounted again" and not store.replaced
            store.close()

    def test_data_on_a_disk_of_its_own_that_went_away(self, tmp_path: Path) -> None:
        SealingStore.open(tmp_path / "store").close()
        (tmp_path / "store/data").rmdir()
        with vanishing(tmp_path / "store/data", mounted=True) as disk:
            store = SealingStore.open(tmp_path / "store")
            make_sector_dirs(store, SECTOR)
            disk.go_away()
            with pytest.raises(WorkerError, match="is not mounted"):
                store.wipe_data()
            disk.come_back()
            store.check()
            store.wipe_data()
            assert names(store.data) == set()
            store.close()

    def test_a_store_is_not_made_where_a_disk_is_to_be_mounted(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        fstab, mount = tmp_path / "fstab", tmp_path / "my disk"
        fstab.write_text(f"# disks\n/dev/sdz1 {str(mount).replace(' ', chr(92) + '040')} ext4 defaults 0 2\n")
        monkeypatch.setattr("damocles_worker.filesystem.FSTAB", fstab)
        mount.mkdir()
        for location in (mount, mount / "store"):
            with pytest.raises(WorkerError, match="not mounted") as caught:
                SealingStore.open(location)
            assert caught.value.waits_for == f"{mount} to be mounted"
        assert names(mount) == set()
        initialise(mount / "store")  # The operator says that it is meant.
        SealingStore.open(mount / "store").close()

    def test_a_store_that_is_closed_is_not_emptied(self, tmp_path: Path) -> None:
        store = SealingStore.open(tmp_path)
        store.close()
        store.close()
        with pytest.raises(WorkerError, match="is closed"):
            store.wipe_data()
