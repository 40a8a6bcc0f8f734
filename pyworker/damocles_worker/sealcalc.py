"""How many sectors a machine seals: the pipeline of stages, simulated minute by minute.

The model is that of the Rust worker's utility. Sectors pass tree_d, PC1, PC2, the wait for the seed and
C2; each stage takes a fixed time and has a fixed number of places (the wait has no limit), and no more
sectors are under way than there are sealing threads.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator

from msgspec import Struct

MINUTES_PER_DAY = 1440


class Plan(Struct, frozen=True):
    """What to calculate: minutes per stage (at least 1), places per stage, sealing threads, days."""

    tree_d_mins: int
    tree_d_concurrent: int
    pc1_mins: int
    pc1_concurrent: int
    pc2_mins: int
    pc2_concurrent: int
    c2_mins: int
    c2_concurrent: int
    sealing_threads: int
    seed_mins: int = 80
    calculate_days: int = 30
    #: Minutes between two rows, at least 1.
    output_step: int = 60


class Row(Struct, frozen=True):
    """The pipeline after a minute: sectors in each stage, sectors under way, sectors finished so far."""

    minute: int
    sealing: int
    tree_d: int
    pc1: int
    pc2: int
    wait_seed: int
    c2: int
    finished: int


class _Stage:
    """A stage: what runs in it since when, and what it has finished and nobody took yet."""

    def __init__(self, minutes: int, places: int | None) -> None:
        self._minutes = minutes
        self._places = places
        self._batches: deque[tuple[int, int]] = deque()  # minute of the start, sectors
        self.running = 0
        self.finished = 0

    def step(self, minute: int, waiting: int) -> int:
        """Finish what started exactly the stage's time ago, then start what fits; answers how many."""
        if self._batches and self._batches[0][0] + self._minutes == minute:
            done = self._batches.popleft()[1]
            self.running -= done
            self.finished += done
        starting = waiting if self._places is None else min(waiting, self._places - self.running)
        if starting:
            self._batches.append((minute, starting))
            self.running += starting
        return starting


def simulate(plan: Plan) -> Iterator[Row]:
    """A row every ``output_step`` minutes, from minute 0 to the end of the last day.

    In a minute the stages go in the order of the pipeline, so a sector moves on in the minute in which
    it is finished, and a thread that C2 frees starts its next sector in the minute after.
    """
    tree_d = _Stage(plan.tree_d_mins, plan.tree_d_concurrent)
    pc1 = _Stage(plan.pc1_mins, plan.pc1_concurrent)
    pc2 = _Stage(plan.pc2_mins, plan.pc2_concurrent)
    seed = _Stage(plan.seed_mins, None)
    c2 = _Stage(plan.c2_mins, plan.c2_concurrent)
    sealing = 0
    finished = 0
    for minute in range(plan.calculate_days * MINUTES_PER_DAY):
        sealing += tree_d.step(minute, plan.sealing_threads - sealing)
        for before, stage in ((tree_d, pc1), (pc1, pc2), (pc2, seed), (seed, c2)):
            before.finished -= stage.step(minute, before.finished)
        finished += c2.finished
        sealing -= c2.finished
        c2.finished = 0
        if minute % plan.output_step == 0:
            yield Row(
                minute,
                sealing,
                tree_d.running,
                pc1.running,
                pc2.running,
                seed.running,
                c2.running,
                finished,
            )
