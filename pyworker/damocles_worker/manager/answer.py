"""From the bytes of an HTTP response to a typed result, or to an error that says what is wrong.

The HTTP status never decides: the manager sends JSON-RPC errors with status 500 as well as 200.
"""

from __future__ import annotations

from typing import Any, TypeVar

import msgspec
from msgspec import UNSET, Raw, Struct, UnsetType

from damocles_worker.manager.methods import Method
from damocles_worker.manager.rpc_error import bad_answer, manager_away, refused_by_manager

R = TypeVar("R")

#: Bytes of an unreadable answer shown to the operator.
_SHOWN = 120


class _ErrorObject(Struct):
    code: int
    message: str = ""


class _Answer(Struct):
    jsonrpc: Any = None
    id: Any = None
    result: Raw | UnsetType = UNSET
    error: _ErrorObject | None = None


_ANSWER = msgspec.json.Decoder(_Answer)


def decode_answer(method: Method[R], url: str, request_id: int, status: int, body: bytes) -> R:
    """The result of a call, given the response's status and body.

    Raises :class:`RpcError` and nothing else, whatever the body holds.
    """
    name = method.name
    try:
        answer = _ANSWER.decode(body)
    except msgspec.ValidationError as error:
        raise bad_answer(
            name, url, f"sent no JSON-RPC answer (HTTP status {status}): {error}: {excerpt(body)}"
        ) from None
    except (msgspec.DecodeError, ValueError, RecursionError) as error:
        raise manager_away(name, url, _describe_foreign(status, body, error)) from None
    if answer.jsonrpc != "2.0":
        raise bad_answer(
            name,
            url,
            f"answered in JSON-RPC version {_brief(answer.jsonrpc)} where '2.0' is expected: {excerpt(body)}",
        )
    # An error about a request that could not be read carries a null id.
    if not _same_id(answer.id, request_id) and not (answer.error is not None and answer.id is None):
        raise bad_answer(
            name, url, f"answered request {_brief(answer.id)} where request {request_id} is expected"
        )
    if answer.error is not None:
        raise refused_by_manager(name, url, answer.error.code, answer.error.message)
    if isinstance(answer.result, UnsetType):
        if not method.returns_nothing:
            raise bad_answer(
                name, url, f"sent neither result nor error (HTTP status {status}): {excerpt(body)}"
            )
        return method.decode(b"null")
    return _decode_result(method, url, answer.result)


def excerpt(body: bytes) -> str:
    """The first bytes of a body on one line, quoted."""
    text = " ".join(body[:_SHOWN].decode(errors="replace").split())
    return f"{text!r}…" if len(body) > _SHOWN else repr(text)


def _decode_result(method: Method[R], url: str, raw: Raw) -> R:
    try:
        return method.decode(raw)
    except (msgspec.DecodeError, ValueError, RecursionError) as error:
        if bytes(raw).strip() == b"null":
            what = "answered null where a value is needed"
        else:
            what = f"sent a result that can't be read: {error}: {excerpt(bytes(raw))}"
        raise bad_answer(method.name, url, what) from None


def _brief(value: object) -> str:
    """A JSON value as it was sent."""
    return msgspec.json.encode(value).decode()[:_SHOWN]


def _same_id(found: object, expected: int) -> bool:
    return isinstance(found, int) and not isinstance(found, bool) and found == expected


def _describe_foreign(status: int, body: bytes, error: Exception) -> str:
    if not body:
        return f"answered HTTP status {status} with an empty body"
    if body.lstrip().startswith(b"{"):
        return f"sent broken JSON (HTTP status {status}, {len(body)} bytes): {error}: {excerpt(body)}"
    return f"answered HTTP status {status} with something that is not JSON-RPC: {excerpt(body)}"
