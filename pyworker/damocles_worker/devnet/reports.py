"""What workers tell: the state of a task, its end, and that they live."""

from __future__ import annotations

from collections.abc import Callable

from damocles_worker.devnet.sectors import SectorBook, sector_not_found
from damocles_worker.devnet.stores import Stores
from damocles_worker.devnet.wire import MethodError, Served
from damocles_worker.manager import methods as m
from damocles_worker.manager import types as t


class Reports:
    """Serves the reporting methods. ``say`` is told each interesting event in one line."""

    def __init__(self, book: SectorBook, stores: Stores, say: Callable[[str], None]) -> None:
        self._book = book
        self._stores = stores
        self._say = say
        #: The latest ping of every worker, by name.
        self.workers: dict[str, t.WorkerInfo] = {}

    def served(self) -> list[Served]:
        return [
            Served(m.REPORT_STATE, self.report_state),
            Served(m.REPORT_FINALIZED, self.report_finalized),
            Served(m.REPORT_ABORTED, self.report_aborted),
            Served(m.WORKER_PING, self.worker_ping),
            Served(m.FIND_SECTOR, self.find_sector),
        ]

    async def report_state(self, sector_id: t.SectorID, report: t.ReportStateReq) -> t.SectorStateResp:
        sector = self._book.find(sector_id)
        if sector is None:
            raise sector_not_found()
        if sector.online:
            sector.latest = report
            change = report.state_change
            self._say(f"{sector_id} {change.prev} => {change.next}{_failure(report.failure)}")
        return t.SectorStateResp(sector_id, finalized=not sector.online, abort_reason=sector.abort_reason)

    async def report_finalized(self, sector_id: t.SectorID) -> None:
        self._book.online(sector_id).finalize()
        self._stores.release(sector_id)
        self._say(f"{sector_id} finalized")

    async def report_aborted(self, sector_id: t.SectorID, reason: str) -> None:
        self.abort(sector_id, reason)

    def abort(self, sector_id: t.SectorID, reason: str) -> None:
        """Give a sector up, as the worker's report or the manager's own command does."""
        self._book.online(sector_id).abort(reason)
        self._stores.release(sector_id)
        self._say(f"{sector_id} aborted: {reason}")

    async def worker_ping(self, info: t.WorkerInfo) -> None:
        if not info.name or not info.dest:
            raise MethodError("name and dest of a worker are required")
        if info.name not in self.workers:
            self._say(f"worker {info.name} ({info.version}) pings, reachable at {info.dest}")
        self.workers[info.name] = info

    async def find_sector(self, worker_state: str, sector_id: t.SectorID) -> t.SectorState | None:
        """None where the real manager has a record of the other kind or none."""
        sector = self._book.find(sector_id)
        if sector is None or sector.online != (worker_state == "online"):
            return None
        return sector.as_state()


def _failure(failure: t.ReportFailure | None) -> str:
    return "" if failure is None else f", {failure.level} failure: {failure.desc.splitlines()[0]}"
