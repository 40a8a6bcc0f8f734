"""This program as a child: of our own daemon, and of anybody else's."""

from __future__ import annotations

import asyncio
import io
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from damocles_worker import _native
from damocles_worker.errors import Level, WorkerError
from damocles_worker.logs import place
from damocles_worker.processors import child
from damocles_worker.processors.spec import OWN_STAGES, ChildSpec
from tests.processors.support import pool, run, until

PROOF = "StackedDrg2KiBV1_1"
FOREIGN = Path(__file__).parent / "tree_d.py"


def staged(directory: Path) -> dict[str, str]:
    """A tree_d task over a staged file of 2 KiB."""
    file = directory / "staged"
    file.write_bytes(
        bytes(byte if index % 32 != 31 else 0 for index, byte in enumerate(bytes(range(256)) * 8))
    )
    cache = directory / "cache"
    cache.mkdir(exist_ok=True)
    return {"registered_proof": PROOF, "staged_file": str(file), "cache_dir": str(cache)}


class Lines:
    """A child's lines by hand, as any parent could write them."""

    def __init__(self, *arguments: str, **environment: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-P", "-m", "damocles_worker", "processor", *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**os.environ, **environment},
        )

    def send(self, line: bytes) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(line)
        self.process.stdin.flush()

    def next(self) -> bytes:
        assert self.process.stdout is not None
        return self.process.stdout.readline()

    def end(self) -> tuple[bytes, bytes]:
        """Close its input; answers the rest of stdout, and stderr."""
        return self.process.communicate(timeout=60)


def test_lines_of_a_child_byte_for_byte(tmp_path: Path) -> None:
    lines = Lines("tree_d")
    assert lines.next() == b"tree_d processor ready\n"
    task = json.dumps(staged(tmp_path), separators=(",", ":")).encode()
    lines.send(b'{"id":7,"task":' + task + b"}\n")
    assert lines.next() == b'{"id":7,"err_msg":null,"output":true}\n'
    # Upstream's child leaves the parent waiting for ever after these.
    lines.send(b"garbage\n" + b'{"id":8,"task":\n' + b'{"id":9,"task":{}}\n')
    answers = {json.loads(line)["id"]: json.loads(line) for line in (lines.next(), lines.next())}
    assert answers[8]["output"] is answers[9]["output"] is None
    assert "no request" in answers[8]["err_msg"]
    assert "missing field" in answers[9]["err_msg"]
    assert answers[9].keys() == {"id", "err_msg", "output"}, "nothing of ours for foreign parents"
    rest, log = lines.end()
    assert rest == b""
    assert lines.process.returncode == 1
    assert b"got empty line, parent might be out" in log
    assert b"'garbage'" in log


