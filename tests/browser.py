"""A headless Chromium, steered over its DevTools protocol: for the status page and its pictures."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import itertools
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp

#: Names that distributions give the program.
_PROGRAMS = ("chromium", "chromium-browser", "google-chrome")
#: Seconds for the browser to start or to answer; a loaded machine takes a while.
_PATIENCE = 90.0


def program() -> str | None:
    """The browser of this machine, or None."""
    return next((found for name in _PROGRAMS if (found := shutil.which(name))), None)


class Tab:
    """One tab. ``complaints`` collects what the page or its policy complains about on the console."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._socket = socket
        self._numbers = itertools.count(1)
        self._answers: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self.complaints: list[str] = []

    async def listen(self) -> None:
        """Take answers and events until the browser goes."""
        async for message in self._socket:
            body = message.json()
            if "id" in body:
                self._answers.pop(body["id"]).set_result(body)
            elif body["method"] == "Log.entryAdded":
                entry = body["params"]["entry"]
                self.complaints.append(f"{entry['text']} ({entry.get('url', '-')})")
            elif body["method"] == "Runtime.exceptionThrown":
                self.complaints.append(str(body["params"]["exceptionDetails"]))

    async def send(self, method: str, **params: Any) -> dict[str, Any]:
        """A command of the protocol; its result."""
        number = next(self._numbers)
        answer: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        self._answers[number] = answer
        await self._socket.send_json({"id": number, "method": method, "params": params})
        body = await asyncio.wait_for(answer, _PATIENCE)
        if "error" in body:
            raise RuntimeError(f"{method}: {body['error']}")
        found: dict[str, Any] = body["result"]
        return found

    async def evaluate(self, expression: str) -> Any:
        """The value of a JavaScript expression in the page."""
        answer = await self.send("Runtime.evaluate", expression=expression, returnByValue=True)
        if "exceptionDetails" in answer:
            raise RuntimeError(f"{expression}: {answer['exceptionDetails']}")
        return answer["result"].get("value")

    async def wait(self, expression: str) -> None:
        """Wait until a JavaScript expression holds."""
        deadline = time.monotonic() + _PATIENCE
        while not await self.evaluate(expression):
            if time.monotonic() > deadline:
                raise AssertionError(f"not in {_PATIENCE:g} s: {expression}")
            await asyncio.sleep(0.05)

    async def open(self, url: str) -> None:
        """Go to a page and wait until it is there."""
        await self.send("Page.navigate", url=url)
        await self.wait(f"document.readyState === 'complete' && location.href.startsWith('{url}')")

    async def look(self, scheme: str, width: int, height: int) -> None:
        """``light`` or ``dark``, and the size of the window in pixels."""
        feature = {"name": "prefers-color-scheme", "value": scheme}
        await self.send("Emulation.setEmulatedMedia", features=[feature])
        await self.send(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=False,
        )

    async def picture(self) -> bytes:
        """What the window shows, as PNG."""
        answer = await self.send("Page.captureScreenshot", format="png")
        return base64.b64decode(answer["data"])


@contextlib.asynccontextmanager
async def tab(browser: str) -> AsyncIterator[Tab]:
    """Start a browser with an empty profile and one tab; both are gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="browser-", ignore_cleanup_errors=True) as profile:
        process = await asyncio.create_subprocess_exec(
            browser, "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
            "--no-first-run", "--disable-extensions", "--disable-background-networking",
            "--no-proxy-server", "--remote-debugging-port=0", f"--user-data-dir={profile}", "about:blank",
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "HOME": profile},
            start_new_session=True,
        )  # fmt: skip
        try:
            async with aiohttp.ClientSession() as session:
                async with session.get(f"{await _address(Path(profile), process)}/json/list") as answer:
                    target = next(one for one in await answer.json() if one["type"] == "page")
                async with session.ws_connect(target["webSocketDebuggerUrl"], max_msg_size=0) as socket:
                    opened = Tab(socket)
                    listening = asyncio.create_task(opened.listen())
                    for domain in ("Page", "Runtime", "Log"):
                        await opened.send(f"{domain}.enable")
                    yield opened
                    await socket.close()
                    await listening
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGTERM)
            await process.wait()


async def _address(profile: Path, process: asyncio.subprocess.Process) -> str:
    deadline = time.monotonic() + _PATIENCE
    port = profile / "DevToolsActivePort"
    while not port.exists() or not port.read_text().strip():
        if process.returncode is not None or time.monotonic() > deadline:
            raise AssertionError(f"the browser did not start (exit status {process.returncode})")
        await asyncio.sleep(0.05)
    return f"http://127.0.0.1:{port.read_text().split()[0]}"
