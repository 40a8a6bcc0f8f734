"""What a starting worker has to say about its parameters."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Literal, Protocol

from msgspec import Struct

from damocles_worker.params.sets import PLAN_KINDS, ParameterSet, cache_directory, required
from damocles_worker.params.status import State, Status, check_quickly, fetch_command
from damocles_worker.sectors import SECTOR_SIZES, size_name

#: The stage that computes the proofs of a plan.
_PROVING_STAGE = {"sealer": "c2", "snapup": "snap_prove", "rebuild": "snap_prove", "wdpost": "window_post"}


#: What names the directory of parameters, and the proving library's default.
_CACHE_VARIABLE = "FIL_PROOFS_PARAMETER_CACHE"
_DEFAULT_CACHE = "/var/tmp/filecoin-proof-parameters/"


class ParameterFinding(Struct, frozen=True):
    """One remark: an error stops the sectors that need the set, a warning does not."""

    level: Literal["error", "warning"]
    message: str
    next_step: str = ""

    def __str__(self) -> str:
        return f"{self.message}. {self.next_step}" if self.next_step else self.message


class SealingLike(Protocol):
    """The policy of a thread, as far as parameters go."""

    @property
    def allowed_sizes(self) -> tuple[int, ...] | None: ...


class ThreadLike(Protocol):
    """A sealing thread, as far as parameters go."""

    @property
    def plan(self) -> str: ...
    @property
    def sealing(self) -> SealingLike: ...


class ProcessorLike(Protocol):
    """An external processor, as far as parameters go: ``bin`` None is this program."""

    @property
    def bin(self) -> str | None: ...
    @property
    def envs(self) -> Mapping[str, str]: ...
    @property
    def inherit_envs(self) -> bool: ...


def report(sets: Iterable[ParameterSet], *, local_network: bool, directory: Path) -> list[ParameterFinding]:
    """Findings for these sets.

    Quick enough for every start: whole files are not read, a digest counts if it is remembered.
    ``local_network``: the manager is the devnet of this program, which accepts local parameters.
    """
    findings = []
    for wanted in sets:
        status = check_quickly(wanted, directory)
        if not status.state.usable:
            findings.append(ParameterFinding("error", status.text, status.next_step))
        elif status.state is State.LOCAL and not local_network:
            findings.append(_beside_a_real_manager(status))
    return findings


def findings(
    threads: Sequence[ThreadLike],
    processors: Mapping[str, Sequence[ProcessorLike]],
    *,
    local_network: bool = False,
    directory: Path | None = None,
) -> list[ParameterFinding]:
    """:func:`report` for configured sealing threads and external processors by stage; ``directory`` None:
    where the library looks."""
    where = directory or cache_directory()
    places, found = wanted_places(threads, processors, where)
    for place, sets in places:
        found += report(sets, local_network=local_network, directory=place)
    return found


def thread_sizes(thread: ThreadLike, directory: Path | None = None) -> tuple[int, ...]:
    """Sector sizes in bytes of a thread; of one that takes any those that some file is there for."""
    return thread.sealing.allowed_sizes or _sizes_with_files(thread.plan, directory or cache_directory())


def wanted_places(
    threads: Sequence[ThreadLike], processors: Mapping[str, Sequence[ProcessorLike]], where: Path
) -> tuple[list[tuple[Path, list[ParameterSet]]], list[ParameterFinding]]:
    """:func:`wanted_sets` by directory: ``where``, and those that the environment of a processor of this
    program names in its place.
    """
    elsewhere: dict[Path, set[str]] = {}
    for stage, entries in processors.items():
        for processor in entries:
            if processor.bin is None and (own := _own_directory(processor, where)) != where:
                elsewhere.setdefault(own, set()).add(stage)
    sets, found = wanted_sets(threads, processors, where)
    places = [(where, sets)]
    for directory, stages in elsewhere.items():
        served = [thread for thread in threads if _PROVING_STAGE.get(thread.plan) in stages]
        sets, more = wanted_sets(served, {}, directory)
        places.append((directory, sets))
        found += more
    return places, found


def _own_directory(processor: ProcessorLike, where: Path) -> Path:
    """Where a processor of this program looks, ``where`` being the daemon's place."""
    named = processor.envs.get(_CACHE_VARIABLE)
    if named is None and not processor.inherit_envs:
        named = _DEFAULT_CACHE if _CACHE_VARIABLE in os.environ else None
    return where if named is None else Path(named)


