"""The worker's own HTTP server: the status page, and JSON-RPC to list, pause, resume, drain and so on.

The first six methods are upstream's, byte for byte what the manager's CLI reads. Ours answer beside
them under the same namespace. Methods that change the daemon's environment answer on loopback only.
``GET /`` is the status page and ``GET /status.json`` the same facts; both only read.
"""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import os
import socket
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import msgspec
from aiohttp import web

from damocles_worker.control import page
from damocles_worker.control.status import StatusReader, thread_json
from damocles_worker.errors import WorkerError
from damocles_worker.instance import bound
from damocles_worker.processors.pool import Pool
from damocles_worker.sealing.plans import PLANS
from damocles_worker.sealing.thread import SealingThread

log = logging.getLogger(__name__)

MAX_BODY = 5 << 20
INVALID_REQUEST = -32600
METHOD_NOT_FOUND = -32601
INVALID_PARAMS = -32602
INTERNAL_ERROR = -32603
PARSE_ERROR = -32700
HISTORY_ROWS = 200


class RpcFault(Exception):
    """An error answer: JSON-RPC code and text."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code


class ControlServer:
    """Serves the sealing threads and the processors of one daemon over HTTP."""

    def __init__(
        self,
        threads: Sequence[SealingThread],
        version: str,
        status: StatusReader,
        processors: Pool | None = None,
    ) -> None:
        self._threads = list(threads)
        self._version = version
        self._status = status
        self._processors = processors
        self._methods: dict[str, Callable[[list[Any]], Awaitable[Any]]] = {
            "WorkerList": self._list,
            "WorkerPause": self._pause,
            "WorkerResume": self._resume,
            "WorkerSetEnv": self._set_env,
            "WorkerRemoveEnv": self._remove_env,
            "WorkerVersion": self._get_version,
            "WorkerHistory": self._history,
            "WorkerDrain": self._drain,
            "WorkerProcessors": self._list_processors,
        }
        self._runner: web.AppRunner | None = None

    @staticmethod
    def bind(host: str, port: int) -> socket.socket:
        """Take an address for :meth:`start`.

        :raises WorkerError: it can't be used.
        """
        try:
            return bound(host, port)
        except OSError as error:
            raise _unusable(f"{host}:{port}", error) from error

    async def start(self, host: str, port: int, taken: socket.socket | None = None) -> int:
        """Listen, where :meth:`bind` has ``taken`` the address if that was called; answers the port.

        :raises WorkerError: the address can't be used.
        """
        address = taken or self.bind(host, port)
        app = web.Application(client_max_size=MAX_BODY)
        app.router.add_get("/", self._page)
        app.router.add_get("/status.json", self._status_json)
        app.router.add_route("*", "/{path:.*}", self._handle)
        self._runner = web.AppRunner(app, access_log=None)
        await self._runner.setup()
        try:
            await web.SockSite(self._runner, address).start()
        except OSError as error:
            raise _unusable(f"{host}:{port}", error) from error
        found: int = self._runner.addresses[0][1]
        return found

    async def stop(self) -> None:
        """Close the listening socket and the open connections."""
        if self._runner:
            await self._runner.cleanup()

    # ---- for people -----------------------------------------------------------------------------

    async def _page(self, _request: web.Request) -> web.Response:
        text = page.render(await self._status.read())
        return web.Response(text=text, content_type="text/html", headers=page.HEADERS)

    async def _status_json(self, _request: web.Request) -> web.Response:
        answer = _reply(await self._status.read())
        answer.headers.update(page.HEADERS)
        return answer

    # ---- the wire -------------------------------------------------------------------------------

    async def _handle(self, request: web.Request) -> web.Response:
        if request.method != "POST":
            return web.Response(status=405, text="Used HTTP Method is not allowed. POST is required\n")
        if request.content_type != "application/json":
            return web.Response(status=415, text="Content-Type: application/json is required\n")
        try:
            body = msgspec.json.decode(await request.read())
        except (msgspec.MsgspecError, RecursionError) as error:
            return _reply(_error(None, PARSE_ERROR, f"Parse error: {error}"))
        local = _is_loopback(request.remote)
        if isinstance(body, list) and body:
            answers = [await self._answer(item, local) for item in body]
            return _reply([answer for answer in answers if answer is not None])
        answer = await self._answer(body, local)
        return _reply(answer) if answer is not None else web.Response(status=200)

    async def _answer(self, body: Any, local: bool) -> dict[str, Any] | None:
        if not isinstance(body, dict) or not isinstance(body.get("method"), str):
            return _error(
                None, INVALID_REQUEST, "Invalid request: an object with method, params and id is expected"
            )
        identity = body.get("id")
        try:
            result = await self._call(body["method"], body.get("params"), local)
        except RpcFault as fault:
            answer = _error(identity, fault.code, str(fault))
        except Exception as error:
            log.error("control call %s failed", body["method"], exc_info=error)
            answer = _error(identity, INTERNAL_ERROR, f"{type(error).__name__}: {error}")
        else:
            answer = {"jsonrpc": "2.0", "result": result, "id": identity}
        return answer if "id" in body else None

    async def _call(self, method: str, params: Any, local: bool) -> Any:
        name = method.removeprefix("VenusWorker.")
        if name == method or name not in self._methods:
            known = ", ".join(f"VenusWorker.{known}" for known in self._methods)
            raise RpcFault(METHOD_NOT_FOUND, f"Method not found: {method} (known: {known})")
        if name in ("WorkerSetEnv", "WorkerRemoveEnv") and not local:
            raise RpcFault(INVALID_REQUEST, f"{method} is answered on a loopback connection only")
        if params is None:
            params = []
        if not isinstance(params, list):
            raise RpcFault(INVALID_PARAMS, "Invalid params: an array is expected")
        return await self._methods[name](params)

    # ---- methods --------------------------------------------------------------------------------

    def _thread(self, params: list[Any]) -> SealingThread:
        index = params[0] if params else None
        if not isinstance(index, int) or isinstance(index, bool):
            raise RpcFault(INVALID_PARAMS, f"Invalid params: a thread index is expected, found {index!r}")
        for thread in self._threads:
            if thread.config.index == index:
                return thread
        raise RpcFault(INVALID_PARAMS, f"worker #{index} not found")

    async def _list(self, _params: list[Any]) -> list[dict[str, Any]]:
        return [thread_json(thread.info()) for thread in self._threads]

    async def _pause(self, params: list[Any]) -> bool:
        return self._thread(params).pause()

    async def _resume(self, params: list[Any]) -> bool:
        thread = self._thread(params)
        state = params[1] if len(params) > 1 else None
        if state is not None and not isinstance(state, str):
            raise RpcFault(
                INVALID_PARAMS, f"Invalid params: a state name or null is expected, found {state!r}"
            )
        refused = thread.resume(state)
        if refused and state is not None:
            if thread.info().state == "Paused":
                raise RpcFault(INVALID_PARAMS, refused)
            # A thread that is not paused has nothing to resume, which is no error; a state of no plan is.
            if not any(state in plan.states for plan in PLANS.values()):
                raise RpcFault(INVALID_PARAMS, f"unknown state {state}: no plan has it")
        return refused is None

    async def _drain(self, _params: list[Any]) -> list[dict[str, Any]]:
        """Ours: all threads finish what they have and take nothing new; answers those that have something."""
        busy = [thread_json(info) for thread in self._threads if (info := thread.info()).job_id]
        for thread in self._threads:
            thread.drain()
        return busy

    async def _set_env(self, params: list[Any]) -> None:
        name = _env_name(params)
        value = params[1] if len(params) > 1 else None
        if not isinstance(value, str) or "\0" in value:
            raise RpcFault(
                INVALID_PARAMS, f"Invalid params: the value of {name} must be a string without NUL"
            )
        os.environ[self._variable(name)] = value

    async def _remove_env(self, params: list[Any]) -> None:
        os.environ.pop(self._variable(_env_name(params)), None)

    def _variable(self, name: str) -> str:
        """``DUMP_ERR_RESP_<pid>`` of a child that has been started again means the present one."""
        return self._processors.dump_variable(name) if self._processors else name

    async def _get_version(self, _params: list[Any]) -> str:
        return self._version

    async def _history(self, params: list[Any]) -> list[dict[str, Any]]:
        """Ours: the newest rows of a thread's history, oldest first. Params: index, number of rows."""
        thread = self._thread(params)
        limit = params[1] if len(params) > 1 and isinstance(params[1], int) else HISTORY_ROWS
        rows = await asyncio.to_thread(thread.history, limit)
        return [msgspec.to_builtins(row) for row in rows]

    async def _list_processors(self, _params: list[Any]) -> list[dict[str, Any]]:
        """Ours: the external processors, in the order they were started."""
        return (
            [msgspec.to_builtins(status) for status in self._processors.status()] if self._processors else []
        )


def _env_name(params: list[Any]) -> str:
    name = params[0] if params else None
    if not isinstance(name, str) or not name or "=" in name or "\0" in name:
        raise RpcFault(
            INVALID_PARAMS, f"Invalid params: a variable name without = and NUL is expected, found {name!r}"
        )
    return name


def _unusable(place: str, error: OSError) -> WorkerError:
    return WorkerError(
        f"the control port {place} can't be opened: {error.strerror or error}",
        next_step="Stop the program that uses it, or set another [worker] rpc_server.host or port",
    )


def _is_loopback(remote: str | None) -> bool:
    try:
        return remote is not None and ipaddress.ip_address(remote).is_loopback
    except ValueError:
        return False


def _error(identity: Any, code: int, message: str) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "error": {"code": code, "message": message}, "id": identity}


def _reply(answer: Any) -> web.Response:
    return web.Response(body=msgspec.json.encode(answer), content_type="application/json")
