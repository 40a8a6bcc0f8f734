"""Attached stores: configured and scanned."""

from __future__ import annotations

import asyncio
import subprocess
from pathlib import Path

import msgspec
import pytest

from damocles_worker import filesystem
from damocles_worker.errors import WorkerError
from damocles_worker.stores.attached import KnownStores, open_attached
from damocles_worker.stores.identity import Identity
from tests.unit.mounts import remount, small_disk, two_disks


class Entry(msgspec.Struct, frozen=True):
    location: str
    name: str | None = None
    readonly: bool = False


def scanned(root: Path, name: str, description: str | None) -> Path:
    directory = root / name
    directory.mkdir()
    if description is not None:
        (directory / "sectorstore.json").write_text(description)
    return directory


def test_configured_stores_in_order(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "b")
    entries = [Entry(str(tmp_path / "a"), "first", readonly=True), Entry(str(tmp_path / "link"))]
    first, second = open_attached(entries)
    assert (first.name, first.root, first.readonly) == ("first", tmp_path / "a", True)
    assert (second.name, second.root, second.readonly) == (str(tmp_path / "b"), tmp_path / "b", False)


def test_paths_of_a_sector(tmp_path: Path) -> None:
    (store,) = open_attached([Entry(str(tmp_path))])
    assert store.sealed("s-t01-2") == tmp_path / "sealed" / "s-t01-2"
    assert store.cache_dir("s-t01-2") == tmp_path / "cache" / "s-t01-2"


def test_every_problem_at_once(tmp_path: Path) -> None:
    (tmp_path / "ok").mkdir()
    (tmp_path / "file").touch()
    entries = [
        Entry(str(tmp_path / "ok"), "same"),
        Entry(str(tmp_path / "ok"), "same"),
        Entry(str(tmp_path / "missing")),
        Entry(str(tmp_path / "file")),
    ]
    with pytest.raises(WorkerError, match="3 attached stores can't be used") as caught:
        open_attached(entries)
    for words in ("two attached stores are named 'same'", "missing doesn't exist", "not a directory"):
        assert words in caught.value.cause


def test_missing_store_alone_can_be_waited_for(tmp_path: Path) -> None:
    with pytest.raises(WorkerError, match="doesn't exist") as caught:
        open_attached([Entry(str(tmp_path / "missing"))])
    assert caught.value.waits_for == f"the directory {tmp_path / 'missing'}"


def test_read_only_file_system_needs_the_mark(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk") as disk:
        remount(disk, "ro")
        with pytest.raises(WorkerError, match="mounted read-only") as caught:
            open_attached([Entry(str(disk))])
        assert "readonly = true" in caught.value.next_step
        (store,) = open_attached([Entry(str(disk), readonly=True)])
        assert store.readonly


def test_unmounted_store_is_waited_for_and_comes_back(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk") as disk:
        (store,) = open_attached([Entry(str(disk), "big")])
        store.check()
        subprocess.run(["umount", str(disk)], check=True)
        with pytest.raises(WorkerError, match="is not mounted") as caught:
            store.check()
        assert caught.value.waits_for == f"store 'big' to be back at {disk}"
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "none", str(disk)], check=True)
        store.check()


def test_a_store_that_is_moved_away_leaves_no_store_behind(tmp_path: Path) -> None:
    """A directory of the same name, made by whatever expects one there, is not the store."""
    root = tmp_path / "store"
    root.mkdir()
    (store,) = open_attached([Entry(str(root), "big")])
    root.rename(tmp_path / "away")
    with pytest.raises(WorkerError, match="No such file or directory"):
        store.check()
    root.mkdir()
    with pytest.raises(WorkerError, match="another directory of that name") as caught:
        store.check()
    assert str(root) in caught.value.cause and "restart the worker" in caught.value.next_step
    root.rmdir()
    (tmp_path / "away").rename(root)
    store.check()


def test_a_store_mounted_after_the_start_is_told_from_the_one_below(tmp_path: Path) -> None:
    root = tmp_path / "store"
    root.mkdir()
    (store,) = open_attached([Entry(str(root), "big")])
    root.rmdir()
    with small_disk(root), pytest.raises(WorkerError, match=f"{root} was mounted over it"):
        store.check()


