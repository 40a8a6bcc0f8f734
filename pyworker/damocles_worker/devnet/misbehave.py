"""Carrying a fault rule out: what is sent instead of, or made of, an answer."""

from __future__ import annotations

import asyncio
import json

from aiohttp import web

from damocles_worker.devnet.faults import ON_CHAIN_STATES, Action, Rule
from damocles_worker.devnet.wire import Reply, Request, failure, success
from damocles_worker.manager.types import PollResp

_GATEWAY_PAGE = (
    b"<html>\r\n<head><title>502 Bad Gateway</title></head>\r\n<body>\r\n"
    b"<center><h1>502 Bad Gateway</h1></center>\r\n</body>\r\n</html>\r\n"
)


async def before_answering(rule: Rule, request: web.Request) -> web.Response | None:
    """Act on a rule that does not depend on the call; None when the request is to be served."""
    match rule.action:
        case Action.REFUSE:
            return hang_up(request)
        case Action.DELAY:
            await asyncio.sleep(rule.seconds)
        case Action.HTTP502:
            return web.Response(status=502, body=_GATEWAY_PAGE, content_type="text/html")
        case Action.GARBAGE:
            return web.Response(body=b"\x00\xff\xfegarbage, ordered", content_type="text/plain")
    return None


def hang_up(request: web.Request) -> web.Response:
    """Close the connection without an answer."""
    if request.transport is not None:
        request.transport.abort()
    return web.Response()


def instead_of_calling(rule: Rule, request: Request) -> Reply | None:
    """The ordered answer to a call that is not executed; None when it is."""
    match rule.action:
        case Action.NULL:
            return success(request, None)
        case Action.NOT_LANDED:
            return success(request, PollResp(ON_CHAIN_STATES[rule.state], "ordered failure"))
        case Action.ERROR:
            return failure(request, rule.code, rule.message)
    return None


def spoil(rule: Rule, reply: Reply) -> Reply:
    """The reply to an executed call as it is sent."""
    match rule.action:
        case Action.TRUNCATE:
            return Reply(reply.status, reply.body[: len(reply.body) // 2])
        case Action.WRONG_ID if reply.body:
            answer = json.loads(reply.body)
            answer["id"] = (answer["id"] if isinstance(answer["id"], int) else 0) + 1000
            return Reply(reply.status, json.dumps(answer).encode())
    return reply
