"""Piece data: local files, the manager, the market behind it, and connections that break."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import termios
import threading
import time
from pathlib import Path

import pytest

from damocles_worker import _native
from damocles_worker.errors import WorkerError
from damocles_worker.stores import download
from damocles_worker.stores.pieces import PieceFile, PieceStore, WantedPiece
from tests.unit.stores.servers import broken, chunked, ranged, serving, stalled, status, whole

CID = "baga6ea4seaqao7s73y24kcutaosvacpdjgfe5pw76ooefnyqw4ynr3d2y6x2mpq"
CONTENT = os.urandom(400_000)
PIECE = WantedPiece(CID, len(CONTENT))


@pytest.fixture(autouse=True)
def no_backoff(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "BACKOFF", 0.0)


def read(file: PieceFile, size: int) -> bytes:
    """What a stage does: exactly the payload, from the descriptor."""
    assert isinstance(file, dict)
    descriptor = int(file["fd"])
    content = b""
    while len(content) < size:
        part = os.read(descriptor, size - len(content))
        if not part:
            raise _native.StageError(f"ends after {len(content)} bytes")
        content += part
    return content


def fetch(origin: str, piece: WantedPiece = PIECE, token: str | None = None) -> bytes:
    with PieceStore([], origin, token).open([piece]) as (file,):
        return read(file, piece.payload_size)


def open_files() -> set[Path]:
    """What the descriptors of this process point at."""
    found = set()
    for descriptor in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):
            found.add(descriptor.readlink())
    return found


def _waiting(descriptor: int, *, after: float = 0.0) -> int:
    """Bytes that can be read from a pipe, ``after`` seconds."""
    time.sleep(after)
    return int.from_bytes(fcntl.ioctl(descriptor, termios.FIONREAD, bytes(4)), "little")


class TestLocal:
    def test_order(self, tmp_path: Path) -> None:
        one, two = tmp_path / "one", tmp_path / "two"
        one.mkdir()
        two.mkdir()
        store = PieceStore([one, str(two)], None)
        piece = WantedPiece(CID, 4)
        for path in (two / f"{CID}.car", two / CID, one / f"{CID}.car", one / CID):
            path.write_bytes(b"data")
            with store.open([piece]) as files:
                assert files == [{"local": str(path)}]

    def test_only_regular_files(self, tmp_path: Path) -> None:
        (tmp_path / CID).mkdir()
        (tmp_path / f"{CID}.car").symlink_to(tmp_path / "data")
        (tmp_path / "data").write_bytes(b"data")
        with PieceStore([tmp_path], None).open([WantedPiece(CID, 4)]) as files:
            assert files == [{"local": str(tmp_path / f"{CID}.car")}]

    def test_too_short_file_is_named(self, tmp_path: Path) -> None:
        (tmp_path / CID).write_bytes(b"dat")
        with (
            pytest.raises(WorkerError, match=f"{tmp_path / CID} has 3 bytes, the deal's payload 4"),
            PieceStore([tmp_path], None).open([WantedPiece(CID, 4)]),
        ):
            pass

    def test_nowhere(self, tmp_path: Path) -> None:
        with (
            pytest.raises(WorkerError, match=f"local piece directories \\({tmp_path}\\)") as caught,
            PieceStore([tmp_path], None).open([PIECE]),
        ):
            pass
        assert caught.value.waits_for == f"piece {CID}"

    @pytest.mark.parametrize("cid", ["", "../../etc/passwd", "a/b", "a b"])
    def test_name_that_is_no_cid(self, tmp_path: Path, cid: str) -> None:
        with (
            pytest.raises(WorkerError, match="no piece CID"),
            PieceStore([tmp_path], None).open([WantedPiece(cid, 1)]),
        ):
            pass

    def test_pledges_need_nothing(self) -> None:
        with PieceStore([], None).open([None, None]) as files:
            assert files == ["pledge", "pledge"]


class TestManager:
    @pytest.mark.parametrize("answer", [whole, chunked, ranged])
    def test_content(self, answer: object) -> None:
        assert callable(answer)
        with serving(answer(CONTENT)) as manager:
            assert fetch(manager.origin, token="secret") == CONTENT
            (request,) = manager.requests
        assert request.path == f"/piecestore/{CID}"
        assert "authorization" not in request.headers
        assert "range" not in request.headers

    @pytest.mark.parametrize("answer", [whole, chunked])
    def test_more_than_the_pipe_holds(self, answer: object) -> None:
        """The reader comes when the pipe is full, and once more when a connection has broken."""
        assert callable(answer)
        content = os.urandom(8 << 20)
        parts = broken(content[: 3 << 20], len(content)), answer(content)
        with (
            serving(*parts) as manager,
            PieceStore([], manager.origin).open([WantedPiece(CID, len(content))]) as (file,),
        ):
            assert isinstance(file, dict)
            descriptor = int(file["fd"])
            while (waiting := _waiting(descriptor)) == 0 or waiting != _waiting(descriptor, after=0.1):
                pass
            assert read(file, len(content)) == content

    def test_only_the_payload_is_taken(self) -> None:
        with serving(whole(CONTENT + b"more")) as manager:
            assert fetch(manager.origin) == CONTENT

    def test_local_first(self, tmp_path: Path) -> None:
        (tmp_path / CID).write_bytes(CONTENT)
        with serving(status(500)) as manager, PieceStore([tmp_path], manager.origin).open([PIECE]) as files:
            assert files == [{"local": str(tmp_path / CID)}]
        assert manager.requests == []

    def test_missing_piece_is_waited_for(self) -> None:
        with serving(status(404)) as manager, pytest.raises(WorkerError, match="404 Not Found") as caught:
            fetch(manager.origin)
        assert f"{manager.origin}/piecestore/{CID}" in caught.value.cause
        assert caught.value.waits_for == f"piece {CID}"
        assert len(manager.requests) == 1

    @pytest.mark.parametrize("code", [500, 502, 503])
    def test_passing_failures_are_tried_again(self, code: int) -> None:
        with serving(status(code), status(code), whole(CONTENT)) as manager:
            assert fetch(manager.origin) == CONTENT

    def test_lasting_failure(self) -> None:
        with serving(status(500)) as manager, pytest.raises(WorkerError, match="500 Internal") as caught:
            fetch(manager.origin)
        assert f"0 of {len(CONTENT)} bytes" in caught.value.cause
        assert caught.value.waits_for == f"piece {CID}"
        assert len(manager.requests) == download.ATTEMPTS

    def test_nobody_listens(self) -> None:
        with serving(status(200)) as manager:
            origin = manager.origin
        with pytest.raises(WorkerError, match="can't connect to") as caught:
            fetch(origin)
        assert caught.value.waits_for == f"piece {CID}"

    @pytest.mark.parametrize(
        ("code", "next_step"), [(400, "Expected 200"), (401, "piece_token"), (403, "piece_token")]
    )
    def test_refusals(self, code: int, next_step: str) -> None:
        with serving(status(code)) as manager, pytest.raises(WorkerError, match=f"answered {code}") as caught:
            fetch(manager.origin)
        assert next_step in caught.value.next_step
        assert caught.value.waits_for is None

    @pytest.mark.parametrize("answer", [whole, chunked])
    def test_source_is_too_short(self, answer: object) -> None:
        assert callable(answer)
        with (
            serving(answer(CONTENT[:-1])) as manager,
            pytest.raises(WorkerError, match="has 399999 bytes") as caught,
        ):
            fetch(manager.origin)
        assert "400000" in caught.value.cause
        assert caught.value.waits_for is None
        assert len(manager.requests) == 1


class TestMarket:
    def test_redirect_carries_the_token(self) -> None:
        with (
            serving(whole(CONTENT)) as market,
            serving(status(302, Location=f"{market.origin}/resource?resource-id={CID}")) as manager,
        ):
            assert fetch(manager.origin, token="secret") == CONTENT
            (request,) = market.requests
        assert request.path == f"/resource?resource-id={CID}"
        assert request.headers["authorization"] == "Bearer secret"
        assert request.headers["x-venus-api-namespace"] == "v1.IMarket"

    def test_no_token_no_headers(self) -> None:
        with serving(whole(CONTENT)) as market, serving(status(302, Location=market.origin)) as manager:
            assert fetch(manager.origin) == CONTENT
            assert "x-venus-api-namespace" not in market.requests[0].headers

    def test_relative_redirect(self) -> None:
        with serving(status(307, Location="/other?x=1"), whole(CONTENT)) as manager:
            assert fetch(manager.origin, token="secret") == CONTENT
            assert manager.requests[1].path == "/other?x=1"
            assert manager.requests[1].headers["authorization"] == "Bearer secret"

    def test_token_is_not_given_to_a_third_host(self) -> None:
        with (
            serving(whole(CONTENT)) as bucket,
            serving(status(302, Location=f"{bucket.origin}/object?signature=s3cret")) as market,
            serving(status(302, Location=market.origin)) as manager,
        ):
            assert fetch(manager.origin, token="secret") == CONTENT
            assert "authorization" in market.requests[0].headers
            assert "authorization" not in bucket.requests[0].headers

    def test_signature_is_not_shown(self) -> None:
        with (
            serving(status(404)) as bucket,
            serving(status(302, Location=f"{bucket.origin}/object?signature=s3cret")) as manager,
            pytest.raises(WorkerError, match="/object answered 404") as caught,
        ):
            fetch(manager.origin)
        assert "s3cret" not in str(caught.value)

    def test_redirects_in_a_circle(self) -> None:
        with (
            serving(status(302, Location="/again")) as manager,
            pytest.raises(WorkerError, match="redirected more than 10 times"),
        ):
            fetch(manager.origin)

    @pytest.mark.parametrize("target", ["file:///etc/passwd", "ftp://host/x"])
    def test_redirect_to_another_scheme(self, target: str) -> None:
        with (
            serving(status(302, Location=target)) as manager,
            pytest.raises(WorkerError, match="redirects to"),
        ):
            fetch(manager.origin)


class TestBrokenConnections:
    def test_resumed_with_a_range(self) -> None:
        answers = (broken(CONTENT[:150_000], len(CONTENT)), ranged(CONTENT))
        with serving(*answers) as manager:
            assert fetch(manager.origin) == CONTENT
            assert manager.requests[1].headers["range"] == "bytes=150000-"

    @pytest.mark.parametrize("answer", [whole, chunked])
    def test_resumed_without_ranges(self, answer: object) -> None:
        assert callable(answer)
        with serving(chunked(CONTENT[:150_000], cut=True), answer(CONTENT)) as manager:
            assert fetch(manager.origin) == CONTENT

    def test_progress_renews_the_attempts(self) -> None:
        parts = [broken(CONTENT[: 20_000 * count], len(CONTENT)) for count in range(1, 3 * download.ATTEMPTS)]
        with serving(*parts, whole(CONTENT)) as manager:
            assert fetch(manager.origin) == CONTENT

    def test_an_outage_does_not_throw_away_what_has_come(self) -> None:
        """A market that restarted for half a minute cost 31 of 32 GiB."""
        outage = [status(502)] * 3 * download.ATTEMPTS
        with serving(broken(CONTENT[:150_000], len(CONTENT)), *outage, ranged(CONTENT)) as manager:
            assert fetch(manager.origin) == CONTENT
            assert manager.requests[-1].first_byte == 150_000

    def test_an_outage_does_not_throw_away_the_pieces_before(self) -> None:
        outage = [status(502)] * 3 * download.ATTEMPTS
        with (
            serving(status(502), whole(CONTENT), *outage, whole(CONTENT)) as manager,
            PieceStore([], manager.origin).open([PIECE, PIECE]) as files,
        ):
            assert [read(file, len(CONTENT)) for file in files] == [CONTENT] * 2

    def test_a_piece_that_is_not_there_yet_costs_no_download_of_the_others(self) -> None:
        """Until somebody imported the second piece, the first was downloaded every minute."""
        with (
            serving(status(302, Location="/market"), status(404), whole(CONTENT)) as manager,
            pytest.raises(WorkerError, match="404 Not Found") as caught,
            PieceStore([], manager.origin).open([PIECE, WantedPiece("absent", 127)]) as (file, _),
        ):
            read(file, len(CONTENT))
        assert caught.value.waits_for == "piece absent"
        assert [request.path for request in manager.requests] == ["/piecestore/absent", "/market"]

    def test_no_progress_ends_it(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(download, "PATIENCE", 0.0)
        with (
            serving(broken(CONTENT[:150_000], len(CONTENT))) as manager,
            pytest.raises(WorkerError, match="150000 of 400000 bytes") as caught,
        ):
            fetch(manager.origin)
        assert "broke off at byte 150000" in caught.value.cause
        assert caught.value.waits_for == f"piece {CID}"
        assert len(manager.requests) == download.ATTEMPTS

    def test_wrong_range_is_refused(self) -> None:
        wrong = status(206, **{"Content-Range": "bytes 7-399999/400000"})
        with (
            serving(broken(CONTENT[:150_000], len(CONTENT)), wrong) as manager,
            pytest.raises(WorkerError, match="bytes 7-399999/400000"),
        ):
            fetch(manager.origin)

    def test_source_shrank_meanwhile(self) -> None:
        with (
            serving(broken(CONTENT[:150_000], len(CONTENT)), status(416)) as manager,
            pytest.raises(WorkerError, match="has no byte 150000 of the 400000"),
        ):
            fetch(manager.origin)

    def test_silence_counts_as_broken(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(download, "READ_TIMEOUT", 0.05)
        release = threading.Event()
        with serving(stalled(CONTENT[:150_000], release), ranged(CONTENT)) as manager:
            try:
                assert fetch(manager.origin) == CONTENT
            finally:
                release.set()


class TestContext:
    def test_many_pieces_through_one_descriptor(self, tmp_path: Path) -> None:
        (tmp_path / "local").write_bytes(b"here")
        wanted = [WantedPiece("first", 100_000), None, WantedPiece("local", 4), WantedPiece("second", 50_000)]
        second = chunked(CONTENT[100_000:])
        with serving(second, whole(CONTENT[:100_000]), second) as manager:
            with PieceStore([tmp_path], manager.origin).open(wanted) as files:
                assert files[0] == files[3]
                assert files[1:3] == ["pledge", {"local": str(tmp_path / "local")}]
                assert read(files[0], 100_000) + read(files[3], 50_000) == CONTENT[:150_000]
            paths = [request.path.rpartition("/")[2] for request in manager.requests]
            assert paths == ["second", "first", "second"]

    def test_add_pieces_reads_it(self, tmp_path: Path) -> None:
        """The stage gets the same commitments from the pipe as from files."""
        payloads = {"first": os.urandom(400), "second": os.urandom(127)}
        wanted = [WantedPiece("first", 400), None, WantedPiece("second", 127)]
        sizes = [1016, 508, 508]

        def commitments(store: PieceStore) -> object:
            with store.open(wanted) as files:
                pieces = [
                    {
                        "piece_file": file,
                        "payload_size": piece.payload_size if piece else size,
                        "piece_size": size,
                    }
                    for file, piece, size in zip(files, wanted, sizes, strict=True)
                ]
                task = {
                    "seal_proof_type": "StackedDrg2KiBV1_1",
                    "pieces": pieces,
                    "staged_filepath": str(tmp_path / "staged"),
                }
                return json.loads(_native.add_pieces(json.dumps(task).encode()))

        for name, payload in payloads.items():
            (tmp_path / name).write_bytes(payload)
        second = chunked(payloads["second"])
        with serving(second, whole(payloads["first"]), second) as manager:
            assert commitments(PieceStore([], manager.origin)) == commitments(PieceStore([tmp_path], None))

    def test_pipe_is_closed_afterwards(self) -> None:
        with serving(whole(CONTENT)) as manager, PieceStore([], manager.origin).open([PIECE]) as (file,):
            assert isinstance(file, dict)
            pipe = Path(f"/proc/self/fd/{file['fd']}").readlink()
            assert pipe in open_files()
        assert pipe not in open_files()

    def test_reader_that_fails_keeps_its_own_error(self) -> None:
        with (
            serving(whole(CONTENT)) as manager,
            pytest.raises(RuntimeError, match="disk"),
            PieceStore([], manager.origin).open([PIECE]),
        ):
            raise RuntimeError("disk")

    def test_leaving_a_stalled_download(self) -> None:
        """A pause or a stop must not wait for a silent server."""
        release = threading.Event()
        with serving(stalled(CONTENT[:1000], release)) as manager:
            try:
                with PieceStore([], manager.origin).open([PIECE]) as (file,):
                    assert read(file, 1000) == CONTENT[:1000]
                assert not any(thread.name == "pieces" for thread in threading.enumerate())
            finally:
                release.set()

    def test_leaving_with_a_full_pipe(self) -> None:
        content = os.urandom(8 << 20)
        with serving(whole(content)) as manager:
            with PieceStore([], manager.origin).open([WantedPiece(CID, len(content))]) as (file,):
                assert read(file, 1000) == content[:1000]
            assert not any(thread.name == "pieces" for thread in threading.enumerate())
