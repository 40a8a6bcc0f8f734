"""Run the demonstration from nothing to two verified proofs."""

from __future__ import annotations

import json
import subprocess
import tempfile
import time
import urllib.request
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from damocles_worker import params
from damocles_worker.control.client import call
from damocles_worker.demo import processes
from damocles_worker.demo.view import StageView, stage_times
from damocles_worker.errors import UsageError

SECTOR_SIZE = 2048
SECTORS = 2
POLL = 0.25

CONFIG = """\
# Written by `damocles-worker demo`; try `damocles-worker config check` on it.
[worker]
name = "demo"
rpc_server.host = "127.0.0.1"
rpc_server.port = {port}

[sector_manager]
rpc_client.addr = "{manager}"

[sealing]
enable_deals = true
seal_interval = "2s"
recover_interval = "2s"
rpc_polling_interval = "1s"

[[sealing_thread]]
location = "{root}/store1"

[[sealing_thread]]
location = "{root}/store2"

[[attached]]
name = "persist"
location = "{root}/persist"

# One proof at a time: a second one would need the memory of the first again.
[processors.limitation.concurrent]
c2 = 1
"""


@dataclass(frozen=True)
class Running:
    """What is asked while the demonstration runs."""

    root: Path
    devnet_url: str
    control: str
    worker: subprocess.Popen[bytes]

    def sectors(self) -> list[dict[str, Any]]:
        """What the manager knows of its sectors."""
        with urllib.request.urlopen(f"{self.devnet_url}/devnet/state", timeout=10) as answer:
            found: list[dict[str, Any]] = json.load(answer)["sectors"]
            return found

    def threads(self) -> list[dict[str, Any]]:
        """``worker list``; empty until the worker listens.

        :raises UsageError: the worker has ended.
        """
        if self.worker.poll() is not None:
            log = (self.root / "worker.log").read_text()[-2000:]
            raise UsageError(f"the worker ended with status {self.worker.returncode}:\n{log}")
        with suppress(UsageError):
            threads: list[dict[str, Any]] = call(self.control, "WorkerList")
            return threads
        return []


def run_demo(directory: Path | None) -> int:
    """Seal a sector without deals and one with; answers the exit status."""
    started = time.monotonic()
    _ensure_parameters()
    root = directory or Path(tempfile.mkdtemp(prefix="damocles-demo-"))
    root.mkdir(parents=True, exist_ok=True)
    click.echo(
        f"Sealing {SECTORS} sectors of 2 KiB in {root}; each C2 proof takes a quarter of a CPU minute to one."
    )
    devnet, url = processes.start_devnet(
        root, "--sectors", str(SECTORS), "--deals", "alternate", "--epoch-seconds", "1"
    )
    try:
        port = processes.free_port()
        control = f"127.0.0.1:{port}"
        config = root / "worker.toml"
        config.write_text(CONFIG.format(port=port, manager=url, root=root))
        worker = processes.start_worker(config)
        running = Running(root, url, control, worker)
        try:
            sectors = _watch(running)
            times = {
                thread["index"]: stage_times(call(control, "WorkerHistory", thread["index"]))
                for thread in running.threads()
            }
        finally:
            status = processes.stop(worker)
    finally:
        processes.stop(devnet)
    verified = _summary(running, sectors, {k: v for found in times.values() for k, v in found.items()})
    click.echo(f"\nDone in {time.monotonic() - started:.0f} s.")
    return 0 if verified and status == 0 else 1


def _ensure_parameters() -> None:
    for needed in params.required([SECTOR_SIZE], ["sealer"]):
        params.ensure_local(needed, say=click.echo)


def _watch(running: Running) -> list[dict[str, Any]]:
    """Show the stages until every sector is finalized or given up."""
    with StageView() as view:
        while True:
            sectors, threads = running.sectors(), running.threads()
            view.show(threads, sectors)
            ended = [sector for sector in sectors if sector["finalized"] or sector["abort_reason"]]
            if len(ended) == SECTORS:
                return sectors
            if stopped := [thread for thread in threads if stopped_for_good(thread)]:
                causes = "\n".join(f"thread {thread['index']}: {thread['last_error']}" for thread in stopped)
                raise UsageError(f"a sealing thread has stopped:\n{causes}\nlogs are in {running.root}")
            time.sleep(POLL)


def stopped_for_good(thread: dict[str, Any]) -> bool:
    """Whether a thread of ``worker list`` is paused by a cause that doesn't clear by itself."""
    error: str = thread["last_error"] or ""
    return thread["thread_state"]["state"] == "Paused" and bool(error) and "(waiting for " not in error


def _summary(running: Running, sectors: list[dict[str, Any]], times: dict[str, dict[str, float]]) -> bool:
    all_verified = True
    for sector in sectors:
        name = sector["sector"]
        deals = f"{sector['deals']} deal pieces" if sector["deals"] else "no deals"
        verified = bool(sector["proof_verified"])
        all_verified = all_verified and verified and bool(sector["finalized"])
        click.echo(f"\n{name} ({deals}): proof {'verified by the manager' if verified else 'NOT VERIFIED'}")
        click.echo(f"  comm_d  {sector['comm_d']}")
        click.echo(f"  comm_r  {sector['comm_r']}")
        stages = "  ".join(f"{stage} {seconds:.2f} s" for stage, seconds in times.get(name, {}).items())
        click.echo(f"  stages  {stages}")
        click.echo(f"  files   {running.root / 'persist' / 'sealed' / name}")
        click.echo(f"          {running.root / 'persist' / 'cache' / name}/")
    click.echo(f"\nConfiguration and logs are in {running.root}; remove it with: rm -r {running.root}")
    return all_verified
