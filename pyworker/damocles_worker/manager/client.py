"""The manager's methods as coroutines: one HTTP POST per call, nothing remembered, nothing retried.

Retrying is the business of the sealing machine, by the level of the error.
"""

from __future__ import annotations

import asyncio
import email.utils
import itertools
import time
from collections.abc import Callable, Mapping
from typing import TypeVar

import aiohttp
import msgspec

from damocles_worker.manager import methods as m
from damocles_worker.manager import types as t
from damocles_worker.manager.address import Address
from damocles_worker.manager.answer import decode_answer
from damocles_worker.manager.methods import Method
from damocles_worker.manager.rpc_error import RpcError, bad_answer, manager_away

__all__ = ["ManagerClient", "Observer", "RpcError"]

R = TypeVar("R")

#: Called after every call: method name, seconds it took (waiting for a slot left out), its error or None.
Observer = Callable[[str, float, RpcError | None], None]

#: An answer longer than this is not read to its end (the longest real ones are lists of pieces).
MAX_ANSWER = 64 * 2**20
_CONNECT_TIMEOUT = 10.0
#: Seconds a connection without calls is kept. Shorter than the time any server keeps one, so that a call
#: does not meet a connection that the other side has just closed: a POST can't be sent twice.
_KEEP_ALIVE = 2.0


