"""A real daemon as a service of systemd: what it tells, and that the unit listens."""

from __future__ import annotations

import os
import socket
from pathlib import Path

from tests.e2e.cluster import Cluster, cluster
from tests.unit.test_systemd import UNIT, listen


def received(receiver: socket.socket) -> str:
    return receiver.recv(100).decode()


def told(running: Cluster, receiver: socket.socket, message: str) -> list[str]:
    """Messages until ``message``, which must come within a minute; those after it are not taken."""
    receiver.settimeout(60)
    messages: list[str] = []
    while message not in messages:
        running.alive()
        messages.append(received(receiver))
    return messages


def test_systemd_is_told_that_the_worker_is_ready_alive_and_stopping(tmp_path: Path) -> None:
    unit = UNIT.read_text().splitlines()
    assert "Type=notify" in unit and "TimeoutStartSec=infinity" in unit
    assert any(line.startswith("WatchdogSec=") for line in unit)
    address = f"@{tmp_path}/notify"
    with cluster(tmp_path, "--sectors", "1") as running, listen(f"\0{address[1:]}") as receiver:
        running.order({"method": "AllocateSector", "action": "null", "count": None})
        running.start_worker(NOTIFY_SOCKET=address, WATCHDOG_USEC="400000")
        before = told(running, receiver, "READY=1")
        assert "STOPPING=1" not in before
        assert running.threads(), "ready before it answers"
        for _ in range(3):
            told(running, receiver, "WATCHDOG=1")
        assert running.terminate() == 0
        rest = []
        receiver.setblocking(False)
        try:
            while True:
                rest.append(received(receiver))
        except BlockingIOError:
            assert "STOPPING=1" in rest and "READY=1" not in rest


def test_a_watchdog_of_another_process_is_not_fed(tmp_path: Path) -> None:
    with cluster(tmp_path, "--sectors", "1") as running, listen(f"{tmp_path}/notify") as receiver:
        running.order({"method": "AllocateSector", "action": "null", "count": None})
        running.start_worker(
            NOTIFY_SOCKET=f"{tmp_path}/notify", WATCHDOG_USEC="200000", WATCHDOG_PID=str(os.getpid())
        )
        assert told(running, receiver, "READY=1") == ["READY=1"]
        assert running.terminate() == 0
        assert received(receiver) == "STOPPING=1"
