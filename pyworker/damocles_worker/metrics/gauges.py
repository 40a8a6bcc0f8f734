"""What is read at every scrape: one snapshot of the daemon, turned into gauges."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Protocol

from msgspec import Struct
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from damocles_worker.metrics import catalogue as c
from damocles_worker.metrics.catalogue import Series
from damocles_worker.sealing.thread import ThreadInfo
from damocles_worker.stores.measure import StoreSpace

STATES = ("Idle", "Running", "Waiting", "Paused")


class ManagerState(Protocol):
    """What is asked of a :class:`~damocles_worker.manager.client.ManagerClient`."""

    @property
    def up(self) -> bool: ...
    @property
    def last_ok_at(self) -> float | None: ...


class ProcessorState(Protocol):
    """What is asked of an external processor."""

    @property
    def path(self) -> str: ...
    @property
    def stage(self) -> str: ...
    @property
    def state(self) -> str: ...
    @property
    def restarts(self) -> int: ...
    @property
    def tasks(self) -> int: ...
    @property
    def silent_for(self) -> float: ...
    @property
    def problems(self) -> Sequence[str]: ...


class Snapshot(Struct, frozen=True):
    """The daemon at one moment. ``build`` has the keys version, profile and cpu_features."""

    build: Mapping[str, str]
    manager: ManagerState
    threads: Sequence[ThreadInfo]
    stores: Sequence[StoreSpace]
    processors: Sequence[ProcessorState]


class Gauges:
    """A collector of the Prometheus library over one snapshot."""

    def __init__(self, snapshot: Snapshot) -> None:
        self._snapshot = snapshot

    def collect(self) -> Iterator[Metric]:
        """All families that have a value."""
        now = self._snapshot
        yield _gauge(c.BUILD_INFO, [([now.build[label] for label in c.BUILD_INFO.labels], 1)])
        yield _gauge(c.MANAGER_UP, [([], now.manager.up)])
        if now.manager.last_ok_at is not None:
            yield _gauge(c.MANAGER_LAST_OK, [([], now.manager.last_ok_at)])
        yield from _threads(now.threads)
        yield from _stores(now.stores)
        if now.processors:
            yield from _processors(now.processors)


Values = Sequence[tuple[Sequence[str], float]]


def _gauge(series: Series, values: Values) -> Metric:
    family = GaugeMetricFamily(series.name, series.help, labels=series.labels)
    for labels, value in values:
        family.add_metric(labels, float(value))
    return family


def _threads(threads: Sequence[ThreadInfo]) -> Iterator[Metric]:
    by_state = Counter(info.state for info in threads)
    yield _gauge(c.THREADS, [([state], by_state[state]) for state in STATES])
    yield _gauge(c.TASK_THREADS_PAUSE, [([], by_state["Paused"])])
    by_stage = Counter((info.job_stage, info.state) for info in threads if info.job_stage)
    yield _gauge(
        c.STAGE_THREADS, [([stage, state], count) for (stage, state), count in by_stage.items() if stage]
    )
    named = [(str(info.index), info) for info in threads]
    yield _gauge(
        c.THREAD_STATE_SECONDS,
        [([index, info.location, info.state], info.elapsed) for index, info in named],
    )
    yield _gauge(
        c.THREAD_ERROR, [([index, info.location], info.last_error is not None) for index, info in named]
    )
    yield _gauge(
        c.STAGE_PROGRESS,
        [
            ([index, info.job_stage or ""], info.progress[0] / info.progress[1])
            for index, info in named
            if info.progress and info.progress[1]
        ],
    )
    yield _gauge(
        c.JOB_INFO,
        [
            ([index, info.plan, info.job_id, info.job_state, info.job_stage or "", info.processor or ""], 1)
            for index, info in named
            if info.job_id
        ],
    )


def _stores(stores: Sequence[StoreSpace]) -> Iterator[Metric]:
    yield _gauge(c.STORE_UP, [([store.name, store.role], store.space is not None) for store in stores])
    yield _gauge(
        c.STORE_BYTES,
        [
            ([store.name, store.role, kind], value)
            for store in stores
            if store.space is not None
            for kind, value in store.space.items()
        ],
    )


def _processors(processors: Sequence[ProcessorState]) -> Iterator[Metric]:
    yield _gauge(c.PROCESSOR_UP, [([one.path, one.stage], one.state == "ready") for one in processors])
    yield _gauge(c.PROCESSOR_TASKS, [([one.path, one.stage], one.tasks) for one in processors])
    yield _gauge(c.PROCESSOR_SILENT, [([one.path, one.stage], one.silent_for) for one in processors])
    yield _gauge(c.PROCESSOR_PROBLEMS, [([one.path, one.stage], len(one.problems)) for one in processors])
    restarts = c.PROCESSOR_RESTARTS
    family = CounterMetricFamily(restarts.name, restarts.help, labels=restarts.labels)
    for one in processors:
        family.add_metric([one.path, one.stage], one.restarts)
    yield family
