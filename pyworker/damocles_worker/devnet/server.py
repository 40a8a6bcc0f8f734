"""The devnet itself: a manager's HTTP server with the sectors of one miner in memory."""

from __future__ import annotations

import ipaddress
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
from aiohttp import web

from damocles_worker import _native
from damocles_worker.devnet.chain import Chain
from damocles_worker.devnet.faults import Action, Faults, Rule, parse_rules
from damocles_worker.devnet.misbehave import before_answering, hang_up, instead_of_calling, spoil
from damocles_worker.devnet.options import Options
from damocles_worker.devnet.orders import (
    Order,
    RebuildOrder,
    SnapUpOrder,
    UnsealOrder,
    WindowPoStOrder,
    imported,
    parse_import,
    parse_order,
)
from damocles_worker.devnet.pieces import PieceServer
from damocles_worker.devnet.proofs import Proofs
from damocles_worker.devnet.rebuilds import Rebuilds
from damocles_worker.devnet.reports import Reports
from damocles_worker.devnet.sealer import Sealer
from damocles_worker.devnet.sectors import Sector, SectorBook
from damocles_worker.devnet.stores import Stores
from damocles_worker.devnet.unseals import Unseals, Wanted
from damocles_worker.devnet.upgrades import Upgrades
from damocles_worker.devnet.window_posts import WindowPoSts
from damocles_worker.devnet.wire import (
    MethodError,
    Reply,
    Request,
    Served,
    decode_params,
    failure,
    not_found,
    parse,
    success,
    undispatched,
)
from damocles_worker.errors import WorkerError
from damocles_worker.manager.address import RPC_PATH
from damocles_worker.manager.methods import NAMESPACE, VERSION
from damocles_worker.manager.types import AllocatedSector, SectorID

#: Largest request body, as the manager's.
_MAX_REQUEST = 100 * 2**20


def _silent(_event: str) -> None:
    pass


