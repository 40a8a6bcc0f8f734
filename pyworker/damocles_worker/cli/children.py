"""``damocles-worker worker …`` for the external processors: their table, and dumps of what they print."""

from __future__ import annotations

from typing import Any

import click
import msgspec

from damocles_worker import units
from damocles_worker.control.client import call
from damocles_worker.processors import dump

COLUMNS = ("Processor", "pid", "State", "Tasks", "Restarts", "cpus", "memory", "Trouble")
#: Seconds without a word from a processor that has a task, from which on the table shows it.
SILENCE = 60


def row(processor: dict[str, Any]) -> tuple[str, ...]:
    """The cells of a processor, from the daemon's answer to ``WorkerProcessors``."""
    state = f"{processor['state']}({units.format_duration(int(processor['state_for']))})"
    if processor["silent_for"] >= SILENCE:
        state += f" silent {units.format_duration(int(processor['silent_for']))}"
    limit = f"/{processor['concurrent']}" if processor["concurrent"] is not None else ""
    cpus = processor["cpus"] + (f" ({processor['bound_by']})" if processor["bound_by"] else "")
    troubles = [text for text in (*processor["problems"], processor["last_error"]) if text]
    return (
        processor["path"].removeprefix("processors."),
        str(processor["pid"]),
        state,
        f"{processor['tasks']}{limit}",
        str(processor["restarts"]),
        cpus or "-",
        processor["memory"] or "-",
        "; ".join(troubles).replace("\n", "\\n"),
    )


@click.command()
@click.pass_obj
def processors(address: str) -> None:
    """Print what is known about the external processors, as JSON."""
    click.echo(msgspec.json.format(msgspec.json.encode(call(address, "WorkerProcessors"))).decode())


_child_pid = click.option(
    "--child-pid", "--child_pid", type=int, required=True, help="Pid of the processor (see list)."
)


@click.command("enable-dump")
@_child_pid
@click.option(
    "--dump-dir",
    "--dump_dir",
    type=click.Path(exists=True, file_okay=False, resolve_path=True),
    required=True,
    help="Where to write each line of it that can't be read.",
)
@click.pass_obj
def enable_dump(address: str, child_pid: int, dump_dir: str) -> None:
    """Keep what a processor prints and nobody can read, also after it has been started again."""
    call(address, "WorkerSetEnv", dump.variable(child_pid), dump_dir)


@click.command("disable-dump")
@_child_pid
@click.pass_obj
def disable_dump(address: str, child_pid: int) -> None:
    """Keep such lines no longer."""
    call(address, "WorkerRemoveEnv", dump.variable(child_pid))
