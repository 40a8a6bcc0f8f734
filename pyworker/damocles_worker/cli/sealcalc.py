"""``damocles-worker-util sealcalc``: how many sectors a machine with these stage times and limits seals."""

from __future__ import annotations

import curses
import sys
from collections.abc import Callable, Iterable
from typing import Any

import click

from damocles_worker.cli import scrollview
from damocles_worker.cli.table import aligned
from damocles_worker.sealcalc import Plan, Row, simulate

TITLE = "sealing calculator"
COLUMNS = (
    "time (mins)",
    "sealing threads (running/total)",
    "tree_d (running/total)",
    "pc1 (running/total)",
    "pc2 (running/total)",
    "wait seed",
    "c2 (running/total)",
    "finished sectors",
)
_STAGES = ("tree_d", "pc1", "pc2", "c2")
#: Ten years; a longer table helps nobody and takes minutes.
_MAX_DAYS = 3650


def _stage_options(command: Callable[..., None]) -> Callable[..., None]:
    """``--STAGE_mins`` and ``--STAGE_concurrent`` for every stage, with the Rust utility's underscores."""
    for stage in reversed(_STAGES):
        command = click.option(
            f"--{stage}_concurrent",
            type=click.IntRange(min=0),
            required=True,
            help=f"Sectors in {stage} at once.",
        )(command)
        command = click.option(
            f"--{stage}_mins", type=click.IntRange(min=1), required=True, help=f"Minutes that {stage} takes."
        )(command)
    return command


@click.command()
@_stage_options
@click.option(
    "--sealing_threads", type=click.IntRange(min=0), required=True, help="Number of sealing threads."
)
@click.option(
    "--seed_mins",
    type=click.IntRange(min=1),
    default=80,
    show_default=True,
    help="Minutes from the end of PC2 until the seed is there.",
)
@click.option(
    "--calculate_days",
    type=click.IntRange(0, _MAX_DAYS),
    default=30,
    show_default=True,
    help="Days to calculate.",
)
@click.option(
    "--output_step",
    type=click.IntRange(min=1),
    default=60,
    show_default=True,
    help="Minutes between two rows.",
)
@click.option("--csv", is_flag=True, help="Print comma-separated values.")
def sealcalc(csv: bool, **numbers: Any) -> None:
    """Calculate minute by minute how sectors pass through the stages.

    On a terminal the table scrolls (q quits); elsewhere it is printed. A stage that takes less than a
    minute is written as 1.
    """
    plan = Plan(**numbers)
    rows = [_cells(plan, row) for row in simulate(plan)]
    if csv:
        for row in (COLUMNS, *rows):
            click.echo(",".join(row))
    elif not (sys.stdin.isatty() and sys.stdout.isatty()) or not _scroll(rows):
        click.echo(aligned([COLUMNS, *rows]))


def _cells(plan: Plan, row: Row) -> tuple[str, ...]:
    return (
        str(row.minute),
        f"{row.sealing}/{plan.sealing_threads}",
        f"{row.tree_d}/{plan.tree_d_concurrent}",
        f"{row.pc1}/{plan.pc1_concurrent}",
        f"{row.pc2}/{plan.pc2_concurrent}",
        str(row.wait_seed),
        f"{row.c2}/{plan.c2_concurrent}",
        str(row.finished),
    )


def _scroll(rows: Iterable[tuple[str, ...]]) -> bool:
    """Show the table scrolling; False if this terminal can't."""
    head, *lines = aligned([COLUMNS, *rows]).splitlines()
    try:
        scrollview.show(TITLE, head, lines)
    except curses.error:
        return False
    return True