def test_library_that_prints_does_not_break_the_protocol() -> None:
    script = """
import os, sys
from damocles_worker.processors import child

def stage(task, progress, cancel):
    print("python prints", flush=True)
    os.write(1, b"a library prints\\n")
    os.system("echo a program prints")
    return task

child.serve("c2", stage)
"""
    with subprocess.Popen(
        [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdin is not None and process.stdout is not None
        assert process.stdout.readline() == b"c2 processor ready\n"
        for number in (1, 2):
            process.stdin.write(b'{"id":%d,"task":{"a":[1, 2]}}\n' % number)
            process.stdin.flush()
            expected = b'{"id":%d,"err_msg":null,"output":{"a":[1, 2]}}\n' % number
            assert process.stdout.readline() == expected
        rest, log = process.communicate(b'{"id":3,"task":', timeout=60)
    assert rest == b"", "a request that the end cuts is none"
    assert process.returncode == 1
    for said in (b"python prints", b"a library prints", b"a program prints"):
        assert log.count(said) == 2


def test_requests_run_side_by_side_and_answers_come_in_any_order() -> None:
    read, write = os.pipe()
    together = threading.Barrier(3)

    def stage(task: bytes, _progress: object, _cancel: object) -> bytes:
        together.wait(timeout=30)
        return task

    consumer = child.Consumer(stage, write, None)
    requests = b"".join(b'{"id":%d,"task":%d}\n' % (number, number * 10) for number in (1, 2, 3))
    consumer.read(io.BytesIO(requests + b'{"id":4,"task":'))
    with open(read, "rb") as answers:
        got = sorted(answers.readline() for _ in range(3))
    os.close(write)
    assert got == [b'{"id":%d,"err_msg":null,"output":%d}\n' % (n, n * 10) for n in (1, 2, 3)]


def with_control(
    stage: Callable[..., bytes], request: bytes, *orders: bytes, before: bytes = b""
) -> tuple[dict[str, Any], list[bytes]]:
    """Run one request of a child that has a control channel; answers the response and what came up.

    ``before`` and that it has no place is said before, and taken before the request is.
    """
    ours, theirs = socket.socketpair()
    read, write = os.pipe()
    ours.sendall(before + b'{"id":5,"place":[-1,"",""]}\n')
    consumer = child.Consumer(stage, write, theirs)
    while not consumer._places:
        threading.Event().wait(0.001)
    consumer.read(io.BytesIO(request))
    for order in orders:
        ours.sendall(order)
    with open(read, "rb") as answers:
        response = json.loads(answers.readline())
    os.close(write)
    theirs.shutdown(socket.SHUT_RDWR)
    with ours, theirs, ours.makefile("rb") as reports:
        return response, reports.readlines()


def test_progress_and_failures_go_over_the_control_channel() -> None:
    def stage(_task: bytes, progress: Callable[[int, int], None], _cancel: object) -> bytes:
        progress(1, 2)
        raise WorkerError("piece x is nowhere", next_step="Put it there", waits_for="piece x")

    response, reports = with_control(stage, b'{"id":5,"task":{}}\n')
    assert reports == [b'{"id":5,"progress":[1,2]}\n']
    assert response == {
        "id": 5,
        "err_msg": "piece x is nowhere",
        "output": None,
        "level": "Permanent",
        "next_step": "Put it there",
        "waits_for": "piece x",
    }


def test_stop_request_sets_the_flag_of_its_task_only() -> None:
    def stage(_task: bytes, _progress: object, cancel: _native.Cancel) -> bytes:
        while not cancel.cancelled:
            threading.Event().wait(0.001)
        raise _native.Cancelled("stopped")

    response, _ = with_control(stage, b'{"id":5,"task":{}}\n', b'{"id":4}\nnoise\n{"id":5}\n')
    assert response == {"id": 5, "err_msg": "stopped", "output": None}


def test_stop_request_that_comes_before_its_request_is_not_lost() -> None:
    """A task of a hundred megabytes takes its time to come."""

    def stage(_task: bytes, _progress: object, cancel: _native.Cancel) -> bytes:
        if cancel.cancelled:
            raise _native.Cancelled("stopped")
        return b"true"

    response, _ = with_control(stage, b'{"id":5,"task":{}}\n', before=b'{"id":5}\n')
    assert response == {"id": 5, "err_msg": "stopped", "output": None}


class PanicError(BaseException):
    """What the engines raise when they panic is no Exception either."""


@pytest.mark.parametrize(
    ("outcome", "message"),
    [
        (PanicError("index out of bounds"), "unexpected PanicError: index out of bounds"),
        (SystemExit(3), "unexpected SystemExit: 3"),
        (None, "unexpected TypeError: "),
    ],
)
def test_whatever_becomes_of_a_stage_its_request_is_answered(
    outcome: BaseException | None, message: str
) -> None:
    def stage(_task: bytes, _progress: object, _cancel: object) -> bytes:
        if outcome is not None:
            raise outcome
        nothing: Any = None
        return nothing  # type: ignore[no-any-return]

    response, _ = with_control(stage, b'{"id":5,"task":{}}\n')
    assert response["err_msg"].startswith(message)


@pytest.mark.parametrize("stage", OWN_STAGES)
def test_every_stage_gets_ready(stage: str) -> None:
    lines = Lines(stage)
    assert lines.next() == f"{stage} processor ready\n".encode()
    lines.end()
    assert lines.process.returncode == 1


def test_child_of_the_rust_worker_takes_its_place_itself(tmp_path: Path) -> None:
    last = max(os.sched_getaffinity(0))
    lines = Lines(
        "tree_d",
        VC_CG_NAME="vc-worker/sub-tree_d-1-0",
        VC_CG_CPUSET=str(last),
        VENUS_WORKER_NUMA_PREFERRED="0",
    )
    assert lines.next() == b"tree_d processor ready\n"
    assert os.sched_getaffinity(lines.process.pid) == {last}
    maps = Path(f"/proc/{lines.process.pid}/numa_maps")
    if maps.exists():
        assert maps.read_text().split()[1] == "prefer:0"
    _, log = lines.end()
    assert b"can't be followed" not in log
    lines = Lines("tree_d", VC_CG_CPUSET="7000", VENUS_WORKER_NUMA_PREFERRED="many")
    assert lines.next() == b"tree_d processor ready\n", "it works all the same, and says what is wrong"
    _, log = lines.end()
    assert log.count(b"can't be followed") == 2


# ---- with our parent ------------------------------------------------------------------------------


def test_own_children_compute_what_the_library_computes(tmp_path: Path) -> None:
    """add_pieces, tree_d and PC1 of a 2 KiB sector through children, beside the same in this process."""
    outputs: list[tuple[bytes, bytes, bytes]] = []
    for where in ("children", "here"):
        directory = tmp_path / where
        (directory / "cache").mkdir(parents=True)
        outputs.append(_three_stages(directory, children=where == "children"))
    assert outputs[0] == outputs[1]


def _three_stages(directory: Path, *, children: bool) -> tuple[bytes, bytes, bytes]:
    add = {
        "seal_proof_type": PROOF,
        "pieces": [{"piece_file": "pledge", "payload_size": 2032, "piece_size": 2032}],
        "staged_filepath": str(directory / "staged"),
    }
    tree = {
        "registered_proof": PROOF,
        "staged_file": str(directory / "staged"),
        "cache_dir": str(directory / "cache"),
    }
    (directory / "sealed").touch()

    async def main() -> tuple[bytes, bytes, bytes]:
        specs = [
            ChildSpec(stage, 0, stable_wait=30.0) for stage in ("add_pieces", "tree_d", "pc1") if children
        ]
        reports: list[tuple[int, int]] = []
        async with pool(*specs) as running:
            pieces = await running.run("add_pieces", json.dumps(add).encode())
            await running.run("tree_d", json.dumps(tree).encode(), progress=lambda *at: reports.append(at))
            pc1 = {
                "registered_proof": PROOF,
                "cache_path": str(directory / "cache"),
                "in_path": str(directory / "staged"),
                "out_path": str(directory / "sealed"),
                "prover_id": [144, 78, *[0] * 30],
                "sector_id": 7,
                "ticket": [1] * 32,
                "piece_infos": json.loads(pieces),
            }
            out = await running.run("pc1", json.dumps(pc1).encode())
            if children:
                await until(lambda: reports and reports[-1][0] == reports[-1][1])
                assert running.name("pc1") == f"ext(pid: {running.status()[2].pid})"
        layer = (directory / "cache/sc-02-data-layer-2.dat").read_bytes()
        return pieces, out.replace(str(directory).encode(), b""), layer

    return run(main())


def test_log_lines_of_an_own_child_name_thread_sector_and_stage(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """With more than one sector nobody knew whose lines they were."""
    task = json.dumps(staged(tmp_path)).encode()

    async def main() -> None:
        async with pool(ChildSpec("tree_d", 0, stable_wait=30.0, envs={"RUST_LOG": "debug"})) as running:
            place.enter(3).is_at("s-t01000-7", "TreeD")
            await running.run("tree_d", task)

    run(main())
    lines = [line for line in capfd.readouterr().err.splitlines() if "request{id=1" in line]
    assert lines
    for line in lines:
        assert "index=3 sector=s-t01000-7 stage=TreeD" in line


def test_failure_of_an_own_child_keeps_its_level_and_what_it_waits_for(tmp_path: Path) -> None:
    missing = {"routes": [{"src": {"uri": str(tmp_path / "none")}, "dest": {"uri": str(tmp_path / "there")}}]}

    async def main() -> None:
        async with pool(ChildSpec("transfer", 0, stable_wait=30.0)) as running:
            with pytest.raises(WorkerError, match="src path not exists") as caught:
                await running.run("transfer", json.dumps(missing).encode())
            assert caught.value.level is Level.PERMANENT
            assert caught.value.next_step.startswith("Check the paths")

    run(main())


def test_own_child_is_told_to_stop_and_lives_on(tmp_path: Path) -> None:
    """add_pieces from a pipe that never ends: only a stop request gets it out of there."""
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    add = {
        "seal_proof_type": PROOF,
        "pieces": [{"piece_file": {"local": str(fifo)}, "payload_size": 2032, "piece_size": 2032}],
        "staged_filepath": str(tmp_path / "staged"),
    }

    async def main() -> None:
        async with pool(ChildSpec("add_pieces", 0, stable_wait=30.0)) as running:
            pid = running.status()[0].pid
            task = asyncio.create_task(running.run("add_pieces", json.dumps(add).encode()))
            await until(lambda: running.status()[0].tasks == 1)
            writer = await asyncio.to_thread(open, fifo, "wb", 0)
            task.cancel()
            await asyncio.sleep(0.05)
            writer.write(b"x" * 2032)
            writer.close()
            with pytest.raises(asyncio.CancelledError):
                await task
            again = {**add, "pieces": [], "staged_filepath": str(tmp_path / "again")}
            await running.run("add_pieces", json.dumps(again).encode())
            assert running.status()[0].pid == pid, "it was not ended"

    run(main())


def test_killed_pc1_child_gives_the_same_labels_when_its_task_is_tried_again(tmp_path: Path) -> None:
    (tmp_path / "cache").mkdir()
    expected = _three_stages(tmp_path, children=False)[2]
    for file in (tmp_path / "cache").glob("*layer*"):
        file.unlink()
    pc1 = {
        "registered_proof": PROOF,
        "cache_path": str(tmp_path / "cache"),
        "in_path": str(tmp_path / "staged"),
        "out_path": str(tmp_path / "sealed"),
        "prover_id": [144, 78, *[0] * 30],
        "sector_id": 7,
        "ticket": [1] * 32,
        "piece_infos": [
            {"commitment": list(_native.data_commitment(2048, [])), "size": 2032},
        ],
    }
    last = max(os.sched_getaffinity(0))

    async def main() -> None:
        spec = ChildSpec("pc1", 0, stable_wait=30.0, cpuset=str(last), cpus=frozenset({last}))
        async with pool(spec, root=tmp_path) as running:
            pid = running.status()[0].pid
            assert pid is not None
            # Labels of 2 KiB take milliseconds: it must not be done before it is killed.
            os.kill(pid, signal.SIGSTOP)
            task = asyncio.create_task(running.run("pc1", json.dumps(pc1).encode()))
            await until(lambda: running.status()[0].tasks == 1)
            os.kill(pid, signal.SIGKILL)
            with pytest.raises(WorkerError, match="was killed by SIGKILL"):
                await task
            await running.run("pc1", json.dumps(pc1).encode())
            status = running.status()[0]
            assert (status.restarts, status.cpus) == (1, str(last))

    run(main())
    assert (tmp_path / "cache/sc-02-data-layer-2.dat").read_bytes() == expected


def test_user_written_child_in_its_own_file_serves_tree_d(tmp_path: Path) -> None:
    task = json.dumps(staged(tmp_path)).encode()
    _native.tree_d(task)
    tree = tmp_path / "cache/sc-02-data-tree-d.dat"
    expected = tree.read_bytes()
    tree.unlink()

    async def main() -> None:
        async with pool(ChildSpec("tree_d", 0, bin=str(FOREIGN))) as running:
            assert await running.run("tree_d", task) == b"true"
            lost = task.replace(b"/staged", b"/lost")
            with pytest.raises(WorkerError, match="No such file or directory"):
                await running.run("tree_d", lost)

    run(main())
    assert tree.read_bytes() == expected
