"""``damocles-worker worker …``: look at a running daemon and steer its threads."""

from __future__ import annotations

import contextlib
from datetime import datetime
from pathlib import Path
from typing import Any

import click
import msgspec
from click.core import ParameterSource

from damocles_worker import units
from damocles_worker.cli import children
from damocles_worker.cli.table import aligned
from damocles_worker.config.load import load
from damocles_worker.control.client import DEFAULT_PORT, EVERY_INTERFACE, UnknownMethodError, call
from damocles_worker.errors import UsageError
from damocles_worker.journal import HistoryRow, read_history

DEFAULT_HOST = f"127.0.0.1:{DEFAULT_PORT}"
COLUMNS = (
    "#", "location", "Plan", "JobID", "JobState", "JobStage", "ThreadState", "LastErr", "Elapsed", "Progress",
    "ETA",
)  # fmt: skip


@click.group()
@click.option(
    "-H",
    "--host",
    envvar="DAMOCLES_WORKER_HOST",
    show_envvar=True,
    metavar="IP:PORT",
    help=f"Control address [default: {DEFAULT_HOST}]",
)
@click.option(
    "-c",
    "--config",
    "config_file",
    envvar="DAMOCLES_WORKER_CONFIG",
    show_envvar=True,
    metavar="FILE",
    help="Take the address from this configuration.",
)
@click.pass_context
def worker(context: click.Context, host: str | None, config_file: str | None) -> None:
    """Look at a running daemon and steer its threads.

    With a configuration file its rpc_server is used, else --host, else the default of this machine. An
    option on the command line goes before a variable of the environment.
    """
    if _typed(context, "host") and not _typed(context, "config_file"):
        # A variable that a shell exports for the daemon must not turn the command to another worker.
        config_file = None
    context.obj = _address(host, config_file)


@worker.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print the daemon's answer as JSON.")
@click.pass_obj
def list_threads(address: str, as_json: bool) -> None:
    """Show every sealing thread, and the external processors if there are any."""
    threads = call(address, "WorkerList")
    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode(threads)).decode())
        return
    click.echo(aligned([COLUMNS, *(_row(thread) for thread in threads)]))
    processors = None
    with contextlib.suppress(UnknownMethodError):
        processors = call(address, "WorkerProcessors")
    if processors:
        click.echo("\n" + aligned([children.COLUMNS, *(children.row(processor) for processor in processors)]))


@worker.command()
@click.option("-i", "--index", type=int, required=True, help="Number of the thread (first column of list).")
@click.pass_obj
def pause(address: str, index: int) -> None:
    """Pause a thread: within a second, or after the proof that it is computing."""
    done = call(address, "WorkerPause", index)
    click.echo(
        f"#{index} worker pause: "
        + ("requested" if done else "a pause was already requested")
        + f" done={str(done).lower()}"
    )


@worker.command()
@click.option("-i", "--index", type=int, required=True, help="Number of the thread (first column of list).")
@click.option("-s", "--state", help="Go on in this state instead of the current one.")
@click.pass_obj
def resume(address: str, index: int, state: str | None) -> None:
    """Resume a paused thread."""
    done = call(address, "WorkerResume", index, state)
    what = "resumed" if done else "nothing to do, the thread is not paused"
    click.echo(f"#{index} worker resume: {what} done={str(done).lower()}")


@worker.command()
@click.pass_obj
def drain(address: str) -> None:
    """Finish what is assigned, take nothing new, then exit."""
    busy = call(address, "WorkerDrain")
    for thread in busy:
        state = thread["thread_state"]["state"]
        paused = "; it is paused: resume it, or nothing will end" if state == "Paused" else ""
        click.echo(f"#{thread['index']} finishes {thread['job_id']} ({thread['job_state']}){paused}")
    if not busy:
        click.echo("nothing is assigned: the worker exits")


@worker.command()
@click.option("-i", "--index", type=int, default=0, show_default=True, help="Number of the thread.")
@click.option(
    "-n", "--rows", type=click.IntRange(min=1), default=200, show_default=True, help="Newest rows to print."
)
@click.option("--store", type=click.Path(path_type=Path), help="Read a store's journal without a daemon.")
@click.pass_obj
def history(address: str, index: int, rows: int, store: Path | None) -> None:
    """Print what happened to the sectors of a thread, oldest first."""
    if store is not None:
        found = read_history(store / "meta", rows)
    else:
        found = [msgspec.convert(row, HistoryRow) for row in call(address, "WorkerHistory", index, rows)]
    lines = [("seq", "time", "sector", "event", "state", "detail")]
    lines += [
        (
            str(row.seq),
            datetime.fromtimestamp(row.at).isoformat(" ", "milliseconds"),
            row.sector or "-",
            row.event,
            row.state,
            row.detail,
        )
        for row in found
    ]
    click.echo(aligned(lines))


def _row(thread: dict[str, Any]) -> tuple[str, ...]:
    state = thread["thread_state"]
    text = state["state"]
    if "elapsed" in state:
        text += f"({units.format_duration(state['elapsed'])})"
    if state.get("proc"):
        text += f" {state['proc']}"
    error = (thread["last_error"] or "-").replace("\n", "\\n")
    return (
        str(thread["index"]), thread["location"], thread["plan"], thread["job_id"] or "-",
        thread["job_state"] or "-", thread["job_stage"] or "-", text, error, *_progress(thread),
    )  # fmt: skip


def _progress(thread: dict[str, Any]) -> tuple[str, str, str]:
    """How long the present step has run, how far it is, and how long it will take.

    A Rust daemon does not say.
    """
    if thread["thread_state"]["state"] == "Idle" or "elapsed" not in thread:
        return "-", "-", "-"
    done, total = thread["progress"] or (0, 0)
    eta = thread["eta"]
    return (
        units.format_duration(thread["elapsed"]),
        f"{100 * done // total}%" if total else "-",
        "-" if eta is None else units.format_duration(eta),
    )


for _command in (children.processors, children.enable_dump, children.disable_dump):
    worker.add_command(_command)
worker.add_command(children.enable_dump, "enable_dump")
worker.add_command(children.disable_dump, "disable_dump")


def _typed(context: click.Context, parameter: str) -> bool:
    return context.get_parameter_source(parameter) is ParameterSource.COMMANDLINE


def _address(host: str | None, config_file: str | None) -> str:
    if config_file is None:
        return host or DEFAULT_HOST
    settings, findings = load(config_file)
    if settings is None:
        first = next(finding for finding in findings if finding.level == "error")
        raise UsageError(f"{config_file}: {first}")
    listen = settings.worker.rpc_host
    return f"{EVERY_INTERFACE.get(listen, listen)}:{settings.worker.rpc_port}"
