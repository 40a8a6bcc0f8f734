"""Messages to systemd, and the unit."""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
import subprocess
from pathlib import Path

import pytest

from damocles_worker import systemd

ROOT = Path(__file__).parents[2]
UNIT = ROOT / "packaging/damocles-worker.service"


def listen(address: str) -> socket.socket:
    receiver = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    receiver.bind(address)
    receiver.settimeout(10)
    return receiver


@pytest.mark.parametrize("abstract", [False, True])
def test_messages_arrive(abstract: bool, tmp_path: Path) -> None:
    name = f"{tmp_path}/notify"
    with listen(f"\0{name}" if abstract else name) as receiver:
        assert systemd.notify("READY=1", {"NOTIFY_SOCKET": f"@{name}" if abstract else name})
        assert receiver.recv(100) == b"READY=1"


def test_without_systemd_nothing_happens(tmp_path: Path) -> None:
    assert not systemd.notify("READY=1", {})
    assert not systemd.notify("READY=1", {"NOTIFY_SOCKET": f"{tmp_path}/nobody"})


def test_watchdog_interval_is_for_this_process_only() -> None:
    assert systemd.watchdog_interval({}) is None
    assert systemd.watchdog_interval({"WATCHDOG_USEC": "2500000"}) == 2.5
    assert systemd.watchdog_interval({"WATCHDOG_USEC": "2500000", "WATCHDOG_PID": str(os.getpid())}) == 2.5
    assert systemd.watchdog_interval({"WATCHDOG_USEC": "2500000", "WATCHDOG_PID": "1"}) is None
    assert systemd.watchdog_interval({"WATCHDOG_USEC": "soon"}) is None


def test_watchdog_is_fed_while_the_loop_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", f"{tmp_path}/notify")
    monkeypatch.setenv("WATCHDOG_USEC", "2000")

    async def feed(receiver: socket.socket) -> None:
        feeding = asyncio.create_task(systemd.feed_watchdog())
        for _ in range(3):
            assert await asyncio.to_thread(receiver.recv, 100) == b"WATCHDOG=1"
        feeding.cancel()

    with listen(f"{tmp_path}/notify") as receiver:
        asyncio.run(feed(receiver))


def test_watchdog_that_nobody_asked_for_is_done_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WATCHDOG_USEC", raising=False)
    asyncio.run(systemd.feed_watchdog())


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed")
def test_systemd_accepts_the_unit(tmp_path: Path) -> None:
    program = "/opt/damocles-worker/damocles-worker"
    unit = tmp_path / UNIT.name
    unit.write_text(UNIT.read_text().replace(program, "/bin/true"))
    assert "/bin/true daemon --config" in unit.read_text()
    result = subprocess.run(["systemd-analyze", "verify", str(unit)], capture_output=True, text=True)
    assert (result.returncode, result.stderr) == (0, "")
