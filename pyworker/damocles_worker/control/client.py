"""A call to a running daemon's control server, for the command line."""

from __future__ import annotations

import http.client
from typing import Any

import msgspec

from damocles_worker.errors import UsageError

TIMEOUT = 10.0
#: Addresses that mean every interface of this machine, and where to reach them from here.
EVERY_INTERFACE = {"0.0.0.0": "127.0.0.1", "::": "::1"}
DEFAULT_PORT = 17890


#: JSON-RPC: there is no such method.
_METHOD_NOT_FOUND = -32601


class UnknownMethodError(UsageError):
    """What answers is a worker, but an older one or the Rust one."""


def call(address: str, method: str, *params: Any) -> Any:
    """Call ``VenusWorker.<method>`` of the daemon at ``address`` (``IP:port``; without a port the usual one).

    :raises UsageError: it can't be reached, it is no worker, or it refuses.
    :raises UnknownMethodError: it does not know the method.
    """
    host, port = _split(address)
    body = msgspec.json.encode(
        {"jsonrpc": "2.0", "id": 1, "method": f"VenusWorker.{method}", "params": list(params)}
    )
    try:
        connection = http.client.HTTPConnection(host, port, timeout=TIMEOUT)
        try:
            connection.request("POST", "/", body, {"Content-Type": "application/json"})
            answer = msgspec.json.decode(connection.getresponse().read(), type=dict[str, Any])
        finally:
            connection.close()
    except (http.client.HTTPException, msgspec.MsgspecError) as error:
        raise UsageError(
            f"what answers at {address} is no damocles-worker ({error}). Name the worker's control address"
            " (rpc_server.host and port) with --host, or its configuration with --config"
        ) from error
    except OSError as error:
        raise UsageError(
            f"no daemon answers at {address}: {error}. Start it, or name another one with --host or --config"
        ) from error
    if answer.get("error"):
        unknown = answer["error"].get("code") == _METHOD_NOT_FOUND
        raise (UnknownMethodError if unknown else UsageError)(f"rpc error: {answer['error'].get('message')}")
    return answer.get("result")


def _split(address: str) -> tuple[str, int]:
    """Host and port; an IPv6 address with a port is in brackets."""
    host, colon, port = address.rpartition(":")
    if not colon or port.endswith("]"):
        host, port = address, str(DEFAULT_PORT)
    if not host or not port.isdecimal() or int(port) > 65535:
        raise UsageError(
            f"{address!r} is no control address: expected IP:PORT, such as 127.0.0.1:{DEFAULT_PORT}"
        )
    return host.removeprefix("[").removesuffix("]"), int(port)
