"""What is counted as it happens: stages, their failures, ends of sectors."""

from __future__ import annotations

from itertools import product

from prometheus_client import CollectorRegistry, Counter, Histogram

from damocles_worker.errors import Level
from damocles_worker.metrics.catalogue import SECTORS, STAGE_DURATION, STAGE_FAILURES, STAGE_WAIT
from damocles_worker.sealing.plans import PLANS
from damocles_worker.sealing.stages import STAGES

#: Seconds: from a tree_d of 2 KiB to a C2 on a cpu.
_BUCKETS = (0.1, 1, 5, 15, 60, 300, 900, 1800, 3600, 7200, 10800, 14400, 21600, 43200, 86400)


class Recorder:
    """Told by the sealing threads; all methods belong to one event loop."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._duration = Histogram(
            STAGE_DURATION.name,
            STAGE_DURATION.help,
            STAGE_DURATION.labels,
            registry=self.registry,
            buckets=_BUCKETS,
        )
        self._wait = Histogram(
            STAGE_WAIT.name, STAGE_WAIT.help, STAGE_WAIT.labels, registry=self.registry, buckets=_BUCKETS
        )
        self._failures = Counter(
            STAGE_FAILURES.name, STAGE_FAILURES.help, STAGE_FAILURES.labels, registry=self.registry
        )
        self._sectors = Counter(SECTORS.name, SECTORS.help, SECTORS.labels, registry=self.registry)
        # All begin at zero, so that a rate is right from the first sector and the first failure on.
        for plan, result in product(PLANS, ("finished", "aborted", "dropped")):
            self._sectors.labels(plan, result)
        for stage, level in product(STAGES, Level):
            self._failures.labels(stage, level.lower())

    def stage_ended(self, stage: str, processor: str | None, seconds: float, level: str | None) -> None:
        """A run of ``stage`` ended after ``seconds``; ``level`` is that of its failure, None after a success.

        ``processor`` is its name as ``worker list`` shows it; a child's process id is left out, which
        would make a new series at each restart.
        """
        self._duration.labels(stage, (processor or "worker").partition("(")[0]).observe(seconds)
        if level is not None:
            self._failures.labels(stage, level.lower()).inc()

    def stage_waited(self, stage: str, seconds: float) -> None:
        """A place in the limit of ``stage`` was given after ``seconds``."""
        self._wait.labels(stage).observe(seconds)

    def sector_ended(self, plan: str, result: str) -> None:
        """What a thread had of ``plan`` is ``finished``, ``aborted`` or ``dropped``."""
        self._sectors.labels(plan, result).inc()
