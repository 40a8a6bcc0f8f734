"""Made-up daemons for the tests of the status page."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from msgspec import Struct

from damocles_worker.control.status import StatusReader
from damocles_worker.processors.scheduler import Usage
from damocles_worker.processors.supervisor import ChildStatus
from damocles_worker.sealing.info import ThreadInfo
from damocles_worker.stores.measure import Store

GIB = 1 << 30


class Manager(Struct):
    up: bool = True
    last_ok_at: float | None = None


def thread(index: int = 0, **fields: object) -> ThreadInfo:
    """A thread in PC1, unless fields say otherwise."""
    known: dict[str, object] = {
        "index": index, "location": f"/mnt/s{index}", "plan": "sealer", "job_id": f"s-t010000-{index}",
        "job_state": "TicketAssigned", "job_stage": "PC1", "state": "Running", "elapsed": 63.5,
        "processor": "builtin PC1", "last_error": None, "progress": (1, 4), "eta": 7200.0,
    }  # fmt: skip
    return ThreadInfo(**{**known, **fields})  # type: ignore[arg-type]


def child(index: int = 0, **fields: object) -> ChildStatus:
    """A processor of PC2 at work with a lock, unless fields say otherwise."""
    known: dict[str, object] = {
        "path": f"processors.pc2[{index}]", "stage": "pc2", "index": index, "program": "damocles-worker",
        "pid": 77 + index, "state": "ready", "state_for": 90.0, "restarts": 0, "tasks": 1, "concurrent": 2,
        "locks": ("gpu0",), "silent_for": 0.0, "cpus": "0-11", "bound_by": "cgroup", "memory": "",
        "problems": (), "notes": (), "bad_lines": 0, "last_error": "",
    }  # fmt: skip
    return ChildStatus(**{**known, **fields})  # type: ignore[arg-type]


def space() -> dict[str, int]:
    return {"size": 100 * GIB, "free": 25 * GIB, "reserved": 10 * GIB}


def reader(
    threads: Sequence[ThreadInfo] | Callable[[], Sequence[ThreadInfo]],
    *,
    manager: Manager | None = None,
    stores: Sequence[Store] = (),
    processors: Sequence[ChildStatus] = (),
    limits: Sequence[Usage] = (),
    name: str = "w1",
) -> StatusReader:
    """A reader of a daemon with these parts."""
    return StatusReader(
        name,
        "v0.1.0-test",
        "http://10.0.0.5:1789",
        manager or Manager(),
        threads if callable(threads) else lambda: threads,
        stores,
        lambda: processors,
        lambda: limits,
    )