class Devnet:
    """An embedded manager. ``say`` is told each interesting event in one line.

    ``proofs`` and ``chain`` take the place of the proofs library and of the clock of epochs.
    """

    def __init__(
        self,
        options: Options,
        *,
        faults: list[Rule] | None = None,
        say: Callable[[str], None] = _silent,
        proofs: Proofs = _native,
        chain: Chain | None = None,
    ) -> None:
        self._options = options
        self.faults = Faults(faults)
        self.book = SectorBook(options.miner)
        self._say = say
        self._chain = chain or Chain(options.seed, options.epoch_seconds)
        self._proofs = proofs
        self._calls: Counter[str] = Counter()
        self._runner: web.AppRunner | None = None
        self._temporary: Path | None = None
        self._stores = Stores(options.stores, self.book, proofs, say)
        self._reports = Reports(self.book, self._stores, say)
        self.rebuilds = Rebuilds(say)
        #: CIDs of the pieces that were uploaded, each checked.
        self._uploaded: list[str] = []
        self.unseals = Unseals(self._stores, proofs, self._uploaded, say)
        self.window_posts = WindowPoSts(options, self.book, proofs, say)
        self._served: dict[str, Served] = {}

    async def start(self) -> str:
        """Listen; the URL without path. :class:`WorkerError` when the port can't be had."""
        data_dir = self._open_data_dir()
        sealer = Sealer(self._options, self.book, self._chain, self._proofs, data_dir, self._say)
        self.upgrades = Upgrades(self._options, self.book, self._stores, self._proofs, data_dir, self._say)
        parts = (sealer, self._reports, self._stores, self.upgrades, self.rebuilds, self.unseals)
        served = [entry for part in parts for entry in part.served()]
        served += self.window_posts.served()
        served.append(Served(VERSION, _version))
        self._served = {entry.method.wire_name: entry for entry in served}
        pieces = PieceServer(self._options, data_dir, self.faults, self._proofs, self._uploaded)
        runner = web.AppRunner(self._application(pieces), access_log=None, shutdown_timeout=1.0)
        self._runner = runner
        await runner.setup()
        site = web.TCPSite(runner, self._options.host, self._options.port)
        try:
            await site.start()
        except OSError as error:
            await self.stop()
            where = f"{self._options.host}:{self._options.port}"
            raise WorkerError(
                f"devnet can't listen on {where}: {error.strerror or error}",
                next_step="Choose another address with --listen HOST:PORT; port 0 takes a free one",
            ) from None
        host, port = runner.addresses[0][:2]
        return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"

    async def stop(self) -> None:
        """Stop listening and remove the piece data, unless a directory for it was given."""
        if self._runner is not None:
            await self._runner.cleanup()
        if self._temporary is not None:
            shutil.rmtree(self._temporary, ignore_errors=True)

    def _open_data_dir(self) -> Path:
        if self._options.data_dir is None:
            self._temporary = Path(tempfile.mkdtemp(prefix="damocles-devnet-"))
            return self._temporary
        self._options.data_dir.mkdir(parents=True, exist_ok=True)
        return self._options.data_dir

    def state(self) -> dict[str, Any]:
        """What ``GET /devnet/state`` answers."""
        return {
            "miner": self._options.miner,
            "epoch": self._chain.head(),
            "sectors": [sector.summary() for sector in self.book.all()],
            "workers": self._reports.workers,
            "unseals": self.unseals.summary(),
            "uploaded": self._uploaded,
            "jobs": [job.summary() for job in self.window_posts.jobs.values()],
            "calls": dict(self._calls),
        }

    def _application(self, pieces: PieceServer) -> web.Application:
        application = web.Application(client_max_size=_MAX_REQUEST)
        application.add_routes(
            [
                web.route("*", RPC_PATH, self._rpc),
                web.get("/healthcheck", _healthcheck),
                *pieces.routes(),
                web.get("/devnet/state", self._show_state),
                web.post("/devnet/sectors", self._import_sector),
                web.post("/devnet/work", self._order_work),
                web.post("/devnet/faults", self._order_faults),
                web.delete("/devnet/faults", self._clear_faults),
                web.route("*", "/{rest:.*}", _no_such_page),
            ]
        )
        return application

    async def _rpc(self, http: web.Request) -> web.Response:
        request = parse(await http.read())
        if request is None:
            return web.Response(status=500)
        rule = self.faults.fire(request.method.removeprefix(NAMESPACE))
        if rule is not None:
            misbehaved = await before_answering(rule, http)
            if misbehaved is not None:
                return misbehaved
        reply = await self._answer(request, rule)
        if rule is not None:
            reply = spoil(rule, reply)
            if rule.action is Action.LOSE:
                return hang_up(http)
        if not reply.body:
            return web.Response(status=reply.status)
        return web.Response(status=reply.status, body=reply.body, content_type="text/plain", charset="utf-8")

    async def _answer(self, request: Request, rule: Rule | None) -> Reply:
        served = self._served.get(request.method)
        if served is None:
            return not_found(request)
        params = decode_params(request, served.method)
        if isinstance(params, Reply):
            return params
        self._note_call(served.method.name, params)
        if rule is not None:
            if rule.action is Action.ABORT:
                self._abort_ordered(params)
            ordered = instead_of_calling(rule, request)
            if ordered is not None:
                return ordered
        try:
            return success(request, await served.run(*params))
        except MethodError as error:
            return failure(request, error.code, str(error))
        except Exception as error:
            self._say(f"{served.method.name} broke down: {error!r}")
            return undispatched(request, 0, f"fatal error calling '{request.method}': {error}")

    def _note_call(self, method: str, params: list[Any]) -> None:
        self._calls[method] += 1
        sector_id = _sector_of(params)
        sector = None if sector_id is None else self.book.find(sector_id)
        if sector is not None:
            sector.calls.append(method)

    def _abort_ordered(self, params: list[Any]) -> None:
        sector_id = _sector_of(params)
        sector = None if sector_id is None else self.book.find(sector_id)
        if sector is not None and sector.online:
            self._reports.abort(sector.id, "ordered by a fault rule")

    async def _show_state(self, _http: web.Request) -> web.Response:
        return web.Response(body=msgspec.json.encode(self.state()), content_type="application/json")

    async def _import_sector(self, http: web.Request) -> web.Response:
        if not _from_loopback(http):
            return web.Response(status=403, text="sectors are taken from loopback only")
        try:
            order = parse_import(await http.read())
        except ValueError as error:
            return web.Response(status=400, text=str(error))
        sector = await imported(order, self._options.miner, self._stores)
        self.book.put(sector)
        self._say(f"{sector.id} imported")
        return web.Response(text=str(sector.id))

    async def _order_work(self, http: web.Request) -> web.Response:
        if not _from_loopback(http):
            return web.Response(status=403, text="work is taken from loopback only")
        try:
            self.order(parse_order(await http.read()))
        except ValueError as error:
            return web.Response(status=400, text=str(error))
        return web.Response(text="queued")

    def order(self, order: Order) -> None:
        """Queue a task; :class:`ValueError` when a sector is not there or not sealed."""
        match order:
            case SnapUpOrder(number):
                self.upgrades.candidates.append(self._sealed(number))
            case RebuildOrder(number):
                self.rebuilds.queue.append((self._sealed(number), order))
            case UnsealOrder(number):
                self.unseals.wanted.append(Wanted(self._sealed(number), order))
            case WindowPoStOrder(numbers):
                self.window_posts.put([self._sealed(number) for number in numbers], order)

    def _sealed(self, number: int) -> Sector:
        sector = self.book.find(SectorID(self._options.miner, number))
        if sector is None or sector.pre_commit is None or sector.persisted_in is None:
            raise ValueError(f"sector {number} is not sealed: import it first")
        return sector

    async def _order_faults(self, http: web.Request) -> web.Response:
        if not _from_loopback(http):
            return web.Response(status=403, text="fault rules are taken from loopback only")
        try:
            rules = parse_rules(await http.read())
        except ValueError as error:
            return web.Response(status=400, text=str(error))
        self.faults.add(rules)
        return web.Response(text=f"{len(rules)} rules added")

    async def _clear_faults(self, http: web.Request) -> web.Response:
        if not _from_loopback(http):
            return web.Response(status=403, text="fault rules are taken from loopback only")
        self.faults.clear()
        return web.Response(text="no rules")


def _sector_of(params: list[Any]) -> SectorID | None:
    first = params[0] if params else None
    if isinstance(first, AllocatedSector):
        return first.id
    return first if isinstance(first, SectorID) else None


def _from_loopback(http: web.Request) -> bool:
    return http.remote is not None and ipaddress.ip_address(http.remote).is_loopback


async def _version() -> str:
    return "devnet"


async def _healthcheck(_http: web.Request) -> web.Response:
    return web.Response(body=b'{"status":"OK"}\n', content_type="application/json", charset="utf-8")


async def _no_such_page(_http: web.Request) -> web.Response:
    return web.Response(status=404, text="404 page not found\n")
