"""``damocles-worker-util hwinfo``: what this machine, or a recorded one, has for sealing."""

from __future__ import annotations

from pathlib import Path

import click

from damocles_worker.hardware.hwinfo import read_hardware, to_json
from damocles_worker.hardware.hwreport import report
from damocles_worker.hardware.recording import record


@click.command()
@click.option("--full", is_flag=True, help="Show cores, inner caches and disks that are not mounted too.")
@click.option(
    "--json", "as_json", is_flag=True, help="Print everything as JSON (bytes; the kernel's cpu numbers)."
)
@click.option(
    "--fsroot",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    default="/",
    metavar="DIR",
    help="Read the sys/ and proc/ below this directory: another machine's, copied.",
)
@click.option(
    "--record",
    "directory",
    type=click.Path(file_okay=False, path_type=Path),
    metavar="DIR",
    help="Copy what describes this machine into a new directory, for --fsroot elsewhere.",
)
def hwinfo(full: bool, as_json: bool, fsroot: Path, directory: Path | None) -> None:
    """Show cpus, caches, NUMA nodes, disks, GPUs and memory of this machine.

    Numbers after # count along the tree; where the kernel numbers its cpus differently (the numbers a
    cpuset takes) a line "cpus ..." below the cache gives them.
    """
    if directory is None:
        hardware = read_hardware(fsroot)
    else:
        hardware, files = record(directory, fsroot)
        click.echo(f"{files} files recorded; elsewhere: damocles-worker-util hwinfo --fsroot DIR", err=True)
    click.echo(to_json(hardware).decode() if as_json else report(hardware, full=full))
