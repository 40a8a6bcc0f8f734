"""Piece data over HTTP, from the manager's own path or, after a redirect, from the market's."""

from __future__ import annotations

import asyncio
from pathlib import Path
from urllib.parse import quote

from aiohttp import web

from damocles_worker.cid import parse_cid
from damocles_worker.devnet.faults import Action, Faults
from damocles_worker.devnet.misbehave import before_answering
from damocles_worker.devnet.options import Options
from damocles_worker.devnet.proofs import Proofs
from damocles_worker.devnet.unseals import commitment_of

#: Under this name fault rules find piece requests.
METHOD = "piecestore"
_CHUNK = 1 << 18


class PieceServer:
    """``/piecestore/<cid>`` as the manager serves it and ``/resource`` as the market does.

    The CID of each piece that was uploaded whole is appended to ``uploaded``.
    """

    def __init__(
        self, options: Options, data_dir: Path, faults: Faults, proofs: Proofs, uploaded: list[str]
    ) -> None:
        self._proofs = proofs
        self._uploaded = uploaded
        self._redirect = options.piece_redirect
        self._token = options.piece_token
        self._data_dir = data_dir
        self._faults = faults

    def routes(self) -> list[web.RouteDef]:
        return [
            web.get("/piecestore/{cid}", self._piecestore),
            web.put("/piecestore/{cid}", self._put_piecestore),
            web.get("/resource", self._resource, allow_head=False),
            web.put("/resource", self._put_resource),
        ]

    async def _piecestore(self, request: web.Request) -> web.StreamResponse:
        """200 in chunks without a length and without ranges; 302 to the market in redirect mode."""
        rule = self._faults.fire(METHOD)
        if rule is not None:
            misbehaved = await before_answering(rule, request)
            if misbehaved is not None:
                return misbehaved
        cid = request.match_info["cid"].removesuffix(".car")
        try:
            parse_cid(cid)
        except ValueError as error:
            return web.Response(status=400, text=str(error))
        if self._redirect:
            return web.Response(status=302, headers={"Location": f"/resource?resource-id={quote(cid)}"})
        path = self._data_dir / cid
        if not path.is_file():
            return web.Response(status=404, text=f"no piece {cid}")
        half = rule is not None and rule.action is Action.TRUNCATE
        return await _stream(request, path, path.stat().st_size // 2 if half else None)

    async def _resource(self, request: web.Request) -> web.StreamResponse:
        """200 or 206 with a length; 401 without the token if there is one."""
        if self._token is not None and request.headers.get("Authorization") != f"Bearer {self._token}":
            return web.Response(status=401, text="a bearer token is required")
        cid = request.query.get("resource-id", "")
        try:
            parse_cid(cid)
        except ValueError as error:
            return web.Response(status=400, text=str(error))
        path = self._data_dir / cid
        if not path.is_file():
            return web.Response(status=404, text=f"no piece {cid}")
        return web.FileResponse(path, headers={"Content-Type": "application/octet-stream"})

    async def _put_piecestore(self, request: web.Request) -> web.Response:
        rule = self._faults.fire(METHOD)
        if rule is not None:
            misbehaved = await before_answering(rule, request)
            if misbehaved is not None:
                return misbehaved
        return await self._receive(request, request.match_info["cid"])

    async def _put_resource(self, request: web.Request) -> web.Response:
        if self._token is not None and request.headers.get("Authorization") != f"Bearer {self._token}":
            return web.Response(status=401, text="a bearer token is required")
        return await self._receive(request, request.query.get("resource-id", ""))

    async def _receive(self, request: web.Request, cid: str) -> web.Response:
        """Keep an uploaded piece if its bytes are those of its CID; without a length there is no room."""
        if request.content_length is None:
            return web.Response(status=500, text="no piece store available")
        try:
            parse_cid(cid)
        except ValueError as error:
            return web.Response(status=400, text=str(error))
        partial = self._data_dir / f"{cid}.upload"
        with partial.open("wb") as file:
            async for chunk in request.content.iter_chunked(_CHUNK):
                file.write(chunk)
        found = await asyncio.to_thread(commitment_of, self._proofs, partial)
        if found != cid:
            partial.unlink()
            return web.Response(status=400, text=f"these bytes are the piece {found}")
        partial.rename(self._data_dir / f"{cid}.uploaded")
        self._uploaded.append(cid)
        return web.Response()


async def _stream(request: web.Request, path: Path, cut_at: int | None) -> web.StreamResponse:
    """Send a file in chunks; with ``cut_at`` the connection breaks after so many bytes."""
    response = web.StreamResponse(headers={"Content-Type": "application/octet-stream"})
    response.enable_chunked_encoding()
    await response.prepare(request)
    left = path.stat().st_size if cut_at is None else cut_at
    with path.open("rb") as file:
        while left and (chunk := file.read(min(_CHUNK, left))):
            await response.write(chunk)
            left -= len(chunk)
    if cut_at is not None and request.transport is not None:
        request.transport.abort()
    return response
