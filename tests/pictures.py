"""Takes the pictures of the documentation: a real worker with real sectors, held still for a moment.

``python -m tests.pictures DIRECTORY``, or ``make docs-pictures``. External processors are stopped with
SIGSTOP while they compute, so that a moment of a busy day can be looked at for as long as it takes.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.text import Text

from damocles_worker.demo.processes import free_port
from tests import browser
from tests.e2e.cluster import Cluster, cluster

#: Seconds for each scene to come about.
PATIENCE = 180.0
WIDTH = 1200

CONFIG = """\
[worker]
name = "sealer-07"
rpc_server.host = "127.0.0.1"
rpc_server.port = {port}
[sector_manager]
rpc_client.addr = "{manager}"
[sealing]
rpc_polling_interval = "200ms"
recover_interval = "5s"
{threads}
[[sealing_thread]]
plan = "wdpost"
[[attached]]
name = "persist"
location = "{root}/persist"
[processors.limitation.concurrent]
pc1 = 1
c2 = 1
[processors.ext_locks]
gpu0 = 1
[[processors.pc1]]
concurrent = 1
[[processors.c2]]
concurrent = 1
locks = ["gpu0"]
"""
THREAD = """
[[sealing_thread]]
location = "{root}/nvme{index}"
sealing.enable_deals = {deals}
"""
#: The thread with deals, whose piece can't be had.
WITH_DEALS = 4

#: A terminal without anything from elsewhere; braces are those of :meth:`str.format`.
TERMINAL = """\
<svg class="rich-terminal" viewBox="0 0 {width} {height}" xmlns="http://www.w3.org/2000/svg">
<style>
.{unique_id}-matrix {{
  font: {char_height}px ui-monospace, Menlo, Consolas, monospace; line-height: {line_height}px;
}}
{styles}
</style>
<defs>
<clipPath id="{unique_id}-clip-terminal">
<rect x="0" y="0" width="{terminal_width}" height="{terminal_height}"/>
</clipPath>
{lines}
</defs>
{chrome}
<g transform="translate({terminal_x}, {terminal_y})" clip-path="url(#{unique_id}-clip-terminal)">
{backgrounds}
<g class="{unique_id}-matrix">
{matrix}
</g>
</g>
</svg>
"""


def take(directory: Path, program: str) -> None:
    """Write all pictures into ``directory``."""
    directory.mkdir(exist_ok=True)
    with (
        tempfile.TemporaryDirectory(prefix="sealer-") as root,
        busy_worker(Path(root)) as running,
        stopped_in_the_middle(running),
    ):
        picture_of_list(running, directory / "worker-list.svg")
        running.order({"method": "piecestore", "action": "http502", "count": None})
        running.call("WorkerResume", WITH_DEALS, None)
        wait(running, lambda: running.threads()[WITH_DEALS]["last_error"], "an error")
        asyncio.run(pictures_of_page(running, directory, program))


@contextlib.contextmanager
def busy_worker(root: Path) -> Iterator[Cluster]:
    """A worker with sectors of 8 MiB in several stages."""
    with cluster(
        root, "--sector-size", "8MiB", "--sectors", "5", "--deals", "every", "--worker-prover"
    ) as running:
        running.port = free_port()
        threads = "".join(
            THREAD.format(root=root, index=index, deals=str(index == WITH_DEALS).lower())
            for index in range(WITH_DEALS + 1)
        )
        running.config_text = CONFIG.format(
            port=running.port, manager=running.devnet_url, root=root, threads=threads
        )
        running.start_worker()
        wait(running, running.threads, "the worker")
        yield running


@contextlib.contextmanager
def stopped_in_the_middle(running: Cluster) -> Iterator[None]:
    """Two sectors at C2, one in the middle of PC1 and one that waits for it; the processors stand still."""
    for index in (2, 3, WITH_DEALS):
        running.call("WorkerPause", index)
    children = {child["stage"]: child["pid"] for child in running.call("WorkerProcessors")}
    os.kill(children["c2"], signal.SIGSTOP)
    try:
        wait(running, lambda: [stage_of(running, index) for index in (0, 1)] == ["C2", "C2"], "two C2")
        wait(running, lambda: paused(running, 2) and paused(running, 3), "two pauses")
        running.call("WorkerResume", 2, None)
        wait(running, lambda: in_the_middle_of_pc1(running, 2), "progress of PC1", pause=0.01)
        os.kill(children["pc1"], signal.SIGSTOP)
        running.call("WorkerResume", 3, None)
        wait(running, lambda: running.threads()[3]["thread_state"]["state"] == "Waiting", "who waits for PC1")
        yield
    finally:
        for pid in children.values():
            os.kill(pid, signal.SIGCONT)


def stage_of(running: Cluster, index: int) -> str | None:
    stage: str | None = running.threads()[index]["job_stage"]
    return stage


def in_the_middle_of_pc1(running: Cluster, index: int) -> bool:
    thread = running.threads()[index]
    done, total = thread["progress"] or (0, 0)
    return bool(thread["job_stage"] == "PC1" and 0 < done < total)


def paused(running: Cluster, index: int) -> bool:
    return bool(running.threads()[index]["thread_state"]["state"] == "Paused")


def wait(running: Cluster, done: Callable[[], Any], what: str, pause: float = 0.1) -> None:
    deadline = time.monotonic() + PATIENCE
    while not done():
        running.alive()
        if time.monotonic() > deadline:
            raise SystemExit(f"{what} not within {PATIENCE:g} s; log:\n{running.log[-4000:]}")
        time.sleep(pause)


def picture_of_list(running: Cluster, path: Path) -> None:
    """``worker list`` as a terminal shows it."""
    command = ["damocles-worker", "worker", "list"]
    printed = subprocess.run(
        [sys.executable, "-m", "damocles_worker", "worker", "-H", f"127.0.0.1:{running.port}", "list"],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    ).stdout
    width = max(len(line) for line in printed.splitlines())
    with open(os.devnull, "w") as nowhere:
        console = Console(record=True, width=width, file=nowhere)
        console.print(Text(f"$ {' '.join(command)}", style="bold"))
        console.print(Text(printed.rstrip()))
        svg = console.export_svg(title="", code_format=TERMINAL, unique_id="list")
    path.write_text(svg)


async def pictures_of_page(running: Cluster, directory: Path, program: str) -> None:
    """The status page in light and in dark."""
    async with browser.tab(program) as tab:
        await tab.look("light", WIDTH, 800)
        await tab.open(f"http://127.0.0.1:{running.port}/")
        height = await tab.evaluate("document.documentElement.scrollHeight")
        for scheme in ("light", "dark"):
            await tab.look(scheme, WIDTH, height)
            (directory / f"status-{scheme}.png").write_bytes(await tab.picture())


if __name__ == "__main__":
    found = browser.program()
    if found is None:
        raise SystemExit("the pictures are taken with Chromium; install it with: apt-get install chromium")
    take(Path(sys.argv[1]), found)
