"""Uploads of unsealed pieces: every kind of destination, and every way in which one can fail."""

from __future__ import annotations

import errno
import io
import os
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from damocles_worker.errors import Level, WorkerError
from damocles_worker.stores import upload
from damocles_worker.stores.attached import AttachedStore
from damocles_worker.stores.pump import CopyCancelledError
from damocles_worker.stores.upload import BUFFER, Uploader

CID = "baga6ea4seaqakcalbyirify2duqcgjrjfqxtenjyhm7ecrchjjgvau2wlfof6hy"
DATA = bytes(range(256)) * (3 * BUFFER // 256) + b"end"


class Received:
    """What a server was sent."""

    def __init__(self, status: int) -> None:
        self.status = status
        self.path = ""
        self.headers: dict[str, str] = {}
        self.body = b""


@contextmanager
def server(status: int = 200, tls: Path | None = None) -> Iterator[tuple[str, Received]]:
    """A server that takes PUTs and answers ``status``; its origin and what it received."""
    received = Received(status)

    class Handler(BaseHTTPRequestHandler):
        def do_PUT(self) -> None:
            received.path, received.headers = self.path, dict(self.headers)
            received.body = self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(status)
            self.end_headers()
            self.wfile.write(b"no room\nat all")

        def log_message(self, *_arguments: Any) -> None:
            pass

    httpd = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    if tls is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(tls)
        httpd.socket = context.wrap_socket(httpd.socket, server_side=True)
    thread = threading.Thread(target=httpd.serve_forever)
    thread.start()
    try:
        yield f"{'https' if tls else 'http'}://127.0.0.1:{httpd.server_address[1]}", received
    finally:
        httpd.shutdown()
        thread.join()
        httpd.server_close()


@pytest.fixture
def piece(tmp_path: Path) -> Path:
    path = tmp_path / CID
    path.write_bytes(DATA)
    return path


def uploader(origin: str = "http://127.0.0.1:9", **stores: Path) -> Uploader:
    attached = {
        name: AttachedStore.at(root, name, readonly=name.startswith("readonly"))
        for name, root in stores.items()
    }
    return Uploader(origin, attached)


def test_http_is_a_put_with_a_length_and_without_credentials(piece: Path) -> None:
    with server(201) as (origin, received):
        seen: list[tuple[int, int]] = []
        uploader().upload(
            piece, CID, f"{origin}/a%20b?x=1", progress=lambda done, total: seen.append((done, total))
        )
        assert received.body == DATA and received.path == "/a%20b?x=1"
        assert received.headers["Content-Length"] == str(len(DATA))
        assert "Authorization" not in received.headers and "Transfer-Encoding" not in received.headers
        assert seen[-1] == (len(DATA), len(DATA))


def test_the_market_gets_resource_store_and_token(piece: Path) -> None:
    with server() as (origin, received):
        host = origin.removeprefix("http://")
        uploader().upload(piece, CID, f"market://store1/{CID}?host={host}&scheme=http&token=secret")
        assert received.path == f"/resource?resource-id={CID}&store=store1"
        assert received.headers["Authorization"] == "Bearer secret" and received.body == DATA


def test_a_store_without_a_name_is_the_managers_piece_store(piece: Path) -> None:
    with server() as (origin, received):
        uploader(origin).upload(piece, CID, f"store:///{CID}")
        assert received.path == f"/piecestore/{CID}" and received.body == DATA


def test_files_and_attached_stores_are_copied_to(piece: Path, tmp_path: Path) -> None:
    (tmp_path / "s1").mkdir()
    uploads = uploader(s1=tmp_path / "s1")
    uploads.upload(piece, CID, f"file://{tmp_path}/new/dir%20x/piece")
    uploads.upload(piece, CID, f"store://s1/deep/{CID}")
    assert (tmp_path / "new/dir x/piece").read_bytes() == DATA
    assert (tmp_path / "s1/deep" / CID).read_bytes() == DATA


@pytest.mark.parametrize(
    ("url", "text"),
    [
        ("ftp://a/b", "not understood"),
        ("file://host/b", "not understood"),
        ("store://", "not understood"),
        ("store://elsewhere/x", "not attached"),
        ("store://readonly1/x", "read-only"),
        ("store://s1/", "no path"),
        ("store://s1/../x", "no path"),
        ("market://s/x?host=h&scheme=http", "token"),
        ("market://s/x?token=secret", "host, scheme"),
    ],
)
def test_what_can_not_be_used_is_permanent(piece: Path, tmp_path: Path, url: str, text: str) -> None:
    uploads = uploader(s1=tmp_path, readonly1=tmp_path)
    with pytest.raises(WorkerError, match=text) as failed:
        uploads.upload(piece, CID, url)
    assert failed.value.level is Level.PERMANENT and failed.value.next_step
    assert "secret" not in str(failed.value)


@pytest.mark.parametrize(
    ("scheme", "status", "level"),
    [("http", 500, Level.TEMPORARY), ("http", 302, Level.TEMPORARY), ("market", 202, Level.PERMANENT)],
)
def test_a_refusal_says_status_and_reason_but_no_secret(
    piece: Path, scheme: str, status: int, level: Level
) -> None:
    with server(status) as (origin, _):
        host = origin.removeprefix("http://")
        url = (
            f"http://user:secret@{host}/x?token=secret"
            if scheme == "http"
            else (f"market://s/{CID}?host={host}&scheme=http&token=secret")
        )
        with pytest.raises(WorkerError, match=f"{status}.*no room at all") as failed:
            uploader().upload(piece, CID, url)
        assert failed.value.level is level and failed.value.next_step
        assert "secret" not in str(failed.value)


@contextmanager
def answering(answer: bytes, *, takes: int, after: float = 0.0) -> Iterator[str]:
    """A server that reads ``takes`` bytes of body, waits, says ``answer`` and closes; its origin."""
    listening = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        connected, _ = listening.accept()
        with connected, connected.makefile("rb") as stream:
            while stream.readline() not in (b"\r\n", b""):
                pass
            stream.read(takes)
            time.sleep(after)
            connected.sendall(answer)

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield f"127.0.0.1:{listening.getsockname()[1]}"
    finally:
        thread.join()
        listening.close()


@pytest.mark.parametrize(("scheme", "level"), [("http", Level.TEMPORARY), ("market", Level.PERMANENT)])
def test_a_refusal_in_the_middle_of_a_piece_is_told_instead_of_a_broken_pipe(
    piece: Path, scheme: str, level: Level
) -> None:
    os.truncate(piece, 64 << 20)
    refusal = b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 9\r\nConnection: close\r\n\r\nbad token"
    with answering(refusal, takes=1000) as host:
        url = f"http://{host}/x" if scheme == "http" else f"market://s/{CID}?host={host}&scheme=http&token=t"
        with pytest.raises(WorkerError, match=r"answered 401 Unauthorized .*bad token") as failed:
            uploader().upload(piece, CID, url)
    assert failed.value.level is level


def test_a_refusal_of_a_server_that_keeps_the_connection_is_told(
    piece: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was a time-out after a minute, five times over, and the reason stayed unread."""
    monkeypatch.setattr(upload, "SILENCE", 0.5)
    os.truncate(piece, 64 << 20)
    refusal = b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 9\r\n\r\nbad token"
    with (
        stalling(Cancel(), takes=1000, says=refusal) as host,
        pytest.raises(WorkerError, match=r"answered 401 Unauthorized .*bad token") as failed,
    ):
        uploader().upload(piece, CID, f"market://s/{CID}?host={host}&scheme=http&token=t")
    assert failed.value.level is Level.PERMANENT


@pytest.mark.parametrize("answer", [b"", b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n"])
def test_a_server_that_hangs_up_in_the_middle_has_not_got_the_piece(piece: Path, answer: bytes) -> None:
    os.truncate(piece, 64 << 20)
    with (
        answering(answer, takes=1000) as host,
        pytest.raises(WorkerError, match=r"can.t be uploaded") as failed,
    ):
        uploader().upload(piece, CID, f"http://{host}/x")
    assert failed.value.level is Level.TEMPORARY


def test_a_server_may_take_its_time_to_make_a_piece_durable(
    piece: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(upload, "SILENCE", 0.5)
    with answering(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", takes=len(DATA), after=1.5) as host:
        uploader().upload(piece, CID, f"http://{host}/x")


def test_a_server_that_is_away_is_temporary(piece: Path) -> None:
    with pytest.raises(WorkerError, match=r"can.t be uploaded to http://127\.0\.0\.1:9/x") as failed:
        uploader().upload(piece, CID, "http://127.0.0.1:9/x?token=secret")
    assert failed.value.level is Level.TEMPORARY and "secret" not in str(failed.value)


def test_an_upload_can_be_stopped(piece: Path) -> None:
    class Cancelled:
        cancelled = True

    with server() as (origin, _), pytest.raises(CopyCancelledError):
        uploader().upload(piece, CID, f"{origin}/x", cancel=Cancelled())


class Cancel:
    cancelled = False


CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


@contextmanager
def stalling(cancel: Cancel, *, says: bytes = b"", takes: int = 0, tls: Path | None = None) -> Iterator[str]:
    """A server that takes ``takes`` bytes of body, says ``says``, has the upload cancelled and does no more.

    Its host; after the context it has seen the end of the connection.
    """
    listening = socket.create_server(("127.0.0.1", 0))
    over = threading.Event()
    closed: list[bool] = []

    def serve() -> None:
        connected, _ = listening.accept()
        if tls is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(tls)
            connected = context.wrap_socket(connected, server_side=True, suppress_ragged_eofs=True)
        with connected, connected.makefile("rb") as stream:
            while stream.readline() not in (b"\r\n", b""):
                pass
            stream.read(takes)
            connected.sendall(says)
            cancel.cancelled = True
            over.wait()
            # What was on its way still comes; then the end, or a reset.
            with suppress(OSError):
                while stream.read1(BUFFER):
                    pass
            closed.append(True)

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield f"127.0.0.1:{listening.getsockname()[1]}"
    finally:
        over.set()
        thread.join()
        listening.close()
    assert closed


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a pause does not cut fails after a while, instead of after an hour."""
    monkeypatch.setattr(upload, "SILENCE", 5.0)
    monkeypatch.setattr(upload, "ANSWER", 5.0)


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate for 127.0.0.1 that signs itself, with its key."""
    path = tmp_path_factory.mktemp("tls") / "server.pem"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=test"]
    more = ["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", "-", "-out", "-"]
    path.write_bytes(subprocess.run([*command, *more], check=True, capture_output=True).stdout)
    return path


@pytest.fixture
def trusted(certificate: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    return certificate


@pytest.mark.usefixtures("impatient")
def test_an_upload_can_be_stopped_while_the_server_makes_the_piece_durable(piece: Path) -> None:
    """A pause left the connection open for up to an hour, and a resume sent the piece beside it."""
    cancel = Cancel()
    with stalling(cancel, takes=len(DATA)) as host, pytest.raises(CopyCancelledError):
        uploader().upload(piece, CID, f"http://{host}/x", cancel=cancel)


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("scheme", ["https", "http"])
def test_an_upload_can_be_stopped_while_the_server_takes_no_bytes(
    piece: Path, trusted: Path, scheme: str
) -> None:
    """A pause left the thread in the middle of the body for a minute."""
    # More than the buffers of both sides hold.
    os.truncate(piece, 64 << 20)
    cancel, soon = Cancel(), Cancel()
    stop = threading.Timer(0.5, lambda: setattr(soon, "cancelled", True))

    def begun(_done: int, _total: int) -> None:
        # When the flag is set the sender has been waiting in the middle of the body for a while.
        if stop.ident is None:
            stop.start()

    tls = trusted if scheme == "https" else None
    with stalling(cancel, tls=tls) as host, pytest.raises(CopyCancelledError):
        uploader().upload(piece, CID, f"{scheme}://{host}/x", progress=begun, cancel=soon)


@pytest.mark.usefixtures("impatient")
def test_an_upload_can_be_stopped_after_a_server_has_said_100_continue(piece: Path) -> None:
    """The interim answer was taken for the answer."""
    cancel = Cancel()
    with stalling(cancel, says=CONTINUE, takes=len(DATA)) as host, pytest.raises(CopyCancelledError):
        uploader().upload(piece, CID, f"http://{host}/x", cancel=cancel)


@pytest.mark.usefixtures("impatient")
def test_an_upload_over_https_can_be_stopped_while_it_waits_for_the_answer(
    piece: Path, trusted: Path
) -> None:
    cancel = Cancel()
    with stalling(cancel, takes=len(DATA), tls=trusted) as host, pytest.raises(CopyCancelledError):
        uploader().upload(piece, CID, f"https://{host}/x", cancel=cancel)


def test_an_upload_can_be_stopped_while_a_server_says_nothing_to_tls(
    piece: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(upload, "CONNECT_TIMEOUT", 5.0)
    cancel = Cancel()
    with stalling(cancel, says=b"") as host:
        # The beginning of TLS holds no line that ends: the server has it read as a header for ever.
        threading.Timer(0.5, lambda: setattr(cancel, "cancelled", True)).start()
        with pytest.raises(CopyCancelledError):
            uploader().upload(piece, CID, f"https://{host}/x", cancel=cancel)


def test_an_upload_can_be_stopped_while_a_server_can_not_be_reached(
    piece: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cancel = Cancel()
    over = threading.Event()

    def connect(*_: object) -> socket.socket:
        cancel.cancelled = True
        over.wait(5)
        raise TimeoutError

    monkeypatch.setattr(socket, "create_connection", connect)
    try:
        with pytest.raises(CopyCancelledError):
            uploader().upload(piece, CID, "http://192.0.2.1/x", cancel=cancel)
    finally:
        over.set()


@pytest.mark.parametrize("scheme", ["https", "http"])
def test_an_upload_that_could_be_stopped_arrives(piece: Path, trusted: Path, scheme: str) -> None:
    tls = trusted if scheme == "https" else None
    with server(201, tls) as (origin, received):
        uploader().upload(piece, CID, f"{origin}/x", cancel=Cancel())
        assert received.body == DATA and received.headers["Host"] == origin.removeprefix(f"{scheme}://")


def test_a_refusal_in_the_middle_is_told_also_when_the_upload_could_be_stopped(piece: Path) -> None:
    os.truncate(piece, 64 << 20)
    refusal = b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
    with (
        answering(refusal, takes=1000) as host,
        pytest.raises(WorkerError, match="answered 403 Forbidden"),
    ):
        uploader().upload(piece, CID, f"http://{host}/x", cancel=Cancel())


def test_a_piece_that_can_not_be_read_is_not_the_destinations_fault(
    piece: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Failing(io.BytesIO):
        def read(self, _size: int | None = -1) -> bytes:
            raise OSError(errno.EIO, "Input/output error")

    with server() as (origin, _):
        monkeypatch.setattr(Path, "open", lambda *_: Failing())
        with pytest.raises(WorkerError, match=f"can't read {piece}: the medium reported") as failed:
            uploader().upload(piece, CID, f"{origin}/x")
    assert "dmesg" in failed.value.next_step
