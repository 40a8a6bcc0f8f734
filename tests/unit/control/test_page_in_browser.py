"""The status page in a real browser: with and without scripts, light and dark, wide and narrow."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from damocles_worker.control.server import ControlServer
from damocles_worker.sealing.info import ThreadInfo
from tests import browser
from tests.browser import Tab
from tests.unit.control.snapshots import child, reader, thread

PROGRAM = browser.program()
pytestmark = pytest.mark.skipif(
    PROGRAM is None, reason="no Chromium on this machine; install it with: apt-get install chromium"
)

NASTY = "<img src=x onerror='document.title=1'>"
THREADS = "document.getElementById('threads').closest('section')"


class Shown:
    """A page that is served, and what it says of the threads."""

    def __init__(self) -> None:
        self.threads = [thread(0), thread(1, state="Paused", progress=None, last_error=NASTY)]
        self.server = ControlServer([], "v", reader(self._now, processors=[child()]))
        self.url = ""

    def _now(self) -> list[ThreadInfo]:
        return self.threads


def browse(steps: Callable[[Tab, Shown], Coroutine[Any, Any, None]]) -> None:
    """Take steps in a browser that has a served page; it must not complain about the page."""

    async def run() -> None:
        assert PROGRAM is not None
        shown = Shown()
        shown.url = f"http://127.0.0.1:{await shown.server.start('127.0.0.1', 0)}/"
        try:
            async with browser.tab(PROGRAM) as tab:
                await steps(tab, shown)
        finally:
            await shown.server.stop()

    asyncio.run(run())


def test_it_is_live_and_says_when_the_worker_is_gone() -> None:
    async def steps(tab: Tab, shown: Shown) -> None:
        await tab.open(shown.url)
        assert await tab.evaluate("document.title") == "1 error · 1/2 running · w1"
        # What stays is not made anew: a selection, the focus and the scroll position survive.
        await tab.evaluate("window.kept = document.querySelector('#thread-0 td'); window.kept !== null")
        shown.threads = [
            thread(0, job_state="PC1Done", job_stage="PC2", progress=(3, 4)),
            thread(2, state="Waiting"),
        ]
        await tab.wait("document.getElementById('thread-0').textContent.includes('PC2')")
        assert await tab.evaluate("document.querySelector('#thread-0 progress').value") == 3
        assert await tab.evaluate("document.querySelector('#thread-0 td') === window.kept")
        assert await tab.evaluate("document.getElementById('thread-1') === null")
        assert await tab.evaluate("document.getElementById('thread-2').textContent.includes('Waiting')")
        assert await tab.evaluate("document.body.textContent.includes('No errors.')")
        assert tab.complaints == []
        assert await tab.evaluate("document.getElementById('offline').hidden")
        await shown.server.stop()
        await tab.wait("document.getElementById('offline').offsetHeight > 0")
        assert "has not answered since" in await tab.evaluate(
            "document.getElementById('offline').textContent"
        )

    browse(steps)


def test_without_scripts_it_is_a_table_that_loads_itself_again() -> None:
    async def steps(tab: Tab, shown: Shown) -> None:
        await tab.send("Emulation.setScriptExecutionDisabled", value=True)
        await tab.open(shown.url)
        assert await tab.evaluate(f"{THREADS}.querySelectorAll('tbody tr').length") == 2
        shown.threads = [thread(5)]
        await tab.wait("document.getElementById('thread-5') !== null")

    browse(steps)


def test_it_can_be_read_by_machines_on_narrow_screens_and_in_the_dark() -> None:
    async def steps(tab: Tab, shown: Shown) -> None:
        await tab.look("light", 1280, 900)
        await tab.open(shown.url)
        light = await tab.evaluate("getComputedStyle(document.body).backgroundColor")
        assert await tab.evaluate("document.querySelectorAll('#page img').length") == 0
        await tab.look("dark", 360, 800)
        assert await tab.evaluate("getComputedStyle(document.body).backgroundColor") != light
        assert await tab.evaluate("document.documentElement.scrollWidth <= innerWidth")
        # Laid out as blocks it is a table all the same for those who have it read out.
        nodes = (await tab.send("Accessibility.getFullAXTree"))["nodes"]
        seen = [
            (node["role"]["value"], node.get("name", {}).get("value")) for node in nodes if "role" in node
        ]
        assert ("table", "Sealing threads") in seen and ("heading", "w1") in seen
        assert ("image", "step 5 of 16") in seen and ("progressbar", "25%") in seen
        assert ("columnheader", "Stage") in seen and ("rowheader", "0 /mnt/s0") in seen
        assert tab.complaints == []

    browse(steps)
