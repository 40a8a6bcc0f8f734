"""From the configuration to the executor: which children there are, and who may start what when."""

from __future__ import annotations

import msgspec

from damocles_worker.config.settings import PROCESSOR_STAGES, Processor, Processors
from damocles_worker.hardware.cpulist import parse_cpu_list
from damocles_worker.processors.inprocess import InProcess
from damocles_worker.processors.pool import Pool
from damocles_worker.processors.scheduler import Scheduler
from damocles_worker.processors.spec import DAEMONS, OWN_STAGES, TOKEN_VARIABLE, ChildSpec


def executor(processors: Processors, piece_token: str | None = None) -> tuple[Pool, Scheduler]:
    """The executor of a daemon and its limits; no child is started yet."""
    scheduler = Scheduler(processors.concurrent, processors.staggered, processors.ext_locks)
    return Pool(specs(processors, piece_token), scheduler, InProcess()), scheduler


def specs(processors: Processors, piece_token: str | None = None) -> dict[str, tuple[ChildSpec, ...]]:
    """The children of every table, in the order they are started.

    ``piece_token`` goes to the children of add_pieces, which download for themselves.
    """
    tables = {
        table: tuple(
            _spec(table, index, processor) for index, processor in enumerate(processors.stages.get(table, ()))
        )
        for table in (*PROCESSOR_STAGES, *sorted(processors.stages.keys() - set(PROCESSOR_STAGES)))
    }
    if piece_token is not None and "add_pieces" in tables:
        tables["add_pieces"] = tuple(
            _with_env(spec, TOKEN_VARIABLE, piece_token) for spec in tables["add_pieces"]
        )
    return {table: children for table, children in tables.items() if children}


def needs_program(table: str, processor: Processor) -> bool:
    """Whether an entry can't start for want of ``bin``: this program does not serve its stage."""
    return processor.bin is None and (table == DAEMONS or table not in OWN_STAGES)


def _spec(table: str, index: int, processor: Processor) -> ChildSpec:
    return ChildSpec(
        table=table,
        index=index,
        bin=processor.bin,
        args=processor.args,
        stable_wait=processor.stable_wait,
        cpuset=processor.cpuset,
        cpus=parse_cpu_list(processor.cpuset) if processor.cpuset else None,
        group_name=processor.cgroup_group_name,
        envs=processor.envs,
        inherit_envs=processor.inherit_envs,
        numa_preferred=processor.numa_preferred,
        concurrent=processor.concurrent,
        locks=processor.locks,
        auto_restart=processor.auto_restart,
        answer_timeout=processor.answer_timeout,
    )


def _with_env(spec: ChildSpec, name: str, value: str) -> ChildSpec:
    return msgspec.structs.replace(spec, envs={**spec.envs, name: value})
