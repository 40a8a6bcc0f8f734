"""Progress, cancelling, Ctrl-C and the GIL while a stage runs."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import pytest

from damocles_worker import _native
from damocles_worker._native import Cancel, Cancelled
from damocles_worker.processors.tasks import AddPiecesTask, PieceSource

from .sector import SIZE, Sector

PIECE = 8 * 1024 * 1024 // 128 * 127


@pytest.fixture
def sector(tmp_path: Path) -> Sector:
    return Sector(tmp_path)


@contextmanager
def slow_source() -> Iterator[int]:
    """A pipe that delivers a little data every millisecond, for as long as it is read."""
    reader, writer = os.pipe()
    stop = threading.Event()

    def feed() -> None:
        try:
            while not stop.wait(0.001):
                os.write(writer, bytes(1024))
        except BrokenPipeError:
            return
        finally:
            os.close(writer)

    feeder = threading.Thread(target=feed)
    feeder.start()
    try:
        yield reader
    finally:
        stop.set()
        os.close(reader)
        feeder.join()


def add_piece_task(sector: Sector, fd: int) -> bytes:
    """A piece of 8 MiB from a descriptor: hours, from the slow source."""
    pieces = [PieceSource({"fd": fd}, PIECE, PIECE)]
    return msgspec.json.encode(AddPiecesTask("StackedDrg8MiBV1_1", pieces, str(sector.staged)))


def test_the_last_report_is_the_total(sector: Sector) -> None:
    tree_d: list[tuple[int, int]] = []
    pc1: list[tuple[int, int]] = []
    pieces = sector.stage_zeros()
    _native.tree_d(sector.tree_d_task(), lambda done, total: tree_d.append((done, total)))
    _native.pc1(sector.pc1_task(pieces), progress=lambda done, total: pc1.append((done, total)))
    assert tree_d[-1] == (SIZE, SIZE)
    labels = 2 * SIZE // 32
    assert pc1[-1] == (labels, labels)


def test_progress_grows_while_a_stage_runs(sector: Sector) -> None:
    reports: list[tuple[int, int]] = []
    cancel = Cancel()

    def progress(done: int, total: int) -> None:
        reports.append((done, total))
        if len(reports) == 3:
            cancel.cancel()

    with slow_source() as fd, pytest.raises(Cancelled):
        _native.add_pieces(add_piece_task(sector, fd), progress, cancel)
    done = [report[0] for report in reports]
    assert done == sorted(set(done))
    assert {total for _, total in reports} == {PIECE}


def test_cancel_from_another_thread_ends_a_running_stage(sector: Sector) -> None:
    cancel = Cancel()
    running = threading.Event()

    def cancel_when_running() -> None:
        running.wait()
        cancel.cancel()

    canceller = threading.Thread(target=cancel_when_running)
    canceller.start()
    with slow_source() as fd, pytest.raises(Cancelled):
        _native.add_pieces(add_piece_task(sector, fd), lambda *_: running.set(), cancel)
    canceller.join()
    assert cancel.cancelled


def test_a_set_flag_keeps_every_stage_from_starting(sector: Sector) -> None:
    pieces = sector.stage_zeros()
    cancel = Cancel()
    assert not cancel.cancelled
    cancel.cancel()
    with pytest.raises(Cancelled):
        _native.pc1(sector.pc1_task(pieces), cancel=cancel)
    assert not sector.sealed.exists()
    with pytest.raises(Cancelled):
        _native.piece_commitment(sector.staged, SIZE, 2032, cancel=cancel)


def test_an_exception_of_the_progress_callback_ends_the_stage(sector: Sector) -> None:
    def refuse(_done: int, _total: int) -> None:
        raise LookupError("no such bar")

    with slow_source() as fd, pytest.raises(LookupError, match="no such bar"):
        _native.add_pieces(add_piece_task(sector, fd), refuse)


def test_ctrl_c_ends_a_stage_of_the_main_thread_even_when_nothing_arrives(sector: Sector) -> None:
    reader, writer = os.pipe()
    main = threading.get_ident()
    ended = threading.Event()

    def interrupt() -> None:
        # The signal may come before the stage waits for data, where Python itself takes it. A second one that
        # comes while the stage ends would interrupt what is after it.
        while not ended.wait(1.0):
            signal.pthread_kill(main, signal.SIGINT)

    interrupter = threading.Thread(target=interrupt)
    try:
        with pytest.raises(KeyboardInterrupt):
            try:
                interrupter.start()
                _native.add_pieces(add_piece_task(sector, reader))
            finally:
                ended.set()
    finally:
        interrupter.join()
        os.close(reader)
        os.close(writer)


def releases_the_gil(call: Callable[[], object]) -> bool:
    """Whether another Python thread gets to run during one of many calls.

    Python is told never to take the GIL from a running thread: the other one runs only while a call
    has given it up.
    """
    interval = sys.getswitchinterval()
    start = threading.Event()
    ran: list[bool] = []

    def other() -> None:
        start.wait()
        ran.append(True)

    thread = threading.Thread(target=other)
    thread.start()
    sys.setswitchinterval(3600)
    try:
        start.set()
        for _ in range(1000):
            call()
            if ran:
                return True
        return False
    finally:
        sys.setswitchinterval(interval)
        thread.join()


def test_a_call_that_keeps_the_gil_is_seen_to_keep_it() -> None:
    assert not releases_the_gil(lambda: sum(range(10_000)))
    assert releases_the_gil(lambda: time.sleep(0.001))


@pytest.mark.parametrize("stage", ["add_pieces", "tree_d", "pc1", "c1", "static_tree_d", "piece_commitment"])
def test_a_stage_releases_the_gil(sector: Sector, stage: str) -> None:
    pieces = sector.stage_zeros()
    staging, tree, labelling = sector.add_pieces_task([]), sector.tree_d_task(), sector.pc1_task(pieces)
    proving = sector.c1_task(_native.pc2(sector.pc2_task(_native.pc1(labelling))), pieces)
    calls: dict[str, Callable[[], object]] = {
        "add_pieces": lambda: _native.add_pieces(staging),
        "tree_d": lambda: _native.tree_d(tree),
        "pc1": lambda: _native.pc1(labelling),
        "c1": lambda: _native.c1(proving),
        "static_tree_d": lambda: _native.static_tree_d(SIZE, sector.cache),
        "piece_commitment": lambda: _native.piece_commitment(sector.staged, 2000, 2032),
    }
    assert releases_the_gil(calls[stage])
