"""The journal: durable, exclusive, never wiped."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from damocles_worker import journal as journal_module
from damocles_worker.errors import Level, WorkerError
from damocles_worker.journal import DATABASE, HistoryRow, Journal
from tests.unit.mounts import fill, remount, small_disk

SECTOR = "s-t01000-7"


@pytest.fixture
def meta(tmp_path: Path) -> Path:
    directory = tmp_path / "store" / "meta"
    directory.mkdir(parents=True)
    return directory


@pytest.fixture
def journal(meta: Path) -> Iterator[Journal]:
    opened = Journal.open(meta)
    yield opened
    opened.close()


def commit(journal: Journal, record: bytes | None, event: str = "PC1", state: str = "PC1Done") -> int:
    return journal.commit(record, sector=SECTOR, event=event, state=state, detail="")


def start(meta: Path, body: str, **environment: str) -> subprocess.Popen[str]:
    """A process that has the journal of ``meta`` open as ``journal`` and runs ``body``."""
    program = (
        "import sys, time\nfrom pathlib import Path\nfrom damocles_worker.journal import Journal\n"
        f"journal = Journal.open(Path({str(meta)!r}))\n{body}"
    )
    return subprocess.Popen(
        [sys.executable, "-c", program],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, **environment},
    )


def kill(process: subprocess.Popen[str]) -> str:
    """Kill -9; returns what the process had printed."""
    process.send_signal(signal.SIGKILL)
    output, _ = process.communicate()
    return output


def wait_for(path: Path) -> None:
    deadline = time.monotonic() + 60
    while not path.exists() or not path.read_text():
        assert time.monotonic() < deadline, f"{path} never came"
        time.sleep(0.01)


class TestRecord:
    def test_new_journal_is_empty(self, journal: Journal) -> None:
        assert journal.load() is None
        assert journal.history() == []

    def test_record_survives_reopening(self, meta: Path, journal: Journal) -> None:
        commit(journal, b"one")
        commit(journal, b"two")
        journal.close()
        again = Journal.open(meta)
        assert again.load() == b"two"
        again.close()

    def test_none_removes_the_record_and_keeps_the_history(self, journal: Journal) -> None:
        commit(journal, b"one")
        commit(journal, None, event="Finish", state="Empty")
        assert journal.load() is None
        assert [row.event for row in journal.history()] == ["PC1", "Finish"]

    def test_history_rows(self, journal: Journal) -> None:
        before = time.time()
        seq = journal.commit(b"x", sector=SECTOR, event="C2", state="C2Done", detail="took 1h")
        row = journal.history()[0]
        assert row == HistoryRow(seq, row.at, SECTOR, "C2", "C2Done", "took 1h")
        assert before <= row.at <= time.time()

    def test_history_limit_gives_the_last_rows_oldest_first(self, journal: Journal) -> None:
        for event in ("A", "B", "C"):
            commit(journal, b"x", event=event)
        assert [row.event for row in journal.history(2)] == ["B", "C"]

    def test_history_is_bounded_and_numbers_go_on(
        self, journal: Journal, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(journal_module, "HISTORY_ROWS", 5)
        numbers = [commit(journal, b"x") for _ in range(12)]
        assert [row.seq for row in journal.history()] == numbers[-5:]
        assert numbers == list(range(numbers[0], numbers[0] + 12))

    def test_every_commit_reaches_the_medium(self, journal: Journal) -> None:
        assert journal._connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        assert journal._connection.execute("PRAGMA synchronous").fetchone() == (2,)  # FULL

    def test_threads_share_it(self, journal: Journal) -> None:
        def work(name: str) -> None:
            for number in range(25):
                commit(journal, f"{name}-{number}".encode(), event=f"{name}-{number}")

        threads = [threading.Thread(target=work, args=(name,)) for name in "abcdefgh"]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        rows = journal.history()
        assert len({row.seq for row in rows}) == 200
        assert journal.load() == rows[-1].event.encode()

    def test_closed_journal_says_so(self, journal: Journal) -> None:
        journal.close()
        journal.close()
        with pytest.raises(WorkerError, match="is closed"):
            commit(journal, b"x")
        with pytest.raises(WorkerError, match="is closed"):
            journal.load()


class TestLock:
    def test_other_process_is_named(self, meta: Path) -> None:
        other = start(meta, "print('open', flush=True)\ntime.sleep(600)")
        assert other.stdout is not None
        assert other.stdout.readline() == "open\n"
        with pytest.raises(WorkerError, match=f"pid {other.pid}") as caught:
            Journal.open(meta)
        assert caught.value.level is Level.CRITICAL
        assert str(meta.parent) in caught.value.cause
        kill(other)
        Journal.open(meta).close()

    def test_same_process_twice(self, meta: Path, journal: Journal) -> None:
        with pytest.raises(WorkerError, match="already open in this process"):
            Journal.open(meta)
        commit(journal, b"still mine")

    def test_missing_directory(self, tmp_path: Path) -> None:
        with pytest.raises(WorkerError, match="doesn't exist"):
            Journal.open(tmp_path / "nowhere")


class TestRefusals:
    def test_rust_store_is_refused_untouched(self, meta: Path) -> None:
        (meta / "CURRENT").write_text("MANIFEST-000004\n")
        with pytest.raises(WorkerError, match="Rust") as caught:
            Journal.open(meta)
        assert f"store adopt {meta.parent}" in caught.value.next_step
        assert [path.name for path in meta.iterdir()] == ["CURRENT"]

    def test_newer_schema_is_refused_untouched(self, meta: Path, journal: Journal) -> None:
        commit(journal, b"kept")
        journal.close()
        with sqlite3.connect(meta / DATABASE) as connection:
            connection.execute("PRAGMA user_version = 99")
        connection.close()
        with pytest.raises(WorkerError, match="schema version 99"):
            Journal.open(meta)
        with sqlite3.connect(meta / DATABASE) as connection:
            assert connection.execute("SELECT body FROM record").fetchone() == (b"kept",)
        connection.close()

    def test_older_schema_is_migrated(
        self, meta: Path, journal: Journal, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        commit(journal, b"old")
        journal.close()
        added = ("ALTER TABLE history ADD COLUMN host TEXT NOT NULL DEFAULT ''",)
        monkeypatch.setattr(journal_module, "MIGRATIONS", (*journal_module.MIGRATIONS, added))
        newer = Journal.open(meta)
        assert newer.load() == b"old"
        commit(newer, b"new")
        assert len(newer.history()) == 2
        newer.close()
        with sqlite3.connect(meta / DATABASE) as connection:
            version = connection.execute("PRAGMA user_version").fetchone()
            assert version == (len(journal_module.MIGRATIONS),)
        connection.close()

    def test_database_of_another_program(self, meta: Path) -> None:
        with sqlite3.connect(meta / DATABASE) as connection:
            connection.execute("CREATE TABLE other (x)")
        connection.close()
        with pytest.raises(WorkerError, match="another program"):
            Journal.open(meta)

    def test_not_a_database(self, meta: Path) -> None:
        (meta / DATABASE).write_bytes(b"garbage " * 1000)
        with pytest.raises(WorkerError, match="damaged") as caught:
            Journal.open(meta)
        assert caught.value.level is Level.CRITICAL
        assert str(meta / DATABASE) in caught.value.cause
        assert (meta / DATABASE).read_bytes() == b"garbage " * 1000

    def test_damaged_page(self, meta: Path, journal: Journal) -> None:
        commit(journal, os.urandom(100_000))
        journal.close()
        content = bytearray((meta / DATABASE).read_bytes())
        content[4096:12288] = os.urandom(8192)
        (meta / DATABASE).write_bytes(content)
        with pytest.raises(WorkerError, match="damaged") as caught:
            Journal.open(meta)
        assert "backup" in caught.value.next_step
        assert (meta / DATABASE).read_bytes() == content

    def test_failpoint_order_that_makes_no_sense(
        self, journal: Journal, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("DAMOCLES_WORKER_FAILPOINT", "journal:often")
        with pytest.raises(WorkerError, match="journal:often"):
            commit(journal, b"x")
        monkeypatch.delenv("DAMOCLES_WORKER_FAILPOINT")
        assert journal.load() is None


class TestDisk:
    def test_full_disk_is_waited_for_and_loses_nothing(self, tmp_path: Path) -> None:
        with small_disk(tmp_path / "disk") as disk:
            journal = Journal.open(disk)
            commit(journal, b"before")
            filler = fill(disk)
            with pytest.raises(WorkerError, match="no space left") as caught:
                commit(journal, os.urandom(200_000))
            assert caught.value.waits_for == f"space on {disk}"
            assert journal.load() == b"before"
            filler.unlink()
            commit(journal, b"after")
            assert [row.state for row in journal.history()] == ["PC1Done", "PC1Done"]
            journal.close()

    def test_full_disk_at_opening(self, tmp_path: Path) -> None:
        with small_disk(tmp_path / "disk") as disk:
            filler = fill(disk)
            with pytest.raises(WorkerError, match="no space left") as caught:
                Journal.open(disk)
            assert caught.value.waits_for == f"space on {disk}"
            filler.unlink()
            Journal.open(disk).close()

    def test_read_only_disk(self, tmp_path: Path) -> None:
        with small_disk(tmp_path / "disk") as disk:
            remount(disk, "ro")
            with pytest.raises(WorkerError, match=f"{disk} is mounted read-only"):
                Journal.open(disk)

    def test_missing_permission_is_named(self, meta: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def refuse(*_: object) -> int:
            raise PermissionError(13, "Permission denied")

        monkeypatch.setattr(os, "open", refuse)
        with pytest.raises(WorkerError, match="permission denied for user id"):
            Journal.open(meta)


class TestKill:
    @pytest.mark.parametrize(("moment", "expected"), [("before", b"one"), ("after", b"two")])
    def test_kill_at_the_failpoint(self, meta: Path, tmp_path: Path, moment: str, expected: bytes) -> None:
        marker = tmp_path / "reached"
        body = "".join(
            f"journal.commit({record!r}, sector='s', event='E{number}', state='S', detail='')\n"
            for number, record in enumerate((b"one", b"two", b"three"))
        )
        process = start(meta, body, DAMOCLES_WORKER_FAILPOINT=f"journal:2:{moment}:{marker}")
        wait_for(marker)
        assert marker.read_text() == "E1 S\n"
        kill(process)
        journal = Journal.open(meta)
        assert journal.load() == expected
        assert len(journal.history()) == {b"one": 1, b"two": 2}[expected]
        journal.close()

    @pytest.mark.parametrize("after", [1, 7, 40])
    def test_kill_while_committing(self, meta: Path, after: int) -> None:
        """What a process was told is durable is there after kill -9, and at most one commit more."""
        body = (
            "for number in range(10**9):\n"
            "    journal.commit(b'%d' % number * 1000, sector='s', event='E', state='S', detail='')\n"
            "    print(number, flush=True)\n"
        )
        process = start(meta, body)
        assert process.stdout is not None
        for _ in range(after):
            process.stdout.readline()
        last = int([str(after - 1), *kill(process).split()][-1])
        journal = Journal.open(meta)
        rows = len(journal.history())
        assert rows in (last + 1, last + 2)
        assert journal.load() == b"%d" % (rows - 1) * 1000
        journal.close()


def test_durations_outlive_the_process_with_the_commit_they_came_with(tmp_path: Path) -> None:
    small, large = (("pc1", f"StackedDrg{size}V1_1", "builtin PC1") for size in ("2KiB", "8MiB"))
    journal = Journal.open(tmp_path)
    assert journal.durations() == {}
    row = {"sector": "s-t01000-1", "event": "PC1", "state": "PC1Done", "detail": ""}
    journal.commit(b"{}", **row, durations={small: 100.0, large: 7.0})
    journal.commit(b"{}", **row, durations={small: 130.0})
    journal.close()
    again = Journal.open(tmp_path)
    assert again.durations() == {small: 130.0, large: 7.0}
    again.close()
