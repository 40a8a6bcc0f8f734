"""Lines of the Rust crates in the log of a process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.unit.native.sector import Sector

#: A sealing thread that computes PC1 in its own process; the engine says what it found.
PROGRAM = """
import asyncio, sys
import msgspec
from damocles_worker import logs
from damocles_worker.logs import place
from damocles_worker.processors.inprocess import InProcess

logs.set_up()
logs.use_format(sys.argv[2])

async def thread():
    place.enter(3).is_at("s-t01000-5", "PC1")
    return await InProcess().run("pc1", open(sys.argv[1], "rb").read())

asyncio.run(thread())
"""


@pytest.fixture
def task(tmp_path: Path) -> Path:
    """A PC1 task of a 2 KiB sector, as a file."""
    sector = Sector(tmp_path)
    path = tmp_path / "task.json"
    path.write_bytes(sector.pc1_task(sector.stage_zeros()))
    return path


def log_of_pc1(task: Path, form: str = "human", **environment: str) -> list[str]:
    """The lines on stderr of a process that computes PC1."""
    run = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(task), form],
        env={**{key: value for key, value in os.environ.items() if not key.endswith("_LOG")}, **environment},
        stderr=subprocess.PIPE,
        text=True,
        check=True,
    )
    return run.stderr.splitlines()


def test_the_engine_speaks_in_the_same_stream_for_the_sector_it_works_on(task: Path) -> None:
    lines = log_of_pc1(task)
    (found,) = (line for line in lines if ": layers kept " in line)
    assert "  INFO thread{index=3 sector=s-t01000-5 stage=PC1}: proofs::precommit: PC1 of sector 7" in found
    assert not any("filecoin_proofs" in line or "storage_proofs" in line for line in lines)


def test_the_engine_speaks_json_too(task: Path) -> None:
    found = [json.loads(line) for line in log_of_pc1(task, "json")]
    (line,) = (line for line in found if ": layers kept " in line["message"])
    assert (line["target"], line["level"]) == ("proofs::precommit", "info")
    assert (line["index"], line["sector"], line["stage"]) == (3, "s-t01000-5", "PC1")


def test_libraries_are_heard_when_they_are_named_and_only_they(task: Path) -> None:
    directives = "filecoin_proofs=trace,storage_proofs=info,damocles_worker=off"
    lines = log_of_pc1(task, RUST_LOG=directives, DAMOCLES_PC1_ENGINE="crate")
    assert any(" TRACE thread{index=3" in line and " filecoin_proofs::" in line for line in lines)
    assert all(" filecoin_proofs::" in line or " storage_proofs_" in line for line in lines)
    assert log_of_pc1(task, RUST_LOG="off", DAMOCLES_PC1_ENGINE="crate") == []
