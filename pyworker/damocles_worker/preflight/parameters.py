"""Groth16 parameters of every configured size and plan: there, whole, with the right digests."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

from damocles_worker import params
from damocles_worker.config.settings import Settings
from damocles_worker.errors import WorkerError
from damocles_worker.params import ParameterSet, State, Status
from damocles_worker.preflight.lines import Line
from damocles_worker.sectors import size_name

_AREA = "parameters"

#: Called with what is read, and (done, total) in bytes.
Reading = Callable[[str, int, int], object]


def look(
    settings: Settings, *, read: bool, local_network: bool, reading: Reading, directory: Path | None = None
) -> list[Line]:
    """A line per set and directory. With ``read`` whole files are read where a digest was never compared.

    ``directory`` None: where the proving library looks.
    """
    where = directory or params.cache_directory()
    places, missing = params.wanted_places(settings.threads, settings.processors.stages, where)
    lines = [
        Line(
            "problem" if found.level == "error" else "warning",
            _AREA,
            str(where),
            found.message,
            command=found.next_step,
        )
        for found in missing
    ]
    for place, wanted in ((place, wanted) for place, sets in places for wanted in sets):
        try:
            status = params.check(
                wanted, place, read_all=read, progress=partial(reading, f"{wanted} parameters")
            )
        except WorkerError as error:
            lines.append(Line("problem", _AREA, str(wanted), error.cause, command=error.next_step))
        else:
            lines.append(_line(status, local_network=local_network))
    return lines


def _line(status: Status, *, local_network: bool) -> Line:
    wanted = status.wanted
    name = str(wanted)
    if not status.state.usable:
        return Line("problem", _AREA, name, status.text.removeprefix(f"{name}: "), command=status.next_step)
    if status.state is State.LOCAL and not local_network:
        return Line(
            "warning",
            _AREA,
            name,
            f"local and insecure ones in {status.directory}",
            "those of the manager's network (only this program's devnet accepts local ones)",
            f"move them out of {status.directory}, then: {params.fetch_command(wanted)}",
        )
    if status.state is State.OK and not status.digest_compared:
        return Line(
            "warning",
            _AREA,
            name,
            f"the published {wanted.params_file} by size and structure; its digest was never compared",
            "the published digest",
            f"damocles-worker params check --size {size_name(wanted.sector_size)} --plan {_plan(wanted)}",
        )
    return Line("ok", _AREA, name, f"{status.state}, in {status.directory}")


def _plan(wanted: ParameterSet) -> str:
    """A plan whose proofs the set is for."""
    return next(plan for plan, kinds in params.PLAN_KINDS.items() if wanted.kind in kinds)
