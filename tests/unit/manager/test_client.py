"""The client on the wire: what it sends, how it waits, and how it fails."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager

import pytest
from aiohttp import web

from damocles_worker.errors import Level
from damocles_worker.manager.address import parse_address
from damocles_worker.manager.client import ManagerClient, RpcError
from damocles_worker.manager.types import AllocateSectorSpec, SectorID

SECTOR = SectorID(10000, 7)
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@asynccontextmanager
async def manager(handler: Handler) -> AsyncIterator[str]:
    """A server whose ``/rpc/v0`` is ``handler``; its URL."""
    application = web.Application()
    application.router.add_route("*", "/{path:.*}", handler)
    runner = web.AppRunner(application, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


@asynccontextmanager
async def client_of(url: str, **options: float) -> AsyncIterator[ManagerClient]:
    client = ManagerClient(parse_address(url), **options)  # type: ignore[arg-type]
    try:
        yield client
    finally:
        await client.close()


def result(request: dict[str, object], value: object) -> web.Response:
    return web.json_response({"jsonrpc": "2.0", "result": value, "id": request["id"]})


async def nothing(request: web.Request) -> web.Response:
    return result(await request.json(), None)


def test_one_post_per_call_with_counting_ids_and_configured_headers() -> None:
    seen: list[tuple[str, str, Mapping[str, str], object]] = []

    async def record(request: web.Request) -> web.Response:
        body = await request.json()
        seen.append((request.method, request.path, request.headers, body))
        return result(body, None)

    async def scenario() -> None:
        async with manager(record) as url:
            client = ManagerClient(parse_address(url), headers={"Authorization": "Bearer t", "X-Farm": "7"})
            await client.allocate_sector(AllocateSectorSpec([10000], [5]))
            await client.report_aborted(SECTOR, "why")
            await client.close()

    asyncio.run(scenario())
    assert [(method, path) for method, path, _headers, _body in seen] == [("POST", "/rpc/v0")] * 2
    for _method, _path, headers, _body in seen:
        assert headers["Authorization"] == "Bearer t"
        assert headers["X-Farm"] == "7"
        assert headers["Content-Type"] == headers["Accept"] == "application/json"
    assert [body for *_rest, body in seen] == [
        {
            "jsonrpc": "2.0",
            "method": "Venus.AllocateSector",
            "params": [{"AllowedMiners": [10000], "AllowedProofTypes": [5]}],
            "id": 0,
        },
        {
            "jsonrpc": "2.0",
            "method": "Venus.ReportAborted",
            "params": [{"Miner": 10000, "Number": 7}, "why"],
            "id": 1,
        },
    ]


def test_calls_beyond_the_bound_wait() -> None:
    under_way, most = 0, 0

    async def hold(request: web.Request) -> web.Response:
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)
        await asyncio.sleep(0.01)
        under_way -= 1
        return await nothing(request)

    async def scenario() -> None:
        async with manager(hold) as url, client_of(url, in_flight=3) as client:
            await asyncio.gather(*(client.report_finalized(SectorID(1, number)) for number in range(30)))

    asyncio.run(scenario())
    assert most == 3


def test_waiting_calls_go_in_the_order_they_came() -> None:
    order: list[int] = []

    async def record(request: web.Request) -> web.Response:
        body = await request.json()
        order.append(body["params"][0]["Number"])
        return result(body, None)

    async def scenario() -> None:
        async with manager(record) as url, client_of(url, in_flight=1) as client:
            await asyncio.gather(*(client.report_finalized(SectorID(1, number)) for number in range(20)))

    asyncio.run(scenario())
    assert order == list(range(20))


def test_a_hung_manager_ends_in_an_error_and_frees_its_slot() -> None:
    hang = True

    async def hang_once(request: web.Request) -> web.Response:
        nonlocal hang
        if hang:
            hang = False
            await asyncio.sleep(60)
        return await nothing(request)

    async def scenario() -> None:
        async with manager(hang_once) as url, client_of(url, timeout=0.2, in_flight=1) as client:
            with pytest.raises(RpcError, match=r"did not answer within 0\.2 s") as failed:
                await client.report_finalized(SECTOR)
            assert failed.value.waits_for == f"the manager at {url}/rpc/v0"
            assert not client.up
            await client.report_finalized(SECTOR)
            assert client.up

    asyncio.run(scenario())


def test_a_cancelled_call_frees_its_slot() -> None:
    async def scenario() -> None:
        entered = asyncio.Event()

        async def hang_first(request: web.Request) -> web.Response:
            if not entered.is_set():
                entered.set()
                await asyncio.sleep(60)
            return await nothing(request)

        async with manager(hang_first) as url, client_of(url, in_flight=1) as client:
            call = asyncio.create_task(client.report_finalized(SECTOR))
            await entered.wait()
            call.cancel()
            with pytest.raises(asyncio.CancelledError):
                await call
            await client.report_finalized(SECTOR)

    asyncio.run(scenario())


def test_a_refused_connection_names_the_manager_and_what_to_check() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]

    async def scenario() -> None:
        async with client_of(f"http://127.0.0.1:{port}") as client:
            assert (client.up, client.last_error, client.last_ok_at) == (False, "", None)
            with pytest.raises(RpcError) as failed:
                await client.assign_ticket(SECTOR)
            error = failed.value
            assert error.level is Level.TEMPORARY
            assert error.waits_for == f"the manager at http://127.0.0.1:{port}/rpc/v0"
            assert "can't be reached" in error.cause
            assert "rpc_client" in error.next_step
            assert client.last_error == str(error)

    asyncio.run(scenario())


def test_a_name_that_does_not_resolve_is_told_apart() -> None:
    async def scenario() -> None:
        async with client_of("http://no-such-host.invalid:1789") as client:
            with pytest.raises(RpcError, match="can't be resolved") as failed:
                await client.assign_ticket(SECTOR)
            assert failed.value.waits_for is not None

    asyncio.run(scenario())


def test_a_connection_closed_without_an_answer_is_temporary() -> None:
    async def hang_up(request: web.Request) -> web.Response:
        assert request.transport is not None
        request.transport.abort()
        return web.Response()

    async def scenario() -> None:
        async with manager(hang_up) as url, client_of(url) as client:
            with pytest.raises(RpcError, match="can't be reached") as failed:
                await client.assign_ticket(SECTOR)
            assert failed.value.level is Level.TEMPORARY

    asyncio.run(scenario())


def test_a_body_cut_short_is_temporary() -> None:
    async def cut(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Length": "1000"})
        await response.prepare(request)
        await response.write(b'{"jsonrpc":"2.0","result":')
        assert request.transport is not None
        request.transport.abort()
        return response

    async def scenario() -> None:
        async with manager(cut) as url, client_of(url) as client:
            with pytest.raises(RpcError) as failed:
                await client.assign_ticket(SECTOR)
            assert failed.value.waits_for is not None

    asyncio.run(scenario())


def test_an_endless_answer_is_cut_short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("damocles_worker.manager.client.MAX_ANSWER", 100_000)

    async def endless(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        try:
            while True:
                await response.write(b" " * 50_000)
        except ConnectionError:
            return response

    async def scenario() -> None:
        async with manager(endless) as url, client_of(url) as client:
            with pytest.raises(RpcError, match="more than 100000 bytes"):
                await client.assign_ticket(SECTOR)

    asyncio.run(scenario())


def test_a_redirect_is_shown_and_not_followed() -> None:
    async def redirect(_request: web.Request) -> web.Response:
        return web.Response(status=302, headers={"Location": "/login"}, text="Found")

    async def scenario() -> None:
        async with manager(redirect) as url, client_of(url) as client:
            with pytest.raises(RpcError, match="HTTP status 302"):
                await client.assign_ticket(SECTOR)

    asyncio.run(scenario())


def test_an_error_in_a_500_response_is_read() -> None:
    async def not_found(request: web.Request) -> web.Response:
        body = await request.json()
        error = {"code": -32601, "message": "(error code -32601) method 'Venus.X' not found"}
        text = json.dumps({"jsonrpc": "2.0", "id": body["id"], "error": error})
        return web.Response(status=500, text=text)

    async def scenario() -> None:
        async with manager(not_found) as url, client_of(url) as client:
            with pytest.raises(RpcError) as failed:
                await client.wdpost_heartbeat_jobs(["job"], "w1")
            assert failed.value.code == -32601
            assert client.up, "a manager that answers with an error is there"
            assert client.last_error

    asyncio.run(scenario())


def test_a_header_that_can_not_be_sent_is_named() -> None:
    async def scenario() -> None:
        async with manager(nothing) as url:
            client = ManagerClient(parse_address(url), headers={"X-Farm": "a\nb"})
            with pytest.raises(RpcError) as failed:
                await client.report_finalized(SECTOR)
            await client.close()
            assert "headers" in failed.value.next_step

    asyncio.run(scenario())


def test_observers_see_every_finished_call() -> None:
    seen: list[tuple[str, bool, RpcError | None]] = []

    async def scenario() -> None:
        async with manager(nothing) as url, client_of(url) as client:
            client.observers.append(lambda method, seconds, error: seen.append((method, seconds >= 0, error)))
            await client.report_finalized(SECTOR)
            with pytest.raises(RpcError) as failed:
                await client.assign_ticket(SECTOR)
            assert seen == [("ReportFinalized", True, None), ("AssignTicket", True, failed.value)]
            assert client.last_ok_at is not None

    asyncio.run(scenario())
