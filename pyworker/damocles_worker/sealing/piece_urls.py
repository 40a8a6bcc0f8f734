"""The add_pieces stage of a child: pieces that are given by URL are downloaded while they are added."""

from __future__ import annotations

import contextlib
import os

import msgspec

from damocles_worker import _native
from damocles_worker.errors import WorkerError
from damocles_worker.processors.inprocess import Progress
from damocles_worker.processors.spec import TOKEN_VARIABLE
from damocles_worker.processors.tasks import AddPiecesTask, PieceSource
from damocles_worker.stores.pieces import PieceFile, PieceStore, WantedPiece

#: Between the address of a piece store and the piece's CID.
_STORE = "/piecestore/"


def add_pieces(task: bytes, progress: Progress | None, cancel: _native.Cancel | None) -> bytes:
    """Run the stage; ``{"url": …}`` is fetched from the manager's piece store or where that leads.

    Raises :class:`WorkerError` naming the piece, its URL and what was found there.
    """
    try:
        parsed = msgspec.json.decode(task, type=AddPiecesTask)
    except msgspec.MsgspecError as error:
        raise WorkerError(
            f"this is no add_pieces task: {error}",
            next_step="Check the version of the program that sent it",
        ) from error
    with contextlib.ExitStack() as opened:
        files = _open(parsed.pieces, opened)
        if files is None:
            return _native.add_pieces(task, progress, cancel)
        pieces = [
            msgspec.structs.replace(piece, piece_file=file)
            for piece, file in zip(parsed.pieces, files, strict=True)
        ]
        request = msgspec.json.encode(msgspec.structs.replace(parsed, pieces=pieces))
        return _native.add_pieces(request, progress, cancel)


def _open(pieces: list[PieceSource], opened: contextlib.ExitStack) -> list[PieceFile] | None:
    """What to read instead of each ``piece_file``; None when none of them is a URL.

    Pieces of one origin come through one descriptor, in their order; each origin has its own.
    """
    wanted: dict[str, list[WantedPiece]] = {}
    places: list[str | None] = []
    for piece in pieces:
        url = piece.piece_file.get("url") if isinstance(piece.piece_file, dict) else None
        if url is None:
            places.append(None)
            continue
        origin, cid = _split(str(url))
        wanted.setdefault(origin, []).append(WantedPiece(cid, piece.payload_size))
        places.append(origin)
    if not wanted:
        return None
    token = os.environ.get(TOKEN_VARIABLE)
    streams = {
        origin: iter(opened.enter_context(PieceStore((), origin, token).open(store)))
        for origin, store in wanted.items()
    }
    return [
        piece.piece_file if origin is None else next(streams[origin])
        for piece, origin in zip(pieces, places, strict=True)
    ]


def _split(url: str) -> tuple[str, str]:
    origin, store, cid = url.partition(_STORE)
    if not store or not origin.startswith(("http://", "https://")) or "/" in cid:
        raise WorkerError(
            f"piece URL {url!r} is not understood",
            next_step=f"Expected http(s)://HOST:PORT{_STORE}CID, as a daemon sends it",
        )
    return origin, cid
