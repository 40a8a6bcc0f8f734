"""How far a long command is: a bar on a terminal, lines elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import click
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

from damocles_worker.params import Steps, seconds_left

ProgressCall = Callable[[int, int], object]


@contextmanager
def progress_bar(title: str) -> Iterator[ProgressCall]:
    """A progress bar on a terminal, a line every twentieth elsewhere."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield Steps(click.echo, title)
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f} %  {task.fields[left]}"),
    )
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task(title, total=None, left="", visible=False)
        started = time.monotonic()

        def show(done: int, total: int) -> None:
            left = ""
            if done and total:
                left = f"about {seconds_left(time.monotonic() - started, done, total)} left"
            bar.update(task, completed=done, total=total or None, left=left, visible=True)

        yield show
