"""Attached stores: configured and scanned."""

from __future__ import annotations

import asyncio
import subprocess
from pathlib import Path

import msgspec
import pytest

from damocles_worker.errors import WorkerError
from damocles_worker.stores.attached import KnownStores, open_attached
from tests.unit.mounts import remount, small_disk


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
