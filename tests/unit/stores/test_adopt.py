"""Taking over a store of the Rust worker, and giving it back."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from damocles_worker.errors import WorkerError
from damocles_worker.journal import Journal
from damocles_worker.stores import adopt as adoption
from damocles_worker.stores.adopt import adopt, undo
from damocles_worker.stores.sealing import SealingStore

ROCKSDB = {"CURRENT": "MANIFEST-000004\n", "LOCK": "", "000003.log": "records", "IDENTITY": "8d2f"}


@pytest.fixture
def rust_store(tmp_path: Path) -> Path:
    root = tmp_path / "store"
    for directory in ("data", "meta"):
        (root / directory).mkdir(parents=True)
    (root / ".holder").touch()
    for name, content in ROCKSDB.items():
        (root / "meta" / name).write_text(content)
    return root


def content(directory: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in directory.iterdir()}


def test_adopt_keeps_the_database_and_makes_a_store(rust_store: Path) -> None:
    lines = adopt(rust_store)
    assert content(rust_store / "meta.rust") == ROCKSDB
    assert f"moved {rust_store / 'meta'} to {rust_store / 'meta.rust'}" in lines
    assert any("not known" in line and "util sealer sectors list" in line for line in lines)
    store = SealingStore.open(rust_store, create=False)
    assert store.journal.load() is None
    store.close()


def test_undo_restores_everything(rust_store: Path) -> None:
    adopt(rust_store)
    lines = undo(rust_store)
    assert content(rust_store / "meta") == ROCKSDB
    assert not (rust_store / "meta.rust").exists()
    assert any("the Rust worker can use the store again" in line for line in lines)
    with pytest.raises(WorkerError, match="Rust"):
        SealingStore.open(rust_store)


def test_history_comes_back_with_the_next_adoption(rust_store: Path) -> None:
    adopt(rust_store)
    journal = Journal.open(rust_store / "meta")
    journal.commit(None, sector="s-t01-1", event="Finish", state="Empty", detail="")
    journal.close()
    undo(rust_store)
    adopt(rust_store)
    journal = Journal.open(rust_store / "meta")
    assert [row.event for row in journal.history()] == ["Finish"]
    journal.close()


class TestRefused:
    def untouched(self, rust_store: Path) -> None:
        assert content(rust_store / "meta") == ROCKSDB
        assert not (rust_store / "meta.rust").exists()

    @pytest.mark.parametrize("name", ["sealed/s-t01000-1", "unsealed/", "file"])
    def test_anything_under_data(self, rust_store: Path, name: str) -> None:
        path = rust_store / "data" / name
        path.parent.mkdir(exist_ok=True)
        if name.endswith("/"):
            path.mkdir()
        else:
            path.write_text("x")
        with pytest.raises(WorkerError, match="a sector is under way") as caught:
            adopt(rust_store)
        assert name.strip("/") in caught.value.cause
        self.untouched(rust_store)

    def test_running_rust_worker_is_named(self, rust_store: Path) -> None:
        program = (
            "import fcntl, sys, time\nfile = open(sys.argv[1], 'r+')\n"
            "fcntl.lockf(file, fcntl.LOCK_EX)\nprint('locked', flush=True)\ntime.sleep(600)\n"
        )
        command = [sys.executable, "-c", program, str(rust_store / "meta" / "LOCK")]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as worker:
            assert worker.stdout is not None
            assert worker.stdout.readline() == "locked\n"
            with pytest.raises(WorkerError, match=f"still running .* pid {worker.pid} has") as caught:
                adopt(rust_store)
            worker.kill()
        assert "Stop it" in caught.value.next_step
        self.untouched(rust_store)
        adopt(rust_store)

    def test_store_without_a_lock_file(self, rust_store: Path) -> None:
        (rust_store / "meta" / "LOCK").unlink()
        adopt(rust_store)
        assert (rust_store / "meta.rust" / "CURRENT").exists()

    def test_both_databases_there(self, rust_store: Path) -> None:
        (rust_store / "meta.rust").mkdir()
        with pytest.raises(WorkerError, match="both"):
            adopt(rust_store)

    def test_adopted_already(self, rust_store: Path) -> None:
        adopt(rust_store)
        with pytest.raises(WorkerError, match="adopted already"):
            adopt(rust_store)

    def test_our_own_store(self, tmp_path: Path) -> None:
        SealingStore.open(tmp_path).close()
        with pytest.raises(WorkerError, match="not a store of the Rust worker"):
            adopt(tmp_path)
        with pytest.raises(WorkerError, match="was not adopted"):
            undo(tmp_path)

    def test_no_directory(self, tmp_path: Path) -> None:
        with pytest.raises(WorkerError, match="is not a directory"):
            adopt(tmp_path / "none")


class TestUndoRefused:
    def test_task_under_way(self, rust_store: Path) -> None:
        adopt(rust_store)
        journal = Journal.open(rust_store / "meta")
        journal.commit(b"{}", sector="s-t01-1", event="Allocate", state="Allocated", detail="")
        journal.close()
        with pytest.raises(WorkerError, match="not finished"):
            undo(rust_store)
        assert (rust_store / "meta.rust" / "CURRENT").exists()

    def test_data_there(self, rust_store: Path) -> None:
        adopt(rust_store)
        (rust_store / "data" / "file").touch()
        with pytest.raises(WorkerError, match="under way"):
            undo(rust_store)

    def test_this_worker_running(self, rust_store: Path) -> None:
        adopt(rust_store)
        store = SealingStore.open(rust_store)
        with pytest.raises(WorkerError, match="open in this process"):
            undo(rust_store)
        store.close()


class TestCutShort:
    """A kill between any two renames; the same command is run again."""

    @pytest.mark.parametrize("renames", [0, 1])
    def test_adopt(self, rust_store: Path, monkeypatch: pytest.MonkeyPatch, renames: int) -> None:
        cut_after(renames, monkeypatch)
        with pytest.raises(KeyboardInterrupt):
            adopt(rust_store)
        monkeypatch.undo()
        if renames == 1:
            with pytest.raises(WorkerError, match="has no meta/") as caught:
                SealingStore.open(rust_store)
            assert "store adopt" in caught.value.next_step
        adopt(rust_store)
        assert content(rust_store / "meta.rust") == ROCKSDB
        SealingStore.open(rust_store, create=False).close()

    @pytest.mark.parametrize("renames", [0, 1])
    def test_undo(self, rust_store: Path, monkeypatch: pytest.MonkeyPatch, renames: int) -> None:
        adopt(rust_store)
        cut_after(renames, monkeypatch)
        with pytest.raises(KeyboardInterrupt):
            undo(rust_store)
        monkeypatch.undo()
        undo(rust_store)
        assert content(rust_store / "meta") == ROCKSDB


def cut_after(renames: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the run end at the rename after ``renames`` successful ones, or at what follows the last."""
    real = adoption._rename
    count = 0

    def rename(source: Path, target: Path) -> None:
        nonlocal count
        if count == renames:
            raise KeyboardInterrupt
        count += 1
        real(source, target)

    def stop(_directory: Path) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(adoption, "_rename", rename)
    monkeypatch.setattr(adoption, "make_directory", stop)
