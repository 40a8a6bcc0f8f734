"""JSON-RPC over HTTP as the manager's Go library speaks it: what is answered, with which status.

A method's own error goes out with status 200, a call that can't be dispatched with status 500, and a
request without an id gets an empty body.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
from msgspec import Struct

from damocles_worker.devnet.godecode import GoDecodeError, decode
from damocles_worker.manager.methods import Method

METHOD_NOT_FOUND = -32601
WRONG_PARAM_COUNT = -32602
PARSE_ERROR = -32700


class MethodError(Exception):
    """A method's own error, answered with status 200."""

    def __init__(self, message: str, code: int = 1) -> None:
        super().__init__(message)
        self.code = code


class Reply(Struct, frozen=True):
    status: int
    #: Ends with a line feed unless empty.
    body: bytes = b""


class Request(Struct, frozen=True):
    method: str
    #: As parsed, not yet checked.
    params: Any = None
    #: None: a notification.
    id: str | int | float | None = None


class Served(Struct, frozen=True):
    """A method that is served: how its parameters are decoded, and what is run with them."""

    method: Method[Any]
    run: Callable[..., Awaitable[Any]]


def parse(body: bytes) -> Request | None:
    """The request in ``body``, of which only the first JSON value is read; None if it is no request."""
    try:
        value, _end = json.JSONDecoder().raw_decode(body.decode().lstrip())
    except (ValueError, RecursionError):
        return None
    if not isinstance(value, dict):
        return None
    method, request_id = value.get("method", ""), value.get("id")
    if not isinstance(method, str) or isinstance(request_id, (bool, list, dict)):
        return None
    try:
        return Request(method=method, params=value.get("params"), id=_as_go_keeps_it(request_id))
    except OverflowError:
        return None


def decode_params(request: Request, method: Method[Any]) -> list[Any] | Reply:
    """The typed parameters, or the refusal."""
    given = [] if request.params is None else request.params
    if not isinstance(given, list):
        found = "object" if isinstance(given, dict) else "value"
        text = (
            f"unmarshaling param array: json: cannot unmarshal {found} into Go value of type []jsonrpc.param"
        )
        return undispatched(request, PARSE_ERROR, text)
    if len(given) != len(method.params):
        text = f"wrong param count (method '{request.method}'): {len(given)} != {len(method.params)}"
        return undispatched(request, WRONG_PARAM_COUNT, text)
    typed = []
    for value, type_ in zip(given, method.params, strict=True):
        try:
            typed.append(decode(value, type_))
        except GoDecodeError as error:
            name = getattr(type_, "__name__", type_)
            text = f"unmarshaling params for '{request.method}' (param: *{name}): {error}"
            return undispatched(request, PARSE_ERROR, f"{text}: error code {PARSE_ERROR}")
    return typed


def not_found(request: Request) -> Reply:
    return undispatched(request, METHOD_NOT_FOUND, f"method '{request.method}' not found")


def undispatched(request: Request, code: int, text: str) -> Reply:
    """The refusal of a call that reached no method."""
    return failure(request, code, f"(error code {code}) {text}", status=500)


def failure(request: Request, code: int, message: str, *, status: int = 200) -> Reply:
    if request.id is None:
        return Reply(status=status)
    error = {"code": code, "message": message}
    return Reply(status=status, body=_line({"jsonrpc": "2.0", "id": request.id, "error": error}))


def success(request: Request, result: Any) -> Reply:
    if request.id is None:
        return Reply(status=200)
    return Reply(status=200, body=_line({"jsonrpc": "2.0", "result": result, "id": request.id}))


def _line(value: dict[str, Any]) -> bytes:
    return msgspec.json.encode(value) + b"\n"


def _as_go_keeps_it(request_id: str | int | float | None) -> str | int | float | None:
    """Go reads a numeric id as a 64-bit float and prints it back, without a fraction below 1e21."""
    if not isinstance(request_id, (int, float)):
        return request_id
    number = float(request_id)
    return int(number) if number.is_integer() and abs(number) < 1e21 else number
