"""A made-up daemon with something to tell in every series."""

from __future__ import annotations

from msgspec import Struct

from damocles_worker.metrics.worker import WorkerMetrics
from damocles_worker.sealing.thread import ThreadInfo
from damocles_worker.stores.measure import Store

COMMON = {"worker_name": "w1", "worker_ip": "10.0.0.2"}
BUILD = {"version": "v0.1.0", "profile": "release", "cpu_features": "sha avx2"}


class Manager(Struct):
    up: bool = True
    last_ok_at: float | None = 1700000000.5


class Processor(Struct):
    path: str = "processors.pc1[0]"
    stage: str = "pc1"
    state: str = "ready"
    restarts: int = 2
    tasks: int = 1
    silent_for: float = 90.0
    problems: tuple[str, ...] = ("cpuset 0-3 is not in force",)


def thread(index: int, state: str, **fields: object) -> ThreadInfo:
    """A thread without a job, unless fields say otherwise."""
    known: dict[str, object] = {
        "index": index,
        "location": f"/mnt/s{index}",
        "plan": "sealer",
        "job_id": None,
        "job_state": "",
        "job_stage": None,
        "state": state,
        "elapsed": 63.5,
        "processor": None,
        "last_error": None,
        "progress": None,
    }
    return ThreadInfo(**{**known, **fields})  # type: ignore[arg-type]


def threads() -> list[ThreadInfo]:
    """One computing PC1, one that waits for it, one paused with an error."""
    job = {"job_id": "s-t01000-1", "job_state": "TicketAssigned", "job_stage": "PC1"}
    return [
        thread(0, "Running", **job, processor="builtin PC1", progress=(1, 4)),
        thread(1, "Waiting", **{**job, "job_id": "s-t01000-2"}),
        thread(2, "Paused", last_error="permanent: x"),
    ]


def full_metrics(stores: list[Store] | None = None) -> WorkerMetrics:
    """Metrics of a daemon in which everything happened once."""
    space = {"size": 100, "free": 60, "reserved": 20}
    default = [Store("/mnt/s0", "sealing", lambda: space)]
    metrics = WorkerMetrics(
        COMMON, BUILD, Manager(), threads, default if stores is None else stores, lambda: [Processor()]
    )
    metrics.rpc.observe("AllocateSector", 0.5, RuntimeError())
    metrics.recorder.stage_ended("pc1", "builtin PC1", 70.0, None)
    metrics.recorder.stage_ended("c2", "ext(pid: 77)", 1.0, "Temporary")
    metrics.recorder.stage_waited("pc1", 3.0)
    metrics.recorder.sector_ended("sealer", "finished")
    return metrics
