"""A real daemon and a real devnet as separate processes, for the end-to-end tests."""

from __future__ import annotations

import contextlib
import json
import re
import signal
import subprocess
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from damocles_worker.control.client import call
from damocles_worker.demo import processes
from damocles_worker.errors import UsageError
from damocles_worker.journal import HistoryRow, read_history
from tests.clear import unclear
from tests.e2e.points import Kill

#: A C2 of 2 KiB is up to 70 CPU seconds; these machines have two cores and other work.
SECTOR_TIMEOUT = 600.0
C2_STARTED = ": c2 started"
SNAP_STARTED = ": snap_prove started"

#: ``last_error`` of a thread that stopped: level, cause, next step.
FAILURE_TEXT = re.compile(r"(permanent|critical): \S.*\. [A-Z].*")

CONFIG = """\
[worker]
name = "e2e"
rpc_server.host = "127.0.0.1"
rpc_server.port = {port}
{worker_keys}
[sector_manager]
rpc_client.addr = "{manager}"
piece_token = "open-sesame"
[sealing]
enable_deals = true
seal_interval = "500ms"
recover_interval = "300ms"
rpc_polling_interval = "200ms"
{sealing}
[[sealing_thread]]
plan = "{plan}"
{location}
[[attached]]
name = "persist"
location = "{persist}"
{readonly}
{more_stores}
"""


def children(*stages: str) -> str:
    """An external processor of this program for each of ``stages``."""
    return "".join(f'[[processors.{stage}]]\nstable_wait = "60s"\n' for stage in stages)


