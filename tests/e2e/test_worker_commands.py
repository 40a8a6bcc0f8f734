"""``damocles-worker worker …`` against a running daemon: which one it talks to, and what it refuses."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from damocles_worker.demo.processes import free_port
from tests.e2e.cluster import Cluster, cluster
from tests.e2e.sealed import remove, seal
from tests.e2e.test_plans import done, options

#: Hot file with a wait so long that whatever happens in these tests can't be the end of it.
LONG_WAIT = 'sealing.rpc_polling_interval = "1h"\n'


def worker(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a ``worker`` command."""
    return subprocess.run(
        [sys.executable, "-m", "damocles_worker", "worker", *arguments],
        capture_output=True,
        text=True,
        env={**os.environ, **environment},
    )


@pytest.fixture(scope="module")
def waiting(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A daemon with a rebuilt sector that waits for space, for an hour at a time."""
    root = tmp_path_factory.mktemp("commands")
    sector = seal(root, 1)
    with cluster(root, *options(root), plan="rebuild") as running:
        running.store.mkdir()
        (running.store / "config.toml").write_text(LONG_WAIT)
        running.import_sector(sector.record())
        remove(running.persist, sector)
        running.order({"method": "StoreReserveSpace", "action": "null", "count": None})
        running.order_work(plan="rebuild", number=1)
        running.start_worker()
        running.wait(lambda: running.state()["calls"].get("StoreReserveSpace"), what="the wait for space")
        yield running


def here(running: Cluster) -> str:
    return f"127.0.0.1:{running.port}"


def thread_state(running: Cluster) -> str:
    return str(running.threads()[0]["thread_state"]["state"])


def test_the_daemon_is_named_by_host_by_configuration_or_by_the_environment(waiting: Cluster) -> None:
    config = str(waiting.root / "worker.toml")
    nobody = f"127.0.0.1:{free_port()}"
    for listed in (
        worker("-H", here(waiting), "list"),
        worker("-c", config, "list"),
        worker("list", DAMOCLES_WORKER_HOST=here(waiting)),
        worker("list", DAMOCLES_WORKER_CONFIG=config),
        # A configuration wins over a host, whichever way they are given.
        worker("-H", nobody, "-c", config, "list"),
        worker("-c", config, "list", DAMOCLES_WORKER_HOST=nobody),
    ):
        assert listed.returncode == 0 and str(waiting.store) in listed.stdout, listed.stderr


@pytest.mark.parametrize(
    ("arguments", "status", "texts"),
    [
        (("-H", "127.0.0.1:{free}", "list"), 1, ("no daemon answers at 127.0.0.1:{free}", "--host")),
        (("-H", "{manager}", "list"), 1, ("{manager} is no damocles-worker", "rpc_server")),
        (("-H", "127.0.0.1:port", "list"), 1, ("'127.0.0.1:port' is no control address", "IP:PORT")),
        (("-H", ":17890", "list"), 1, ("is no control address",)),
        (("-H", "127.0.0.1:99999", "list"), 1, ("is no control address",)),
        (("-c", "/nowhere.toml", "list"), 1, ("/nowhere.toml",)),
        (("-H", "{here}", "pause"), 2, ("--index",)),
        (("-H", "{here}", "pause", "-i", "one"), 2, ("one",)),
        (("-H", "{here}", "pause", "-i", "7"), 1, ("worker #7 not found",)),
        (("-H", "{here}", "pause", "-i", "-1"), 1, ("worker #-1 not found",)),
        (("-H", "{here}", "resume", "-i", "7"), 1, ("worker #7 not found",)),
        (("-H", "{here}", "history", "-i", "7"), 1, ("worker #7 not found",)),
        (("-H", "{here}", "history", "-n", "0"), 2, ("--rows",)),
        (("history", "--store", "/nowhere"), 1, ("/nowhere/meta has no journal", "sealing store")),
        (("-H", "{here}", "drain", "now"), 2, ("now",)),
        (("-H", "{here}", "stop"), 2, ("stop",)),
    ],
)
def test_what_can_not_be_done_is_refused_in_words(
    waiting: Cluster, arguments: tuple[str, ...], status: int, texts: tuple[str, ...]
) -> None:
    names = {
        "free": str(free_port()),
        "here": here(waiting),
        "manager": waiting.devnet_url.removeprefix("http://"),
    }
    refused = worker(*(argument.format(**names) for argument in arguments))
    assert refused.returncode == status, refused.stderr
    for text in texts:
        assert text.format(**names) in refused.stderr
    assert "Traceback" not in refused.stderr and not refused.stdout


def test_a_running_thread_is_not_resumed(waiting: Cluster) -> None:
    resumed = worker("-H", here(waiting), "resume", "-i", "0")
    assert resumed.returncode == 0 and "not paused" in resumed.stdout and "done=false" in resumed.stdout
    forced = worker("-H", here(waiting), "resume", "-i", "0", "--state", "Aborted")
    assert forced.returncode == 0 and "not paused" in forced.stdout and "done=false" in forced.stdout
    unknown = worker("-H", here(waiting), "resume", "-i", "0", "--state", "Nonsense")
    assert unknown.returncode == 1 and "unknown state Nonsense" in unknown.stderr


def test_a_pause_acts_in_the_middle_of_a_wait_and_a_resume_asks_again(waiting: Cluster) -> None:
    """Also a state that can't be set leaves the task as it is; a second pause is none too many."""
    asked = waiting.state()["calls"]["StoreReserveSpace"]
    assert "requested done=true" in worker("-H", here(waiting), "pause", "-i", "0").stdout
    waiting.wait(lambda: thread_state(waiting) == "Paused", what="the pause")
    before = waiting.history()
    for state, why in (("Nonsense", "no such state"), ("SnapEncoded", "not in the task's record")):
        refused = worker("-H", here(waiting), "resume", "-i", "0", "--state", state)
        assert refused.returncode == 1 and why in refused.stderr and "PC1Done" in refused.stderr
    assert thread_state(waiting) == "Paused" and waiting.history() == before
    assert worker("-H", here(waiting), "resume", "-i", "0").returncode == 0
    waiting.wait(lambda: waiting.state()["calls"]["StoreReserveSpace"] > asked, what="the next ask")


def test_a_pause_does_not_wait_for_a_manager_that_hangs(tmp_path: Path) -> None:
    sector = seal(tmp_path, 1)
    with cluster(tmp_path, *options(tmp_path), plan="rebuild") as running:
        running.import_sector(sector.record())
        remove(running.persist, sector)
        running.order({"method": "FindSector", "action": "delay", "seconds": 50})
        running.order_work(plan="rebuild", number=1)
        running.start_worker()
        running.wait(lambda: running.threads() and running.threads()[0]["job_state"] == "PC2Done")
        worker("-H", here(running), "pause", "-i", "0")
        running.wait(lambda: thread_state(running) == "Paused", 30, "the pause")
        worker("-H", here(running), "resume", "-i", "0", "--state", "PC2Done")
        running.wait(lambda: done(running), what="the rebuild")


def test_history_is_read_from_the_daemon_and_beside_it(waiting: Cluster) -> None:
    told = worker("-H", here(waiting), "history")
    beside = worker("history", "--store", str(waiting.store))
    assert told.returncode == beside.returncode == 0
    assert told.stdout == beside.stdout and "CheckSealed" in told.stdout
    newest = worker("-H", here(waiting), "history", "-n", "1").stdout.splitlines()
    assert [line.split() for line in newest[1:]] == [told.stdout.splitlines()[-1].split()]