class TestSwappedDisks:
    """Two disks that change places while the worker runs: each looks like a mounted store."""

    @pytest.mark.parametrize("kind", ["ext4", "xfs", "tmpfs"])
    def test_two_stores_whose_disks_are_swapped_are_noticed_and_come_back(
        self, tmp_path: Path, kind: str
    ) -> None:
        with two_disks(tmp_path, kind) as disks:
            if kind == "tmpfs":
                # Nothing else tells a tmpfs from another.
                (disks.one / "sectorstore.json").write_text('{"ID": "id-a", "Name": "a"}')
                (disks.two / "sectorstore.json").write_text('{"ID": "id-b", "Name": "b"}')
            stores = open_attached([Entry(str(disks.one), "a"), Entry(str(disks.two), "b", readonly=True)])
            disks.swap()
            for store in stores:
                with pytest.raises(WorkerError, match="another one is there since the start") as caught:
                    store.check()
                assert caught.value.waits_for == f"store '{store.name}' to be back at {store.root}"
                assert "expected" in caught.value.cause and "restart the worker" in caught.value.next_step
            disks.swap()
            for store in stores:
                store.check()

    def test_a_store_in_a_directory_of_a_swapped_disk_is_noticed(self, tmp_path: Path) -> None:
        """Both directories were made first on their disk, and have one inode number."""
        with two_disks(tmp_path, "ext4") as disks:
            roots = [disks.one / "store", disks.two / "store"]
            for root in roots:
                root.mkdir()
            assert roots[0].stat().st_ino == roots[1].stat().st_ino
            stores = open_attached([Entry(str(root)) for root in roots])
            disks.swap()
            for store in stores:
                with pytest.raises(WorkerError, match="another one is there since the start"):
                    store.check()

    @pytest.mark.parametrize("kind", ["ext4", "xfs"])
    def test_a_disk_that_is_mounted_again_as_another_device_is_the_same_store(
        self, tmp_path: Path, kind: str
    ) -> None:
        with two_disks(tmp_path, kind) as disks:
            image = tmp_path / "disk-a.img"
            (store,) = open_attached([Entry(str(disks.one), "a")])
            device = disks.one.stat().st_dev
            for path in (disks.one, tmp_path / "disk-a"):
                subprocess.run(["umount", str(path)], check=True)
            # What was free before is in use now.
            (tmp_path / "other.img").write_bytes(bytes(1 << 20))
            loop = ["losetup", "--find", "--show", str(tmp_path / "other.img")]
            other = subprocess.run(loop, check=True, capture_output=True, text=True).stdout.strip()
            try:
                for path in (tmp_path / "disk-a", disks.one):
                    subprocess.run(["mount", "-o", "loop", str(image), str(path)], check=True)
                assert disks.one.stat().st_dev != device
                store.check()
            finally:
                subprocess.run(["losetup", "--detach", other], check=True)

    def test_its_description_may_be_edited_on_its_own_disk(self, tmp_path: Path) -> None:
        with two_disks(tmp_path, "ext4") as disks:
            (store,) = open_attached([Entry(str(disks.one), "a")])
            (disks.one / "sectorstore.json").write_text('{"Name": "new"}')
            store.check()
            (disks.one / "sectorstore.json").unlink()
            store.check()

    def test_another_directory_of_its_disk_is_not_the_store(self, tmp_path: Path) -> None:
        with two_disks(tmp_path, "ext4") as disks:
            disks.unmount()
            disks.directories("a", "b")
            disks.mount()
            (store,) = open_attached([Entry(str(disks.one), "a")])
            disks.swap()
            with pytest.raises(WorkerError, match="another directory of that name"):
                store.check()

    def test_a_network_store_is_told_by_its_export_and_not_by_its_device(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        mountinfo = tmp_path / "mountinfo"
        monkeypatch.setattr(filesystem, "MOUNTINFO", mountinfo)

        def mounted(device: str, source: str) -> None:
            below = f"36 35 0:90 / {disk} rw - autofs systemd-1 rw"
            mountinfo.write_text(f"{below}\n99 36 {device} / {disk} rw,hard - nfs4 {source} rw\n")

        with small_disk(tmp_path / "disk") as disk:
            mounted("0:50", "nas1:/export")
            (store,) = open_attached([Entry(str(disk), "a")])
            mounted("0:77", "nas1:/export")
            store.check()
            mounted("0:50", "nas2:/export")
            with pytest.raises(WorkerError, match=r"network file system nas2:/export, expected nas1:/export"):
                store.check()

    def test_a_server_that_moved_still_has_the_store_that_says_its_name(self) -> None:
        before = Identity(None, "'id-a'", "nas1:/export")
        assert before.changed(Identity(None, "'id-a'", "10.0.0.9:/export")) is None
        assert before.changed(Identity(None, None, "nas1:/export")) == (
            "store in sectorstore.json unknown, expected 'id-a'"
        )

    @pytest.mark.parametrize("description", ["{", "[]", '{"ReadOnly": true}', '{"Name": "", "ID": ""}'])
    def test_a_description_that_says_nothing_does_not_stop_a_configured_store(
        self, tmp_path: Path, description: str
    ) -> None:
        (tmp_path / "sectorstore.json").write_text(description)
        (store,) = open_attached([Entry(str(tmp_path), "a")])
        store.check()
        assert store.identity.store_file is None


class TestScan:
    def test_names(self, tmp_path: Path) -> None:
        scanned(tmp_path, "a", '{"Name": "by-name", "ID": "by-id", "Weight": 3}')
        scanned(tmp_path, "b", '{"Name": "", "ID": "by-id", "ReadOnly": true}')
        c = scanned(tmp_path, "c", "{}")
        scanned(tmp_path, "no-store", None)
        scanned(tmp_path, ".hidden", '{"Name": "hidden"}')
        stores = open_attached([], [f"{tmp_path}/*"])
        assert [(store.name, store.readonly) for store in stores] == [
            ("hidden", False),
            ("by-name", False),
            ("by-id", True),
            (str(c), False),
        ]

    def test_any_depth_and_classes(self, tmp_path: Path) -> None:
        (tmp_path / "rack1").mkdir()
        (tmp_path / "rack2").mkdir()
        scanned(tmp_path / "rack1", "disk", '{"Name": "one"}')
        scanned(tmp_path / "rack2", "disk", '{"Name": "two"}')
        assert [store.name for store in open_attached([], [f"{tmp_path}/rack[12]/dis?"])] == ["one", "two"]
        deep = {store.name for store in open_attached([], [f"{tmp_path}/rack1/**", f"{tmp_path}/rack2/**"])}
        assert deep == {"one", "two"}

    def test_after_the_configured_ones(self, tmp_path: Path) -> None:
        (tmp_path / "plain").mkdir()
        scanned(tmp_path, "scan", '{"Name": "scanned"}')
        stores = open_attached([Entry(str(tmp_path / "plain"), "plain")], [f"{tmp_path}/s*"])
        assert [store.name for store in stores] == ["plain", "scanned"]

    def test_file_instead_of_directory(self, tmp_path: Path) -> None:
        (tmp_path / "file").touch()
        with pytest.raises(WorkerError, match=f"matches the file {tmp_path / 'file'}"):
            open_attached([], [f"{tmp_path}/*"])

    @pytest.mark.parametrize("description", ["{", "[]", '{"Name": 7}'])
    def test_bad_description(self, tmp_path: Path, description: str) -> None:
        directory = scanned(tmp_path, "a", description)
        with pytest.raises(WorkerError, match=str(directory / "sectorstore.json")):
            open_attached([], [f"{tmp_path}/*"])


def test_no_store_at_all_is_said_at_the_start(tmp_path: Path) -> None:
    for patterns in ((), (f"{tmp_path}/*",)):
        with pytest.raises(WorkerError, match="no attached store available"):
            open_attached([], patterns)


def test_the_manager_is_asked_about_the_stores_until_it_knows_them_all() -> None:
    answers: list[tuple[str, ...] | None] = [None, ("b",), ()]
    asked = len(answers)

    async def ask() -> tuple[str, ...] | None:
        return answers.pop(0)

    async def conversation() -> None:
        known = KnownStores(ask)
        await known.check()
        with pytest.raises(WorkerError, match="does not know the attached store b") as caught:
            await known.check()
        assert caught.value.waits_for == "the manager to know b"
        await known.check()
        await known.look()
        assert len(answers) == asked - 3

    asyncio.run(conversation())