def wanted_sets(
    threads: Sequence[ThreadLike], processors: Mapping[str, Sequence[ProcessorLike]], where: Path
) -> tuple[list[ParameterSet], list[ParameterFinding]]:
    """The sets that the threads need, with external processors by stage, and what keeps that from being told.

    A thread without ``allowed_sizes`` takes any sector: then the sizes are those that some file is
    there for; that others would fail is a warning, and it is an error if there are none.
    """
    by_plan: dict[str, set[int]] = {}
    open_plans: set[str] = set()
    found = []
    for thread in threads:
        by_plan.setdefault(thread.plan, set()).update(thread_sizes(thread, where))
        if not thread.sealing.allowed_sizes:
            open_plans.add(thread.plan)
    foreign = [
        plan for plan in by_plan if _is_foreign(processors.get(_PROVING_STAGE.get(plan, ""), ()), where)
    ]
    sets: dict[tuple[int, str], ParameterSet] = {}
    for plan, plan_sizes in by_plan.items():
        if not plan_sizes and PLAN_KINDS[plan]:
            found.append(_nothing_there(plan, where))
        elif plan in open_plans and (without := set(SECTOR_SIZES.values()) - plan_sizes):
            found += _would_fail(plan, sorted(without), sorted(plan_sizes), where)
        for wanted in required(plan_sizes, [plan], foreign_plans=foreign):
            key = (wanted.sector_size, wanted.kind)
            if key not in sets or not wanted.only_vk:
                sets[key] = wanted
    return [sets[key] for key in sorted(sets)], found


def _is_foreign(processors: Sequence[ProcessorLike], where: Path) -> bool:
    """Whether all of a stage's processors are other programs, or look elsewhere."""
    return bool(processors) and all(
        processor.bin is not None or _own_directory(processor, where) != where for processor in processors
    )


def _sizes_with_files(plan: str, directory: Path) -> tuple[int, ...]:
    return tuple(
        size
        for size in SECTOR_SIZES.values()
        for wanted in required([size], [plan])
        if wanted.keys_in(directory)
    )


def _nothing_there(plan: str, directory: Path) -> ParameterFinding:
    kinds = " and ".join(PLAN_KINDS[plan])
    return ParameterFinding(
        "error",
        f"the plan {plan} needs {kinds} parameters, and {directory} has none, for any sector size",
        "Set sealing.allowed_sizes and fetch the parameters of these sizes (`damocles-manager util"
        " fetch-params 32GiB`); for a local network `damocles-worker params generate --size 2KiB` makes them",
    )


def _would_fail(
    plan: str, without: Sequence[int], present: Sequence[int], directory: Path
) -> list[ParameterFinding]:
    """The sizes that a thread for any size may be given and can't prove; none for a plan without proofs."""
    if not PLAN_KINDS[plan]:
        return []
    stage, kinds = _PROVING_STAGE.get(plan, "the proof"), " and ".join(PLAN_KINDS[plan])
    names = ", ".join(size_name(size) for size in without)
    listed = ", ".join(f'"{size_name(size)}"' for size in present)
    fetch = fetch_command(ParameterSet(SECTOR_SIZES["32GiB"], PLAN_KINDS[plan][0]))
    return [
        ParameterFinding(
            "warning",
            f"without allowed_sizes the plan {plan} is given sectors of any size, and those of {names} would"
            f" fail at {stage}: {directory} has no {kinds} parameters for them",
            f"Write allowed_sizes = [{listed}] below [sealing], or fetch the parameters of the sizes to seal"
            f" (`{fetch}`)",
        )
    ]


def _beside_a_real_manager(status: Status) -> ParameterFinding:
    wanted = status.wanted
    return ParameterFinding(
        "warning",
        f"{wanted}: the parameters {wanted.name} in {status.directory} are local and insecure, made by"
        " `damocles-worker params generate`: no network but this program's devnet accepts their proofs",
        f"If the manager belongs to another network, move the set's files out of {status.directory}"
        " and put that network's parameters there",
    )