@dataclass
class Cluster:
    """One devnet with one persist store, and one worker that may be killed and started again."""

    root: Path
    devnet_url: str
    sealing: str = ""
    plan: str = "sealer"
    #: Attached beside the persist store, by name.
    more_stores: dict[str, Path] = field(default_factory=dict)
    #: More lines of ``[worker]``.
    worker_keys: str = ""
    #: Attach the persist store for reading only.
    readonly: bool = False
    worker: subprocess.Popen[bytes] | None = None
    port: int = 0
    lives: int = 0
    #: The lives that ended at a write.
    kills: list[Kill] = field(default_factory=list)
    environment: dict[str, str] = field(default_factory=dict)
    #: How the worker and the devnet are started, where that is another program than this one.
    program: Sequence[str | Path] = ()
    #: Used instead of the usual configuration.
    config_text: str = ""

    @property
    def store(self) -> Path:
        return self.root / "store"

    @property
    def persist(self) -> Path:
        return self.root / "persist"

    @property
    def log(self) -> str:
        return (self.root / "worker.log").read_text()

    def write_config(self) -> Path:
        """Write the worker's configuration; answers its path."""
        self.port = self.port or processes.free_port()
        config = self.root / "worker.toml"
        config.write_text(
            self.config_text
            or CONFIG.format(
                port=self.port,
                manager=self.devnet_url,
                plan=self.plan,
                location="" if self.plan == "wdpost" else f'location = "{self.store}"',
                persist=self.persist,
                readonly="readonly = true" if self.readonly else "",
                sealing=self.sealing,
                worker_keys=self.worker_keys,
                more_stores="\n".join(
                    f'[[attached]]\nname = "{name}"\nlocation = "{path}"'
                    for name, path in self.more_stores.items()
                ),
            )
        )
        return config

    def start_worker(self, **environment: str) -> None:
        """Start the worker; every life appends to the same log."""
        config = self.write_config()
        self.lives += 1
        environment = {**self.environment, **environment}
        self.worker = processes.start_worker(config, environment=environment, program=self.program)

    def kill(self) -> None:
        """kill -9, as the out-of-memory killer or a power cut would."""
        assert self.worker is not None
        self.worker.send_signal(signal.SIGKILL)
        self.worker.wait()

    def terminate(self) -> int:
        """SIGTERM; answers the exit status. The contract is an exit within 10 seconds."""
        assert self.worker is not None
        self.worker.terminate()
        return self.worker.wait(10)

    def alive(self) -> None:
        """Fail with the worker's log when it has ended."""
        assert self.worker is not None
        if self.worker.poll() is not None:
            raise AssertionError(f"the worker ended with {self.worker.returncode}:\n{self.log[-4000:]}")

    def threads(self) -> list[dict[str, Any]]:
        """``worker list``; empty while the worker does not listen."""
        with contextlib.suppress(UsageError):
            found: list[dict[str, Any]] = call(f"127.0.0.1:{self.port}", "WorkerList")
            return found
        return []

    def processor(self, path: str) -> dict[str, Any]:
        """What the worker says of the external processor ``path``, ``pc1[0]``."""
        found: list[dict[str, Any]] = self.call("WorkerProcessors")
        return next(one for one in found if one["path"] == f"processors.{path}")

    def children_left(self) -> list[int]:
        """Processes of external processors, of all lives so far, that are still there."""
        pids = {int(pid) for pid in re.findall(r"ext\(pid: (\d+)\) is ready", self.log)}
        return sorted(pid for pid in pids if Path(f"/proc/{pid}/exe").exists())

    def call(self, method: str, *params: Any) -> Any:
        """A control call to the worker."""
        return call(f"127.0.0.1:{self.port}", method, *params)

    def state(self) -> dict[str, Any]:
        """What the devnet knows."""
        with urllib.request.urlopen(f"{self.devnet_url}/devnet/state", timeout=10) as answer:
            found: dict[str, Any] = json.load(answer)
            return found

    def sector(self, number: int = 1) -> dict[str, Any]:
        """What the devnet knows of one sector."""
        return next((s for s in self.state()["sectors"] if s["number"] == number), {})

    def order(self, *rules: dict[str, Any]) -> None:
        """Order faults at the devnet."""
        self._post("faults", list(rules))

    def clear_faults(self) -> None:
        """Order no more faults."""
        request = urllib.request.Request(f"{self.devnet_url}/devnet/faults", method="DELETE")
        urllib.request.urlopen(request, timeout=10).close()

    def import_sector(self, sector: dict[str, Any]) -> None:
        """Make a sealed sector known to the devnet."""
        self._post("sectors", sector)

    def order_work(self, **order: Any) -> None:
        """Queue a task at the devnet."""
        self._post("work", order)

    def _post(self, what: str, body: Any) -> None:
        request = urllib.request.Request(
            f"{self.devnet_url}/devnet/{what}",
            json.dumps(body).encode(),
            {"Content-Type": "application/json"},
            method="POST",
        )
        urllib.request.urlopen(request, timeout=10).close()

    def history(self) -> list[HistoryRow]:
        """The journal's rows, read beside the daemon."""
        return read_history(self.store / "meta") if (self.store / "meta/journal.db").exists() else []

    def finalized(self, number: int = 1) -> bool:
        """Whether the devnet has verified and finalized the sector."""
        sector = self.sector(number)
        return bool(sector and sector["finalized"] and sector["proof_verified"])

    def wait(self, done: Callable[[], Any], timeout: float = 60.0, what: str = "") -> None:
        """Wait until ``done`` holds, while the worker lives."""
        deadline = time.monotonic() + timeout
        while not done():
            self.alive()
            if time.monotonic() > deadline:
                raise AssertionError(f"{what or done} not within {timeout} s; log:\n{self.log[-4000:]}")
            time.sleep(0.05)


@contextlib.contextmanager
def cluster(
    root: Path,
    *devnet_options: str,
    sealing: str = "",
    plan: str = "sealer",
    program: Sequence[str | Path] = (),
) -> Iterator[Cluster]:
    """A devnet with one persist store below ``root``; everything is ended with the context."""
    devnet, url = processes.start_devnet(root, "--epoch-seconds", "0.2", *devnet_options, program=program)
    running = Cluster(root, url, sealing, plan, program=program)
    try:
        yield running
        _check_messages(running)
    finally:
        if running.worker is not None and running.worker.poll() is None:
            running.kill()
        processes.stop(devnet)
        assert devnet.stdout is not None
        devnet.stdout.close()


def _check_messages(running: Cluster) -> None:
    """Whatever stopped a task said what happened and what to do, on one line, and nothing broke down."""
    for row in running.history():
        if row.event == "Pause":
            assert FAILURE_TEXT.fullmatch(row.detail), f"no cause or no next step: {row.detail!r}"
            cause, _, next_step = row.detail.rpartition(". ")
            problem = unclear(cause, next_step)
            assert problem is None, f"{problem}: {row.detail!r}"
    log = running.root / "worker.log"
    assert not log.exists() or "Traceback" not in log.read_text(), running.log[-4000:]


def commitments(cluster: Cluster, number: int = 1) -> tuple[str, str]:
    """comm_d and comm_r of a sector, as the devnet accepted them."""
    sector = cluster.sector(number)
    return sector["comm_d"], sector["comm_r"]
