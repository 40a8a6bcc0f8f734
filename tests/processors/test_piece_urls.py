"""The add_pieces child fetches pieces by URL; the commitments are those of local files."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from damocles_worker import _native
from damocles_worker.errors import WorkerError
from damocles_worker.processors.spec import ChildSpec
from damocles_worker.sealing.piece_urls import add_pieces
from damocles_worker.stores.pieces import PieceStore, WantedPiece
from tests.processors.support import pool, run

DATA = {"one": b"\x01" * 900, "two": b"\x02" * 1016}


@contextlib.contextmanager
def piece_store(token: str = "") -> Iterator[str]:
    """A manager's piece store that leads to a market, which wants ``token``; answers its address."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            _, place, cid = self.path.split("/")
            if place == "piecestore":
                self.send_response(302)
                self.send_header("Location", f"/market/{cid}")
                self.end_headers()
            elif token and self.headers.get("Authorization") != f"Bearer {token}":
                self.send_error(401)
            elif cid in DATA:
                self.send_response(200)
                self.send_header("Content-Length", str(len(DATA[cid])))
                self.end_headers()
                self.wfile.write(DATA[cid])
            else:
                self.send_error(404)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()


def task(directory: Path, *files: object) -> bytes:
    pieces = [
        {"piece_file": file, "payload_size": size, "piece_size": 1016}
        for file, size in zip(files, (900, 1016), strict=True)
    ]
    return json.dumps(
        {
            "seal_proof_type": "StackedDrg2KiBV1_1",
            "pieces": pieces,
            "staged_filepath": str(directory / "staged"),
        }
    ).encode()


def expected(directory: Path) -> bytes:
    for name, data in DATA.items():
        (directory / name).write_bytes(data)
    return _native.add_pieces(task(directory, *({"local": str(directory / name)} for name in DATA)))


def test_pieces_of_two_origins_and_a_local_one(tmp_path: Path) -> None:
    wanted = expected(tmp_path)
    with piece_store() as first, piece_store() as second:
        urls = {"url": f"{first}/piecestore/one"}, {"url": f"{second}/piecestore/two"}
        assert add_pieces(task(tmp_path, *urls), None, None) == wanted
        mixed = {"local": str(tmp_path / "one")}, {"url": f"{first}/piecestore/two"}
        assert add_pieces(task(tmp_path, *mixed), None, None) == wanted


def test_child_gets_the_token_by_its_environment(tmp_path: Path) -> None:
    wanted = expected(tmp_path)

    async def main(origin: str) -> None:
        urls = [{"url": f"{origin}/piecestore/{name}"} for name in DATA]
        specs = [
            ChildSpec(
                "add_pieces", 0, stable_wait=30.0, envs={"PIECE_FETCHER_TOKEN": "open-sesame"}, concurrent=1
            ),
        ]
        async with pool(*specs) as running:
            assert await running.run("add_pieces", task(tmp_path, *urls)) == wanted
            lost = [{"url": f"{origin}/piecestore/{name}"} for name in ("one", "none")]
            with pytest.raises(WorkerError, match="404") as caught:
                await running.run("add_pieces", task(tmp_path, *lost))
            assert caught.value.waits_for == "piece none", "our own child says what it waits for"

    with piece_store("open-sesame") as origin:
        run(main(origin))


def test_daemon_names_urls_to_children_that_download(tmp_path: Path) -> None:
    wanted = expected(tmp_path)
    pieces = [WantedPiece("one", 900), WantedPiece("two", 1016)]
    with piece_store() as origin:
        (tmp_path / "two").unlink()
        files = PieceStore([tmp_path], origin).locate(pieces)
        assert files == [{"local": str(tmp_path / "one")}, {"url": f"{origin}/piecestore/two"}]
        assert add_pieces(task(tmp_path, *files), None, None) == wanted
    assert PieceStore([tmp_path], None).locate([None]) == ["pledge"]
    with pytest.raises(WorkerError, match="piece two is in none of the local piece directories"):
        PieceStore([tmp_path], None).locate(pieces)


@pytest.mark.parametrize(
    "url", ["ftp://host/piecestore/x", "http://host/x", "http://host/piecestore/x/y", ""]
)
def test_url_that_is_not_understood(tmp_path: Path, url: str) -> None:
    with pytest.raises(WorkerError, match=r"piece URL .* is not understood"):
        add_pieces(task(tmp_path, "pledge", {"url": url}), None, None)


def test_what_is_no_task_is_named() -> None:
    with pytest.raises(WorkerError, match="no add_pieces task"):
        add_pieces(b"{}", None, None)
