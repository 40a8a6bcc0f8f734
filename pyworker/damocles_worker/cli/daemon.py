"""``damocles-worker daemon -c FILE``: seal until stopped."""

from __future__ import annotations

import asyncio
import os
import sys
import traceback
from collections.abc import Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import click

from damocles_worker import logs
from damocles_worker.cli.log_format import log_format
from damocles_worker.config.load import load
from damocles_worker.errors import WorkerError
from damocles_worker.hardware.limits import raise_open_files
from damocles_worker.logs.secrets import without_secrets

#: For calls that may block: more than there are sealing threads that could all wait for one dead store.
_THREADS = 256


@click.command()
@click.option(
    "-c",
    "--config",
    "config_file",
    metavar="FILE",
    envvar="DAMOCLES_WORKER_CONFIG",
    required=True,
    help="Configuration file (TOML).",
)
@log_format
def daemon(config_file: str) -> None:
    """Run in the foreground until SIGTERM or SIGINT."""
    sys.exit(run_daemon(config_file))


def run_daemon(config_file: str) -> int:
    """Load the configuration and run; answers the exit status.

    The process leaves with ``os._exit``: a proof that can't be cancelled must not hold it up.
    """
    # The daemon's parts are loaded here, so that every other command starts in half the time.
    from damocles_worker import daemon as running

    settings, findings = load(config_file)
    for finding in findings:
        click.echo(f"{config_file}:{finding}", err=True)
    if settings is None:
        click.echo(f"{config_file} has errors; nothing was started", err=True)
        return 1
    raise_open_files()
    try:
        status = _run(running.run(settings))
    except WorkerError as error:
        click.echo(f"error: {without_secrets(str(error))}", err=True)
        status = 1
    except Exception:
        click.echo(without_secrets(traceback.format_exc()), err=True)
        status = 1
    logs.flush()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def _run(daemon: Coroutine[Any, Any, int]) -> int:
    """Run to the end in an event loop that is never closed.

    Closing it, as ``uvloop.run`` does, waits for every thread of its executor, and one that looks at a
    network store that doesn't answer may not come back for minutes.
    """
    import uvloop

    loop = uvloop.new_event_loop()
    loop.set_default_executor(ThreadPoolExecutor(_THREADS, thread_name_prefix="blocking"))
    asyncio.set_event_loop(loop)
    return loop.run_until_complete(daemon)
