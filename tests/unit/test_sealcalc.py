"""The sealing calculator: known rows, a second simulation, and the command around it."""

from __future__ import annotations

import curses
import heapq
import os
import pty
import select
import sys
import time

import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

from damocles_worker.cli.scrollview import moved
from damocles_worker.cli.util import util
from damocles_worker.sealcalc import MINUTES_PER_DAY, Plan, Row, simulate

GUIDE = [
    *("--tree_d_mins", "10", "--tree_d_concurrent", "2", "--pc1_mins", "320", "--pc1_concurrent", "10"),
    *("--pc2_mins", "1", "--pc2_concurrent", "5", "--c2_mins", "2", "--c2_concurrent", "2"),
    *("--sealing_threads", "18"),
]


def sealcalc(*options: str) -> str:
    result = CliRunner().invoke(util, ["sealcalc", *GUIDE, *options], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def test_the_rows_of_the_guides_example() -> None:
    lines = sealcalc("--csv").splitlines()
    assert lines[0] == (
        "time (mins),sealing threads (running/total),tree_d (running/total),pc1 (running/total),"
        "pc2 (running/total),wait seed,c2 (running/total),finished sectors"
    )
    assert len(lines) == 1 + 30 * 24
    for row in (
        "0,2/18,2/2,0/10,0/5,0,0/2,0",
        "60,14/18,2/2,10/10,0/5,0,0/2,0",
        "360,18/18,0/2,10/10,2/5,6,0/2,0",
        "420,18/18,2/2,8/10,0/5,8,0/2,2",
        "480,18/18,0/2,10/10,0/5,0,0/2,10",
        "1380,18/18,2/2,10/10,0/5,6,0/2,32",
    ):
        assert row in lines


# ---- a second simulation: one queue of events, sector by sector ----------------------------------


def second_simulation(plan: Plan) -> list[Row]:
    """The same model built on single sectors and a heap of endings instead of stages and batches."""
    minutes = (plan.tree_d_mins, plan.pc1_mins, plan.pc2_mins, plan.seed_mins, plan.c2_mins)
    places = (
        plan.tree_d_concurrent,
        plan.pc1_concurrent,
        plan.pc2_concurrent,
        sys.maxsize,
        plan.c2_concurrent,
    )
    queues = [plan.sealing_threads, 0, 0, 0, 0]
    running = [0] * 5
    endings: list[tuple[int, int]] = []  # minute, stage
    finished = 0
    rows = []
    for minute in range(plan.calculate_days * MINUTES_PER_DAY):
        freed = 0
        while endings and endings[0][0] == minute:
            stage = heapq.heappop(endings)[1]
            running[stage] -= 1
            if stage < 4:
                queues[stage + 1] += 1
            else:
                freed += 1
        for stage in range(5):
            while queues[stage] and running[stage] < places[stage]:
                queues[stage] -= 1
                running[stage] += 1
                heapq.heappush(endings, (minute + minutes[stage], stage))
        finished += freed
        queues[0] += freed
        if minute % plan.output_step == 0:
            sealing = plan.sealing_threads - queues[0]
            tree_d, pc1, pc2, seed, c2 = running
            rows.append(Row(minute, sealing, tree_d, pc1, pc2, seed, c2, finished))
    return rows


small = st.integers(0, 4)
times = st.integers(1, 40)


@settings(max_examples=60, deadline=None)
@given(
    plan=st.builds(
        Plan,
        tree_d_mins=times,
        tree_d_concurrent=small,
        pc1_mins=times,
        pc1_concurrent=small,
        pc2_mins=times,
        pc2_concurrent=small,
        c2_mins=times,
        c2_concurrent=small,
        sealing_threads=st.integers(0, 12),
        seed_mins=times,
        calculate_days=st.just(1),
        output_step=st.integers(1, 90),
    )
)
def test_two_simulations_agree(plan: Plan) -> None:
    assert list(simulate(plan)) == second_simulation(plan)


# ---- the command ----------------------------------------------------------------------------------


def test_without_a_terminal_the_table_is_printed() -> None:
    lines = sealcalc("--calculate_days", "1", "--output_step", "480").splitlines()
    assert [line.split()[0] for line in lines[1:]] == ["0", "480", "960"]
    assert lines[2].split() == ["480", "18/18", "0/2", "10/10", "0/5", "0", "0/2", "10"]


def test_no_days_give_the_header_alone() -> None:
    assert sealcalc("--calculate_days", "0", "--csv").count("\n") == 1


@pytest.mark.parametrize(
    "wrong", [("--output_step", "0"), ("--pc1_mins", "0"), ("--seed_mins", "-1"), ("--c2_mins", "x")]
)
def test_values_that_make_no_sense_are_refused_by_name(wrong: tuple[str, str]) -> None:
    result = CliRunner().invoke(util, ["sealcalc", *GUIDE, *wrong])
    assert result.exit_code == 2
    assert wrong[0] in result.output


@pytest.mark.parametrize(
    ("key", "start", "count", "end"),
    [
        (curses.KEY_UP, 0, 50, 49),
        (curses.KEY_DOWN, 49, 50, 0),
        (curses.KEY_RIGHT, 0, 50, 20),
        (curses.KEY_RIGHT, 40, 50, 49),
        (ord(" "), 49, 50, 0),
        (curses.KEY_LEFT, 5, 50, 0),
        (curses.KEY_LEFT, 0, 50, 49),
        (curses.KEY_RIGHT, 0, 3, 2),
        (curses.KEY_DOWN, 0, 0, 0),
        (curses.KEY_LEFT, 0, 0, 0),
        (ord("x"), 7, 50, 7),
    ],
)
def test_keys_of_the_scrolling_view(key: int, start: int, count: int, end: int) -> None:
    assert moved(start, key, count) == end


def test_on_a_terminal_the_view_scrolls_and_q_ends_it() -> None:
    child, terminal = pty.fork()
    if child == 0:
        code = "from damocles_worker.cli.util import util; util()"
        environment = {**os.environ, "TERM": "xterm", "LINES": "6", "COLUMNS": "160"}
        os.execvpe(sys.executable, [sys.executable, "-c", code, "sealcalc", *GUIDE], environment)
    screen = _read_until(terminal, b"quit")
    assert b"sealing calculator" in screen
    os.write(terminal, b" ")
    _read_until(terminal, b"1080")  # of three rows shown the last is the 20th now, minute 1200
    os.write(terminal, b"q")
    _read_until(terminal, b"\x1b[?1049l")
    assert os.waitpid(child, 0)[1] == 0
    os.close(terminal)


def _read_until(terminal: int, end: bytes) -> bytes:
    """What the child writes up to ``end``; fails if it doesn't come."""
    found = b""
    deadline = time.monotonic() + 60
    while end not in found and time.monotonic() < deadline:
        if select.select([terminal], [], [], 1)[0]:
            try:
                found += os.read(terminal, 65536)
            except OSError:  # the child has gone
                break
    assert end in found, found
    return found


def test_the_utility_names_itself_and_the_nearest_command() -> None:
    assert CliRunner().invoke(util, ["--version"]).output.startswith("damocles-worker-util v")
    assert CliRunner().invoke(util, []).exit_code == 2
    wrong = CliRunner().invoke(util, ["sealcal"])
    assert wrong.exit_code == 2
    assert "sealcalc" in wrong.output
