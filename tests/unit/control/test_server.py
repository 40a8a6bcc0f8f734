"""The control server on its wire: what the manager's CLI and scripts send and read."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, cast

import aiohttp
import pytest

from damocles_worker.config.settings import Thread
from damocles_worker.control.server import ControlServer
from damocles_worker.errors import WorkerError
from damocles_worker.journal import HistoryRow, Journal
from damocles_worker.sealing.thread import SealingThread, ThreadInfo
from tests.unit.control.snapshots import reader


class StubThread:
    """A sealing thread as the server sees one."""

    def __init__(self, index: int, info: dict[str, Any], store: Any = None) -> None:
        self.config = Thread(index=index)
        self.store = store
        self.resumed: list[str | None] = []
        self.drained = False
        self._info = ThreadInfo(
            **{
                "index": index, "location": "/data/s1", "plan": "sealer", "job_id": "s-t010000-2",
                "job_state": "C1Done", "job_stage": "C2", "state": "Running", "elapsed": 63.9,
                "processor": "builtin C2", "last_error": None, "progress": None, **info,
            }
        )  # fmt: skip

    def info(self) -> ThreadInfo:
        return self._info

    def history(self, limit: int) -> list[HistoryRow]:
        rows: list[HistoryRow] = self.store.journal.history(limit)
        return rows

    def pause(self) -> bool:
        return True

    def drain(self) -> None:
        self.drained = True

    def resume(self, state: str | None) -> str | None:
        self.resumed.append(state)
        return "state X can't be set. Possible now: Empty" if state == "X" else None


Post = Callable[..., Coroutine[Any, Any, tuple[int, Any]]]


def serve(threads: list[StubThread], conversation: Callable[[Post], Coroutine[Any, Any, None]]) -> None:
    """Run a conversation with a server on a free port."""

    async def run() -> None:
        status = reader([thread.info() for thread in threads])
        server = ControlServer(cast(list[SealingThread], threads), "v0.1.0-test", status)
        port = await server.start("127.0.0.1", 0)
        async with aiohttp.ClientSession() as session:

            async def post(
                body: Any, path: str = "/", content_type: str = "application/json"
            ) -> tuple[int, Any]:
                data = body if isinstance(body, bytes) else json.dumps(body).encode()
                url = f"http://127.0.0.1:{port}{path}"
                async with session.post(url, data=data, headers={"Content-Type": content_type}) as answer:
                    text = await answer.text()
                    return answer.status, json.loads(text) if text.startswith(("{", "[")) else text

            await conversation(post)
        await server.stop()

    asyncio.run(run())


def request(method: str, *params: Any, identity: Any = 1) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": identity, "method": f"VenusWorker.{method}", "params": list(params)}


def test_worker_list_has_the_keys_the_managers_cli_reads() -> None:
    async def talk(post: Post) -> None:
        status, answer = await post({**request("WorkerList"), "meta": {"SpanContext": "x"}}, path="/any/path")
        assert status == 200 and answer["id"] == 1
        running, idle = answer["result"]
        assert running == {
            "location": "/data/s1", "plan": "sealer", "job_id": "s-t010000-2", "index": 0,
            "thread_state": {"state": "Running", "elapsed": 63, "proc": "builtin C2"},
            "job_state": "C1Done", "job_stage": "C2", "last_error": None, "progress": None,
            "elapsed": 63, "eta": None, "draining": False,
        }  # fmt: skip
        assert idle["thread_state"] == {"state": "Idle"} and idle["job_id"] is None

    serve([StubThread(0, {}), StubThread(1, {"state": "Idle", "job_id": None})], talk)


def test_pause_and_resume_as_the_managers_cli_sends_them() -> None:
    thread = StubThread(3, {"state": "Paused"})

    async def talk(post: Post) -> None:
        assert (await post(request("WorkerPause", 3)))[1]["result"] is True
        assert (await post(request("WorkerResume", 3, None)))[1]["result"] is True
        assert (await post(request("WorkerResume", 3, "TreeDBuilt", identity="abc")))[1]["id"] == "abc"
        refused = (await post(request("WorkerResume", 3, "X")))[1]["error"]
        assert refused["code"] == -32602 and "Possible now" in refused["message"]
        assert thread.resumed == [None, "TreeDBuilt", "X"]

    serve([thread], talk)


def test_a_state_for_a_thread_that_is_not_paused_is_no_error_but_one_that_no_plan_has_is() -> None:
    class Running(StubThread):
        def resume(self, state: str | None) -> str | None:
            return "the thread is not paused"

    async def talk(post: Post) -> None:
        assert (await post(request("WorkerResume", 0)))[1]["result"] is False
        assert (await post(request("WorkerResume", 0, "Aborted")))[1]["result"] is False
        refused = (await post(request("WorkerResume", 0, "Nonsense")))[1]["error"]
        assert refused["code"] == -32602 and "unknown state Nonsense" in refused["message"]

    serve([Running(0, {})], talk)


@pytest.mark.parametrize(
    ("body", "code", "text"),
    [
        (request("WorkerPause", 9), -32602, "worker #9 not found"),
        (request("WorkerPause"), -32602, "index"),
        (request("WorkerPause", True), -32602, "index"),
        (request("WorkerPause", "0"), -32602, "index"),
        (request("WorkerResume", 0, 7), -32602, "state name"),
        (request("WorkerSetEnv", "A=B", "x"), -32602, "variable name"),
        (request("WorkerSetEnv", "A", 1), -32602, "must be a string"),
        (request("NoSuch"), -32601, "WorkerList"),
        ({"id": 1, "method": "WorkerList"}, -32601, "Method not found"),
        ({"id": 1, "method": 5}, -32600, "Invalid request"),
        ({**request("WorkerList"), "params": {"a": 1}}, -32602, "array"),
        (b"{", -32700, "Parse error"),
        (b"\xff\xfe", -32700, "Parse error"),
        (b"[" * 100_000 + b"]" * 100_000, -32700, "Parse error"),
        (b'{"a":' * 100_000, -32700, "Parse error"),
        ([], -32600, "Invalid request"),
    ],
)
def test_bad_requests_are_answered_with_the_reason(body: Any, code: int, text: str) -> None:
    async def talk(post: Post) -> None:
        _, answer = await post(body)
        assert answer["error"]["code"] == code and text in answer["error"]["message"]

    serve([StubThread(0, {})], talk)


def test_batches_notifications_and_content_types() -> None:
    async def talk(post: Post) -> None:
        _, answers = await post([request("WorkerVersion", identity=7), request("WorkerList", identity=8)])
        assert [answer["id"] for answer in answers] == [7, 8] and answers[0]["result"] == "v0.1.0-test"
        notification = {"jsonrpc": "2.0", "method": "VenusWorker.WorkerVersion", "params": []}
        assert await post(notification) == (200, "")
        assert (await post(request("WorkerList"), content_type="text/plain"))[0] == 415

    serve([StubThread(0, {})], talk)


def test_the_environment_is_changed_on_loopback(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DUMP_ERR_RESP_1", raising=False)

    async def talk(post: Post) -> None:
        assert (await post(request("WorkerSetEnv", "DUMP_ERR_RESP_1", "/tmp")))[1]["result"] is None
        assert os.environ["DUMP_ERR_RESP_1"] == "/tmp"
        await post(request("WorkerRemoveEnv", "DUMP_ERR_RESP_1"))
        assert "DUMP_ERR_RESP_1" not in os.environ

    serve([], talk)


def test_the_environment_is_not_changed_from_another_host(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("damocles_worker.control.server._is_loopback", lambda _remote: False)

    async def talk(post: Post) -> None:
        _, answer = await post(request("WorkerSetEnv", "LD_PRELOAD", "evil.so"))
        assert "loopback" in answer["error"]["message"] and "LD_PRELOAD" not in os.environ
        assert (await post(request("WorkerList")))[1]["result"] == []

    serve([], talk)


def test_history_is_the_newest_rows_in_order(tmp_path: Path) -> None:
    journal = Journal.open(tmp_path)
    for number in range(5):
        journal.commit(b"{}", sector="s-t01-1", event=f"E{number}", state="S", detail="")

    class Store:
        def __init__(self) -> None:
            self.journal = journal

    async def talk(post: Post) -> None:
        _, answer = await post(request("WorkerHistory", 0, 2))
        assert [row["event"] for row in answer["result"]] == ["E3", "E4"]

    serve([StubThread(0, {}, Store())], talk)
    journal.close()


def test_a_port_in_use_is_named() -> None:
    async def run() -> None:
        first = ControlServer([], "v", reader([]))
        port = await first.start("127.0.0.1", 0)
        with pytest.raises(WorkerError, match=str(port)):
            await ControlServer([], "v", reader([])).start("127.0.0.1", port)
        await first.stop()

    asyncio.run(run())


def test_a_drain_reaches_every_thread_and_answers_what_is_still_to_finish() -> None:
    threads = [StubThread(0, {}), StubThread(1, {"index": 1, "job_id": None})]

    async def talk(post: Post) -> None:
        _, answer = await post(request("WorkerDrain"))
        assert [busy["job_id"] for busy in answer["result"]] == ["s-t010000-2"]

    serve(threads, talk)
    assert all(thread.drained for thread in threads)


def test_get_shows_the_status_page_and_its_facts_and_nothing_else() -> None:
    async def look() -> None:
        server = ControlServer([], "v", reader([StubThread(0, {}).info()]))
        port = await server.start("127.0.0.1", 0)
        async with aiohttp.ClientSession(f"http://127.0.0.1:{port}") as session:
            async with session.get("/") as answer:
                assert answer.status == 200 and answer.content_type == "text/html"
                assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
                assert answer.headers["Cache-Control"] == "no-store"
                assert "s-t010000-2" in await answer.text()
            async with session.head("/") as answer:
                assert answer.status == 200
            async with session.get("/status.json") as answer:
                assert answer.headers["X-Content-Type-Options"] == "nosniff"
                facts = await answer.json()
                assert facts["threads"][0]["job_id"] == "s-t010000-2" and facts["manager_up"] is True
            for path in ("/other", "/rpc/v0"):
                async with session.get(path) as answer:
                    assert answer.status == 405
            async with session.put("/", data=b"{}") as answer:
                assert answer.status == 405
        await server.stop()

    asyncio.run(look())
