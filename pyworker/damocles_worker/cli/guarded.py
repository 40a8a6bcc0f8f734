"""Every entry of the program goes through here: what a user can meet is one message, never a traceback."""

from __future__ import annotations

import sys
from collections.abc import Callable

import click

from damocles_worker.errors import UsageError, WorkerError
from damocles_worker.logs.secrets import without_secrets


def guarded(run: Callable[[], object]) -> None:
    """Run a command; an error that a user can meet is told on stderr and ends the process with status 1."""
    try:
        run()
    except (UsageError, WorkerError, ValueError) as error:
        click.echo(f"error: {without_secrets(str(error))}", err=True)
        sys.exit(1)
