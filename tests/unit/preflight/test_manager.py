"""What a preflight asks the manager, and what it makes of the answers."""

from __future__ import annotations

import asyncio
import email.utils
import time
from pathlib import Path

import pytest
from aiohttp import web

from damocles_worker.devnet.options import Options
from damocles_worker.devnet.server import Devnet
from damocles_worker.manager.address import parse_address
from damocles_worker.manager.client import ManagerClient
from damocles_worker.preflight.manager import ManagerView, ask, look
from tests.unit.manager.test_client import client_of, manager, result
from tests.unit.preflight.support import of


def asked(ahead: float, *stores: str, refuses_version: bool = False) -> ManagerView:
    """The view of a manager whose clock is ``ahead`` seconds ahead and which knows the store ``known``."""

    async def answer(request: web.Request) -> web.Response:
        body = await request.json()
        name = body["params"][0] if body["params"] else None
        if body["method"].endswith("Version") and refuses_version:
            error = {"code": -32601, "message": "method not found"}
            response = web.json_response({"jsonrpc": "2.0", "error": error, "id": body["id"]}, status=500)
        elif name is None:
            response = result(body, "v1.2.3")
        else:
            info = {"Name": name, "Path": "/p", "Meta": None, "Upgraded": False}
            response = result(body, info if name == "known" else None)
        response.headers["Date"] = email.utils.formatdate(time.time() + ahead, usegmt=True)
        return response

    async def scenario() -> ManagerView:
        async with manager(answer) as url, client_of(url) as client:
            return await ask(client, stores)

    return asyncio.run(scenario())


def test_a_manager_that_answers_knows_the_stores_and_agrees_on_the_time() -> None:
    lines = look(asked(0, "known"))
    assert [(line.level, line.area) for line in lines] == [
        ("ok", "manager"),
        ("ok", "stores"),
        ("ok", "clock"),
    ]
    assert lines[0].found == "answers, version v1.2.3"


def test_a_store_that_the_manager_does_not_know_is_a_problem() -> None:
    line = of(look(asked(0, "known", "other")), "other")
    assert line.level == "problem" and "Common.PersistStores" in line.needed


def test_a_manager_that_does_not_tell_its_version_is_still_asked_for_the_stores() -> None:
    lines = look(asked(0, "other", refuses_version=True))
    assert lines[0].found == "answers, version unknown"
    assert of(lines, "other").level == "problem"


@pytest.mark.parametrize(
    ("ahead", "level", "words"),
    [
        (10, "warning", "behind"),
        (-10, "warning", "ahead of"),
        (3600, "problem", "behind"),
        (1, "ok", "agrees"),
    ],
)
def test_clocks_that_differ_are_told_by_how_much(ahead: float, level: str, words: str) -> None:
    line = of(look(asked(ahead)), "this host")
    assert (line.level, line.area) == (level, "clock") and words in line.found
    assert ("timedatectl" in line.command) == (level != "ok")


def test_without_a_date_the_clocks_are_not_compared() -> None:
    line = of(look(ManagerView("http://m", "v1")), "this host")
    assert line.level == "warning" and "no Date" in line.found


def test_a_manager_that_is_down_is_one_problem() -> None:
    async def scenario() -> ManagerView:
        client = ManagerClient(parse_address("http://127.0.0.1:9"))
        try:
            return await ask(client, ["a", "b"])
        finally:
            await client.close()

    (line,) = look(asyncio.run(scenario()))
    assert line.level == "problem" and "can't be reached" in line.found and "damocles-manager" in line.command


def test_the_devnet_is_recognised(tmp_path: Path) -> None:
    async def scenario() -> ManagerView:
        devnet = Devnet(Options(data_dir=tmp_path))
        url = await devnet.start()
        try:
            async with client_of(url) as client:
                return await ask(client, [])
        finally:
            await devnet.stop()

    view = asyncio.run(scenario())
    assert view.is_devnet and view.clock_ahead is not None
