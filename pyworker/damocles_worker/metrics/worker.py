"""All metrics of one daemon, put together into one text."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping, Sequence

from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import Metric
from prometheus_client.registry import Collector

from damocles_worker.metrics.gauges import Gauges, ManagerState, ProcessorState, Snapshot
from damocles_worker.metrics.recorder import Recorder
from damocles_worker.metrics.rpc import RpcSeries
from damocles_worker.sealing.thread import ThreadInfo
from damocles_worker.stores.measure import Store, StoreSampler


class WorkerMetrics:
    """Everything that is counted or read, for one event loop.

    :param common: labels of every series: ``worker_name`` and ``worker_ip``.
    :param build: ``version``, ``profile`` and ``cpu_features``.
    :param threads: answers a snapshot of all sealing threads.
    :param processors: answers a snapshot of the external processors.
    """

    def __init__(
        self,
        common: Mapping[str, str],
        build: Mapping[str, str],
        manager: ManagerState,
        threads: Callable[[], Sequence[ThreadInfo]],
        stores: Sequence[Store],
        processors: Callable[[], Sequence[ProcessorState]] = lambda: (),
    ) -> None:
        #: To be put into the manager client's ``observers``: ``rpc.observe``.
        self.rpc = RpcSeries()
        #: To be told by the sealing threads.
        self.recorder = Recorder()
        self._common = dict(common)
        self._build = build
        self._manager = manager
        self._threads = threads
        self._stores = StoreSampler(stores)
        self._processors = processors
        self._process = CollectorRegistry()
        self._sampling = asyncio.Lock()
        ProcessCollector(registry=self._process)

    async def text(self) -> str:
        """The exposition, in Prometheus' text format 0.0.4."""
        async with self._sampling:
            stores = await asyncio.to_thread(self._stores.sample)
        snapshot = Snapshot(self._build, self._manager, self._threads(), stores, self._processors())
        parts = [self.rpc.text(self._common)]
        for collector in (self.recorder.registry, Gauges(snapshot), self._process):
            parts.append(generate_latest(_Labelled(collector, self._common)).decode())
        return "".join(parts)


class _Labelled(Collector):
    """The families of another collector with more labels; without the times of their creation."""

    def __init__(self, inner: Collector | Gauges, common: Mapping[str, str]) -> None:
        self._inner = inner
        self._common = common

    def collect(self) -> Iterator[Metric]:
        for family in self._inner.collect():
            family.samples = [
                sample._replace(labels={**self._common, **sample.labels})
                for sample in family.samples
                if not sample.name.endswith("_created")
            ]
            if family.samples:
                yield family
