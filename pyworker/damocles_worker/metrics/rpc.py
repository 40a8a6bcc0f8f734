"""The Rust worker's three series about calls to the manager, in its own spelling.

Written here rather than with the Prometheus library, which gives every counter the suffix ``_total`` and
knows no quantiles.
"""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable, Mapping

from damocles_worker.manager import methods as m
from damocles_worker.metrics.catalogue import RPC_CALL, RPC_ERROR, RPC_TIMING

#: Method on the wire to the label of the Rust worker; others (ping, tools) are not counted.
LABELS = {
    m.ALLOCATE_SECTOR.name: "allocate_sector",
    m.ACQUIRE_DEALS.name: "acquire_deals",
    m.ASSIGN_TICKET.name: "assign_ticket",
    m.SUBMIT_PRE_COMMIT.name: "submit_pre_commit",
    m.POLL_PRE_COMMIT_STATE.name: "poll_pre_commit_state",
    m.SUBMIT_PERSISTED_EX.name: "submit_persisted_ex",
    m.WAIT_SEED.name: "wait_seed",
    m.SUBMIT_PROOF.name: "submit_proof",
    m.POLL_PROOF_STATE.name: "poll_proof_state",
    m.REPORT_STATE.name: "report_state",
    m.REPORT_FINALIZED.name: "report_finalized",
    m.REPORT_ABORTED.name: "report_aborted",
    m.ALLOCATE_SNAP_UP_SECTOR.name: "allocate_snapup_sector",
    m.SUBMIT_SNAP_UP_PROOF.name: "submit_snapup_proof",
    m.STORE_RESERVE_SPACE.name: "store_reserve_space",
    m.STORE_BASIC_INFO.name: "store_basic_info",
    m.ALLOCATE_REBUILD_SECTOR.name: "allocate_rebuild_sector",
    m.ALLOCATE_UNSEAL_SECTOR.name: "allocate_unseal_sector",
    m.ACHIEVE_UNSEAL_SECTOR.name: "achieve_unseal_sector",
    m.ACQUIRE_UNSEAL_DEST.name: "acquire_unseal_dest",
    m.WDPOST_ALLOCATE_JOBS.name: "allocate_wdpost_job",
    m.WDPOST_HEARTBEAT_JOBS.name: "wdpost_heartbeat",
    m.WDPOST_FINISH_JOB.name: "wdpost_finish",
}

QUANTILES = (0.0, 0.5, 0.9, 0.95, 0.99, 0.999, 1.0)
#: Seconds that the quantiles look back.
WINDOW = 60.0
#: Calls kept per method; a worker makes far fewer in a minute.
_KEPT = 4096


class _Method:
    """Counts and recent times of one method."""

    def __init__(self) -> None:
        self.calls = 0
        self.errors = 0
        self.seconds = 0.0
        self.recent: deque[tuple[float, float]] = deque(maxlen=_KEPT)  # when it ended, seconds


class RpcSeries:
    """Fed by :attr:`damocles_worker.manager.client.ManagerClient.observers`; one event loop.

    :param clock: seconds on a clock that never goes back.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._methods: dict[str, _Method] = {}

    def observe(self, method: str, seconds: float, error: Exception | None) -> None:
        """Count a finished call of ``method`` (its name on the wire, without prefix)."""
        label = LABELS.get(method)
        if label is None:
            return
        counts = self._methods.setdefault(label, _Method())
        counts.calls += 1
        counts.errors += error is not None
        counts.seconds += seconds
        counts.recent.append((self._clock(), seconds))

    def text(self, common: Mapping[str, str]) -> str:
        """The exposition; ``common`` labels stand first in every series."""
        methods = sorted(self._methods.items())
        failed = [(name, counts) for name, counts in methods if counts.errors]
        lines = []
        if methods:
            lines.append(f"# TYPE {RPC_CALL.name} counter")
            lines += [_line(RPC_CALL.name, common, name, counts.calls) for name, counts in methods]
        if failed:
            lines.append(f"# TYPE {RPC_ERROR.name} counter")
            lines += [_line(RPC_ERROR.name, common, name, counts.errors) for name, counts in failed]
        if methods:
            lines.append(f"# TYPE {RPC_TIMING.name} summary")
        for name, counts in methods:
            recent = self._recent(counts)
            for quantile in QUANTILES:
                value = quantile_of(recent, quantile)
                lines.append(_line(RPC_TIMING.name, common, name, value, quantile=f"{quantile:g}"))
            lines.append(_line(f"{RPC_TIMING.name}_sum", common, name, counts.seconds))
            lines.append(_line(f"{RPC_TIMING.name}_count", common, name, counts.calls))
        return "".join(f"{line}\n" for line in lines)

    def _recent(self, counts: _Method) -> list[float]:
        """Ascending seconds of the calls within the window; older ones are forgotten."""
        oldest = self._clock() - WINDOW
        while counts.recent and counts.recent[0][0] < oldest:
            counts.recent.popleft()
        return sorted(seconds for _, seconds in counts.recent)


def quantile_of(ascending: list[float], quantile: float) -> float:
    """The smallest value that at least ``quantile`` of the values don't exceed; 0 of no values."""
    if not ascending:
        return 0.0
    return ascending[max(0, math.ceil(quantile * len(ascending)) - 1)]


def _line(
    name: str, common: Mapping[str, str], method: str, value: float, *, quantile: str | None = None
) -> str:
    labels = {**common, "method": method, **({"quantile": quantile} if quantile is not None else {})}
    text = ",".join(f'{key}="{_escaped(label)}"' for key, label in labels.items())
    return f"{name}{{{text}}} {int(value) if value == int(value) else value!r}"


def _escaped(label: str) -> str:
    return label.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
