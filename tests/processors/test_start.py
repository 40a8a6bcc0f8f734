"""Children that don't get ready, can't be started, or don't want to end."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from damocles_worker.errors import WorkerError
from damocles_worker.processors.spec import ChildSpec
from tests.processors.support import ask, is_alive, pool, run, stub


@pytest.mark.parametrize(
    ("before", "cause"),
    [
        ("hang", r"timeout exceeded before it was ready \(stable_wait: 0.5 s\)"),
        ("close", r"timeout exceeded before it was ready \(stable_wait: 0.5 s\)"),
        ("slow:2", r"timeout exceeded before it was ready"),
        ("die", "it exited with status 4 before it was ready"),
        ("noise", 'unexpected first line: "loading the library", expected "pc1 processor ready"'),
        ("wrong", 'unexpected first line: "pc9 processor ready", expected "pc1 processor ready"'),
        ("half", 'unexpected first line: "pc1 procpc1 processor ready", expected'),
    ],
)
def test_child_that_does_not_get_ready_is_named_and_ended(
    before: str, cause: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("damocles_worker.processors.parent.EXIT_GRACE", 5.0)

    async def main() -> None:
        with pytest.raises(WorkerError, match=cause) as caught:
            async with pool(stub("tree_d"), stub(before=before, stable_wait=0.5)):
                raise AssertionError("started")
        assert caught.value.cause.startswith("processors.pc1[0]: the processor ")

    before_it = _children()
    run(main())
    assert _children() == before_it, "no child stays behind"


def test_slow_child_is_waited_for() -> None:
    async def main() -> None:
        async with pool(stub(before="slow:0.3", stable_wait=20.0)) as running:
            assert await ask(running, do="echo", value=1) == 1

    run(main())


def test_program_that_can_not_be_started(tmp_path: Path) -> None:
    plain = tmp_path / "plain"
    plain.write_text("no program")
    text = tmp_path / "text"
    text.write_text("no program")
    text.chmod(0o755)
    for program, why in (
        (tmp_path / "none", "No such file"),
        (plain, "Permission denied"),
        (text, "Exec format"),
    ):

        async def main(program: Path = program) -> None:
            async with pool(ChildSpec("c2", 1, bin=str(program))):
                raise AssertionError("started")

        with pytest.raises(
            WorkerError, match=rf"processors\.c2\[1\]\.bin: {program} can't be started: {why}"
        ):
            run(main())


def test_stubborn_child_is_killed_at_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("damocles_worker.processors.parent.EXIT_GRACE", 0.2)
    script = 'trap "" HUP TERM; echo "c2 processor ready"; while :; do sleep 60; done'

    async def main() -> None:
        began = time.monotonic()
        async with pool(ChildSpec("c2", 0, bin="/bin/sh", args=("-c", script))) as running:
            pid = running.status()[0].pid
        assert pid is not None and not is_alive(pid)
        assert time.monotonic() - began < 30

    before_it = _children()
    run(main())
    assert _children() == before_it


def _children() -> set[str]:
    return set(Path(f"/proc/self/task/{os.getpid()}/children").read_text().split())
