"""Serves the metrics over HTTP: any method, any path, as the Rust worker does."""

from __future__ import annotations

import logging
import socket
from collections.abc import Awaitable, Callable

from aiohttp import web

from damocles_worker.errors import WorkerError
from damocles_worker.instance import bound

log = logging.getLogger(__name__)

#: Prometheus 3 refuses an answer without a type it knows.
_CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class Exporter:
    """An HTTP server around a function that answers the text of all metrics."""

    def __init__(self, text: Callable[[], Awaitable[str]]) -> None:
        self._text = text
        self._runner: web.AppRunner | None = None

    @staticmethod
    def bind(listen: str) -> socket.socket:
        """Take the address ``IP:port`` for :meth:`start`.

        :raises WorkerError: it can't be used.
        """
        host, _, port = listen.rpartition(":")
        try:
            return bound(host.strip("[]"), int(port))
        except OSError as error:
            raise _unusable(listen, error) from error

    async def start(self, listen: str, taken: socket.socket | None = None) -> int:
        """Listen on ``IP:port``, where :meth:`bind` has ``taken`` it if that was called; answers the port.

        :raises WorkerError: the address can't be used.
        """
        address = taken or self.bind(listen)
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self._handle)
        self._runner = web.AppRunner(app, access_log=None)
        await self._runner.setup()
        try:
            await web.SockSite(self._runner, address).start()
        except OSError as error:
            await self.stop()
            raise _unusable(listen, error) from error
        port: int = self._runner.addresses[0][1]
        return port

    async def stop(self) -> None:
        """Close the listening socket and the open connections."""
        if self._runner is not None:
            await self._runner.cleanup()

    async def _handle(self, _request: web.Request) -> web.Response:
        body = (await self._text()).encode()
        return web.Response(body=body, headers={"Content-Type": _CONTENT_TYPE})


def _unusable(listen: str, error: OSError) -> WorkerError:
    return WorkerError(
        f"the metrics port {listen} can't be opened: {error.strerror or error}",
        next_step="Stop the program that uses it, or set another [metrics] http_listen",
    )