class ManagerClient:
    """A client of one manager.

    At most ``in_flight`` calls are on the wire, the others wait in the order they came. A call that
    has a slot ends within ``timeout`` seconds. ``headers`` go with every request. Every method raises
    :class:`RpcError` and nothing else. To be used in one event loop and closed there.
    """

    def __init__(
        self,
        address: Address,
        *,
        headers: Mapping[str, str] | None = None,
        timeout: float = 60.0,
        in_flight: int = 8,
    ) -> None:
        self.address = address
        #: Told of every finished call; metrics attach here.
        self.observers: list[Observer] = []
        configured = {name.lower(): value for name, value in (headers or {}).items()}
        self._headers = {"content-type": "application/json", "accept": "application/json"} | configured
        self._timeout = timeout
        self._slots = asyncio.Semaphore(in_flight)
        self._ids = itertools.count()
        self._session: aiohttp.ClientSession | None = None
        self._up = False
        self._last_error = ""
        self._last_ok_at: float | None = None
        self._clock_ahead: float | None = None

    def sibling(self, *, timeout: float) -> ManagerClient:
        """A client of the same manager with slots, connections and a time limit of its own."""
        other = ManagerClient(self.address, headers=self._headers, timeout=timeout)
        other.observers = self.observers
        return other

    @property
    def up(self) -> bool:
        """Whether a manager answered the latest call, be it with an error of its own."""
        return self._up

    @property
    def last_error(self) -> str:
        """Text of the latest failed call, kept after a success; empty if none failed yet."""
        return self._last_error

    @property
    def last_ok_at(self) -> float | None:
        """Unix time of the latest call that brought a result."""
        return self._last_ok_at

    @property
    def clock_ahead(self) -> float | None:
        """Seconds that the manager's clock is ahead of this host's, by the ``Date`` of its latest answer.

        True to a second and half the time the answer took; None before an answer, or without ``Date``.
        """
        return self._clock_ahead

    async def close(self) -> None:
        """Close the connections; calls under way fail."""
        if self._session is not None:
            await self._session.close()

    async def _call(self, method: Method[R], *params: object) -> R:
        async with self._slots:
            started = time.monotonic()
            try:
                result = await self._exchange(method, params)
            except RpcError as error:
                self._last_error = str(error)
                self._up = error.waits_for is None
                self._observe(method.name, started, error)
                raise
            self._up = True
            self._last_ok_at = time.time()
            self._observe(method.name, started, None)
            return result

    def _observe(self, method: str, started: float, error: RpcError | None) -> None:
        seconds = time.monotonic() - started
        for observer in self.observers:
            observer(method, seconds, error)

    async def _exchange(self, method: Method[R], params: tuple[object, ...]) -> R:
        url = self.address.url
        request_id = next(self._ids)
        request = {"jsonrpc": "2.0", "method": method.wire_name, "params": params, "id": request_id}
        sent_at = time.time()
        try:
            async with self._open_session().post(
                url, data=msgspec.json.encode(request), headers=self._headers, allow_redirects=False
            ) as response:
                body = await _read(response, method.name, url)
                status = response.status
                self._compare_clocks(response.headers.get("Date", ""), sent_at)
        except aiohttp.ConnectionTimeoutError:
            what = f"did not take a connection within {min(_CONNECT_TIMEOUT, self._timeout):g} s"
            raise manager_away(method.name, url, what) from None
        except TimeoutError:
            raise manager_away(method.name, url, f"did not answer within {self._timeout:g} s") from None
        except aiohttp.ClientConnectorDNSError as error:
            raise manager_away(method.name, url, f"has a name that can't be resolved: {error}") from None
        except (aiohttp.ClientError, OSError) as error:
            reason = str(error) or type(error).__name__
            raise manager_away(method.name, url, f"can't be reached: {reason}") from None
        except ValueError as error:
            raise RpcError(
                method.name,
                f"the request to {url} can't be built: {error}",
                next_step="Check the values of [sector_manager.rpc_client] headers",
            ) from None
        return decode_answer(method, url, request_id, status, body)

    def _compare_clocks(self, date: str, sent_at: float) -> None:
        try:
            manager = email.utils.parsedate_to_datetime(date).timestamp()
        except (ValueError, OverflowError):
            self._clock_ahead = None
            return
        # The header has whole seconds, cut off.
        self._clock_ahead = manager + 0.5 - (sent_at + time.time()) / 2

    def _open_session(self) -> aiohttp.ClientSession:
        # Opened by the first call: a session belongs to a running loop.
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=_KEEP_ALIVE),
                timeout=aiohttp.ClientTimeout(total=self._timeout, sock_connect=_CONNECT_TIMEOUT),
            )
        return self._session

    # -- sealer ---------------------------------------------------------------------------------------

    async def allocate_sector(self, spec: t.AllocateSectorSpec) -> t.AllocatedSector | None:
        """A new sector, or None when the manager has none to give. Not idempotent."""
        return await self._call(m.ALLOCATE_SECTOR, spec)

    async def acquire_deals(self, sector: t.SectorID, spec: t.AcquireDealsSpec) -> list[t.SectorPiece] | None:
        """The pieces that fill the sector, in order, fillers included; None or empty: no deals."""
        return await self._call(m.ACQUIRE_DEALS, sector, spec)

    async def assign_ticket(self, sector: t.SectorID) -> t.Ticket:
        """A new ticket; the manager forgets the sector's previous one."""
        return await self._call(m.ASSIGN_TICKET, sector)

    async def submit_pre_commit(
        self, sector: t.AllocatedSector, info: t.PreCommitOnChainInfo, reset: bool
    ) -> t.SubmitResp:
        """Submit the commitments; ``reset`` only after the chain refused an earlier submission."""
        return await self._call(m.SUBMIT_PRE_COMMIT, sector, info, reset)

    async def poll_pre_commit_state(self, sector: t.SectorID) -> t.PollResp:
        return await self._call(m.POLL_PRE_COMMIT_STATE, sector)

    async def store_reserve_space(
        self, sector: t.SectorID, size: int, candidates: list[str]
    ) -> t.StoreBasicInfo | None:
        """The store, one of ``candidates``, where ``size`` bytes are kept free; None: none has room."""
        return await self._call(m.STORE_RESERVE_SPACE, sector, size, candidates)

    async def store_basic_info(self, name: str) -> t.StoreBasicInfo | None:
        """What the manager knows of a store; None when it does not know the name."""
        return await self._call(m.STORE_BASIC_INFO, name)

    async def submit_persisted_ex(self, sector: t.SectorID, instance: str, upgrade: bool) -> bool:
        """Say that the files are in store ``instance``; False: the manager misses some."""
        return await self._call(m.SUBMIT_PERSISTED_EX, sector, instance, upgrade)

    async def wait_seed(self, sector: t.SectorID, proof_type: int) -> t.WaitSeedResp:
        return await self._call(m.WAIT_SEED, sector, proof_type)

    async def submit_proof(self, sector: t.SectorID, proof: t.ProofOnChainInfo, reset: bool) -> t.SubmitResp:
        """Submit the SNARK; ``reset`` only after the chain refused an earlier submission."""
        return await self._call(m.SUBMIT_PROOF, sector, proof, reset)

    async def poll_proof_state(self, sector: t.SectorID) -> t.PollResp:
        return await self._call(m.POLL_PROOF_STATE, sector)

    # -- reports --------------------------------------------------------------------------------------

    async def report_state(self, sector: t.SectorID, report: t.ReportStateReq) -> t.SectorStateResp:
        """Tell where the task is; ``finalized`` in the answer means: drop it now."""
        return await self._call(m.REPORT_STATE, sector, report)

    async def report_finalized(self, sector: t.SectorID) -> None:
        await self._call(m.REPORT_FINALIZED, sector)

    async def report_aborted(self, sector: t.SectorID, reason: str) -> None:
        """Give the sector up; releases its deals. Not for sectors that are live on chain."""
        await self._call(m.REPORT_ABORTED, sector, reason)

    async def worker_ping(self, info: t.WorkerInfo) -> None:
        await self._call(m.WORKER_PING, info)

    async def find_sector(self, worker_state: str, sector: t.SectorID) -> t.SectorState | None:
        """The manager's record of a sector; ``worker_state`` is ``online`` or ``offline``."""
        return await self._call(m.FIND_SECTOR, worker_state, sector)

    async def version(self) -> str:
        """The manager's version; ``devnet`` for the embedded one."""
        return await self._call(m.VERSION)

    # -- snapup, rebuild, unseal ----------------------------------------------------------------------

    async def allocate_snap_up_sector(self, spec: t.AllocateSnapUpSpec) -> t.AllocatedSnapUpSector | None:
        """A sealed sector to upgrade, with its new pieces. Not idempotent."""
        return await self._call(m.ALLOCATE_SNAP_UP_SECTOR, spec)

    async def submit_snap_up_proof(self, sector: t.SectorID, info: t.SnapUpOnChainInfo) -> t.SubmitResp:
        """Submit a replica update; while an accepted one is under way the manager refuses a second."""
        return await self._call(m.SUBMIT_SNAP_UP_PROOF, sector, info)

    async def allocate_rebuild_sector(self, spec: t.AllocateSectorSpec) -> t.SectorRebuildInfo | None:
        """A sector to seal again, taken off the manager's queue."""
        return await self._call(m.ALLOCATE_REBUILD_SECTOR, spec)

    async def allocate_unseal_sector(self, spec: t.AllocateSectorSpec) -> t.SectorUnsealInfo | None:
        """A piece to unseal, taken off the manager's queue."""
        return await self._call(m.ALLOCATE_UNSEAL_SECTOR, spec)

    async def acquire_unseal_dest(self, sector: t.SectorID, piece_cid: t.Cid) -> list[str] | None:
        """The URLs an unsealed piece goes to; the manager takes no further ones after this."""
        return await self._call(m.ACQUIRE_UNSEAL_DEST, sector, piece_cid)

    async def achieve_unseal_sector(self, sector: t.SectorID, piece_cid: t.Cid, error: str) -> None:
        """End an unseal task; ``error`` is empty when the piece was delivered."""
        await self._call(m.ACHIEVE_UNSEAL_SECTOR, sector, piece_cid, error)

    # -- wdpost ---------------------------------------------------------------------------------------

    async def wdpost_allocate_jobs(
        self, spec: t.AllocateWdPoStJobSpec, count: int, worker: str
    ) -> list[t.WdPoStAllocatedJob]:
        """At most ``count`` jobs; empty when there are none."""
        return await self._call(m.WDPOST_ALLOCATE_JOBS, spec, count, worker)

    async def wdpost_heartbeat_jobs(self, job_ids: list[str], worker: str) -> None:
        """Keep jobs; an error when one of them is finished or unknown."""
        await self._call(m.WDPOST_HEARTBEAT_JOBS, job_ids, worker)

    async def wdpost_finish_job(self, job_id: str, output: t.WindowPoStOutput | None, error: str) -> None:
        """Hand a job's output in, or None and why there is none."""
        await self._call(m.WDPOST_FINISH_JOB, job_id, output, error)


async def _read(response: aiohttp.ClientResponse, method: str, url: str) -> bytes:
    """The whole body, whatever the status; an endless one is cut short by an error."""
    chunks = bytearray()
    async for chunk in response.content.iter_any():
        chunks += chunk
        if len(chunks) > MAX_ANSWER:
            raise bad_answer(
                method, url, f"sent more than {MAX_ANSWER} bytes where a JSON-RPC answer is expected"
            )
    return bytes(chunks)
