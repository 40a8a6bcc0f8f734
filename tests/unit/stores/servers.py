"""A real HTTP server with ordered answers, in the place of a manager or a market."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from msgspec import Struct


class Request(Struct, frozen=True):
    """What a server was asked: path with query, and headers by lower-case name."""

    path: str
    headers: dict[str, str]

    @property
    def first_byte(self) -> int:
        """Of the Range header; 0 without one."""
        return int(self.headers.get("range", "bytes=0-").removeprefix("bytes=").removesuffix("-"))


Answer = Callable[[BaseHTTPRequestHandler, Request], None]


class Server(Struct):
    """A running server; the n-th request gets the n-th answer, later ones the last."""

    origin: str
    answers: list[Answer]
    requests: list[Request]


@contextmanager
def serving(*answers: Answer) -> Iterator[Server]:
    """Serve ``answers`` on a free port of loopback."""
    server = Server("", list(answers), [])

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            request = Request(self.path, {name.lower(): value for name, value in self.headers.items()})
            server.requests.append(request)
            answer = server.answers[min(len(server.requests), len(server.answers)) - 1]
            self.close_connection = True
            answer(self, request)

        def log_message(self, *_: object) -> None:
            """Keep the test output clean."""

    class Quiet(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, *_: object) -> None:
            """A client that hangs up early is part of the tests."""

    with Quiet(("127.0.0.1", 0), Handler) as http:
        server.origin = f"http://127.0.0.1:{http.server_port}"
        thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server
        finally:
            http.shutdown()
            thread.join()


def status(code: int, **headers: str) -> Answer:
    """An answer without a body; ``Location="…"`` makes a redirect."""

    def answer(handler: BaseHTTPRequestHandler, _request: Request) -> None:
        handler.send_response(code)
        for name, value in {"Content-Length": "0", **headers}.items():
            handler.send_header(name, value)
        handler.end_headers()

    return answer


def whole(content: bytes) -> Answer:
    """``content`` with its length, from the first byte whatever is asked for."""

    def answer(handler: BaseHTTPRequestHandler, _request: Request) -> None:
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(content)))
        handler.end_headers()
        handler.wfile.write(content)

    return answer


def ranged(content: bytes) -> Answer:
    """``content`` from the byte that is asked for, as 206."""

    def answer(handler: BaseHTTPRequestHandler, request: Request) -> None:
        part = content[request.first_byte :]
        handler.send_response(206)
        handler.send_header("Content-Range", f"bytes {request.first_byte}-{len(content) - 1}/{len(content)}")
        handler.send_header("Content-Length", str(len(part)))
        handler.end_headers()
        handler.wfile.write(part)

    return answer


def chunked(content: bytes, *, cut: bool = False) -> Answer:
    """``content`` in chunks as the manager streams; ``cut`` breaks the connection before the end mark."""

    def answer(handler: BaseHTTPRequestHandler, _request: Request) -> None:
        handler.send_response(200)
        handler.send_header("Transfer-Encoding", "chunked")
        handler.end_headers()
        for start in range(0, len(content), 10_000):
            chunk = content[start : start + 10_000]
            handler.wfile.write(b"%x\r\n%s\r\n" % (len(chunk), chunk))
        if not cut:
            handler.wfile.write(b"0\r\n\r\n")

    return answer


def broken(content: bytes, length: int) -> Answer:
    """Promises ``length`` bytes and breaks off after ``content``."""

    def answer(handler: BaseHTTPRequestHandler, _request: Request) -> None:
        handler.send_response(200)
        handler.send_header("Content-Length", str(length))
        handler.end_headers()
        handler.wfile.write(content)

    return answer


def stalled(content: bytes, release: threading.Event) -> Answer:
    """Sends ``content``, promises more and is silent until ``release``."""

    def answer(handler: BaseHTTPRequestHandler, request: Request) -> None:
        broken(content, len(content) + 1_000_000)(handler, request)
        handler.wfile.flush()
        release.wait(60)

    return answer
