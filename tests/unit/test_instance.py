"""What a worker is called, and where the manager is told to reach it."""

from __future__ import annotations

import asyncio
import socket
import time
from typing import Any

import pytest

from damocles_worker import instance
from tests.unit import virtual_time

MANAGER = "http://10.0.0.5:1789"


@pytest.fixture
def network(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The addresses that the next looks find, the last one again and again; an empty text: no route."""
    answers: list[str] = []

    async def look(_origin: str) -> str | None:
        return (answers.pop(0) if len(answers) > 1 else answers[0]) or None

    monkeypatch.setattr(instance, "local_address", look)
    monkeypatch.setattr(socket, "gethostname", lambda: "sealer-7")
    return answers


def test_a_worker_without_a_route_at_its_start_has_the_name_of_its_host(network: list[str]) -> None:
    """Two workers called 127.0.0.1 took each other's place at the manager."""
    network.append("")
    assert virtual_time.run(instance.identity(None, MANAGER)) == ("sealer-7", "sealer-7")
    assert virtual_time.run(instance.identity("w1", MANAGER)) == ("w1", "sealer-7")


def test_a_network_that_comes_up_late_is_waited_for(network: list[str]) -> None:
    network += ["", "", "10.0.0.9"]
    assert virtual_time.run(instance.identity(None, MANAGER)) == ("10.0.0.9", "10.0.0.9")


def test_the_manager_is_told_the_address_of_the_moment(network: list[str]) -> None:
    network += ["", "10.0.0.9", "fd00::9"]
    told = [virtual_time.run(instance.destination(MANAGER, 17890)) for _ in range(3)]
    assert told == ["sealer-7:17890", "10.0.0.9:17890", "[fd00::9]:17890"]


def test_a_name_server_that_does_not_answer_stops_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    def resolve(*_: Any, **__: Any) -> Any:
        time.sleep(0.3)
        raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")

    monkeypatch.setattr(socket, "getaddrinfo", resolve)

    async def beats() -> int:
        looking = asyncio.create_task(instance.local_address("http://manager.example:1789"))
        count = 0
        while not looking.done():
            count += 1
            await asyncio.sleep(0.01)
        assert looking.result() is None
        return count

    assert asyncio.run(beats()) > 5


def test_the_address_that_reaches_the_manager_is_found() -> None:
    assert asyncio.run(instance.local_address("http://127.0.0.1:1789")) == "127.0.0.1"


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_a_port_in_use_is_refused_before_anything_listens(host: str) -> None:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as taken:
        try:
            taken.bind((host, 0))
        except OSError:
            pytest.skip(f"this host has no {host}")
        taken.listen()
        with pytest.raises(OSError, match="in use"):
            instance.bound(host, taken.getsockname()[1])
    with instance.bound(host, 0) as free, socket.socket(family) as client:
        assert client.connect_ex((host, free.getsockname()[1])) != 0
