"""``damocles-worker params …``: which Groth16 parameters are there, and making those of local networks."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import click

from damocles_worker import params as parameters
from damocles_worker.cli.progress import progress_bar
from damocles_worker.cli.table import aligned
from damocles_worker.params import ParameterSet, State, Status
from damocles_worker.sectors import SECTOR_SIZES, size_name
from damocles_worker.units import format_duration, format_size

_SIZE = click.Choice(tuple(SECTOR_SIZES), case_sensitive=False)
_PLANS = tuple(plan for plan, kinds in parameters.PLAN_KINDS.items() if kinds)
_GENERATED_PLANS = ("sealer", "snapup", "wdpost", "winning")

_sizes = click.option(
    "--size", "sizes", type=_SIZE, multiple=True, help="Sector size; repeatable [default: all]."
)
_plans = click.option(
    "--plan",
    "plans",
    type=click.Choice(_PLANS),
    multiple=True,
    help="Plan of a sealing thread; repeatable [default: all].",
)
_directory = click.option(
    "--dir",
    "directory",
    type=click.Path(file_okay=False, path_type=Path),
    help="Parameter directory [default: FIL_PROOFS_PARAMETER_CACHE, or the proving library's].",
)


@click.group()
def params() -> None:
    """Groth16 parameters: list, check, generate for a local network."""


@params.command("list")
@_sizes
@_plans
@_directory
def list_sets(sizes: tuple[str, ...], plans: tuple[str, ...], directory: Path | None) -> None:
    """Show the parameter sets and whether they are there; whole files are not read."""
    where = directory or parameters.cache_directory()
    click.echo(f"parameters in {where}")
    _table([parameters.check(wanted, where) for wanted in _wanted(sizes, plans)])


@params.command()
@_sizes
@_plans
@_directory
def check(sizes: tuple[str, ...], plans: tuple[str, ...], directory: Path | None) -> None:
    """Check the sets, digests of whole files included; exit 1 if one can't be used.

    Without --size and --plan the sets are checked of which some file is there.
    """
    where = directory or parameters.cache_directory()
    click.echo(f"parameters in {where}")
    statuses = []
    for wanted in _wanted(sizes, plans):
        if not (sizes or plans or wanted.keys_in(where)):
            continue
        with progress_bar(f"{wanted} digest") as progress:
            statuses.append(parameters.check(wanted, where, read_all=True, progress=progress))
    if not statuses:
        click.echo("no parameters there; for a local network: damocles-worker params generate --size 2KiB")
        sys.exit(1)
    _table(statuses)
    faults = [status for status in statuses if not status.state.usable]
    for status in faults:
        click.echo(f"\nproblem: {status.text}\n  next step: {status.next_step}")
    for status in statuses:
        if status.state is State.LOCAL:
            click.echo(f"\nwarning: {status.wanted}: {parameters.WARNING}")
    sys.exit(1 if faults else 0)


@params.command()
@click.option("--size", type=_SIZE, required=True, help="Sector size.")
@click.option(
    "--plan",
    "plans",
    type=click.Choice(_GENERATED_PLANS),
    multiple=True,
    default=("sealer",),
    show_default=True,
    help="What the set is for; repeatable.",
)
@_directory
def generate(size: str, plans: tuple[str, ...], directory: Path | None) -> None:
    """Make local, insecure parameters where there are none; nothing is ever overwritten."""
    where = directory or parameters.cache_directory()
    usable = True
    for wanted in parameters.required([SECTOR_SIZES[size]], plans):
        usable = _generate(wanted, where) and usable
    sys.exit(0 if usable else 1)


def _generate(wanted: ParameterSet, where: Path) -> bool:
    seconds = parameters.expected_seconds(wanted)
    started = time.monotonic()
    if parameters.check(wanted, where).state is State.MISSING:
        click.echo(f"generating the {wanted} parameters in {where}: about {format_duration(round(seconds))}")
    with progress_bar(f"{wanted} parameters") as progress:
        outcome = parameters.generate(wanted, where, progress=progress, waiting=click.echo)
    if outcome.generated:
        click.echo(f"done in {format_duration(round(time.monotonic() - started))}:")
        for name in outcome.files:
            click.echo(f"  {where / name}")
    else:
        click.echo(f"the {wanted} parameters are there already ({outcome.state}); nothing was changed")
    if not outcome.state.usable:
        status = parameters.check(wanted, where)
        click.echo(f"problem: {status.text}\n  next step: {status.next_step}")
    elif outcome.state is State.LOCAL:
        click.echo(f"warning: {parameters.WARNING}")
    return outcome.state.usable


def _wanted(sizes: tuple[str, ...], plans: tuple[str, ...]) -> list[ParameterSet]:
    return parameters.required((SECTOR_SIZES[size] for size in sizes or SECTOR_SIZES), plans or _PLANS)


def _table(statuses: list[Status]) -> None:
    rows = [("size", "kind", "state", "bytes", "files")]
    rows += [
        (
            size_name(status.wanted.sector_size),
            status.wanted.kind,
            str(status.state),
            _bytes_of(status),
            status.wanted.name,
        )
        for status in statuses
    ]
    click.echo(aligned(rows))


def _bytes_of(status: Status) -> str:
    try:
        return format_size((status.directory / status.wanted.params_file).stat().st_size)
    except OSError:
        return "-"
