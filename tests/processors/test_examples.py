"""Published deployments and the manual's examples: checked, and started with stubs on this machine's cpus."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest
from click.testing import CliRunner

from damocles_worker.cli.config import config
from damocles_worker.config.load import inspect
from damocles_worker.config.settings import Settings
from damocles_worker.processors.scheduler import Scheduler
from damocles_worker.processors.spec import ChildSpec
from damocles_worker.sealing import external
from tests.processors.support import STUB, pool, run
from tests.unit.config.support import MINIMAL, settings_of
from tests.unit.hardware.trees import machine

EXAMPLES = sorted((Path(__file__).parents[2] / "docs/examples").glob("*.toml"))
#: Cpus of the largest of the machines.
CPUS = 96


def test_there_are_four() -> None:
    assert [path.name[0] for path in EXAMPLES] == ["1", "2", "3", "4"]


#: The machines of the deployments: nodes, L3 caches and memory as their authors and cpusets tell.
MACHINES: dict[str, dict[str, Any]] = {
    "1": {
        "nodes": [f"{n}-{n + 2},{n + 24}-{n + 26}" for n in range(0, 24, 3)],
        "l3": [f"{n}-{n + 2}" for n in range(0, 48, 3)],
        "memory": 1 << 40,
    },
    "2": {"nodes": ["0-31"], "l3": [f"{n}-{n + 3}" for n in range(0, 32, 4)], "memory": 3 << 39},
    "3": {"nodes": ["0-47", "48-95"], "l3": [f"{n}-{n + 3}" for n in range(0, 96, 4)], "memory": 2 << 40},
    "4": {"nodes": ["0-15"], "l3": ["0-7", "8-15"], "memory": 1 << 39},
}
OLD_NAME = ("processors.limit", "[processors.limit] is an old name; it is used")
BUILDERS = "FIL_PROOFS_USE_GPU_COLUMN_BUILDER and FIL_PROOFS_USE_GPU_TREE_BUILDER ask for a GPU"
MODEL = "BELLMAN_CUSTOM_GPU asks for a GPU"
GPU_0_OR_1 = "FIL_PROOFS_USE_GPU_TREE_BUILDER and CUDA_VISIBLE_DEVICES ask for a GPU"
#: Path and a part of the message of every warning that each of them deserves there, in the file's order.
WARNINGS = {
    "1": [
        OLD_NAME,
        ("processors.limit.c2", "2 is below what the processors of c2 take at once (1 + 1 + 1 = 3)"),
        ("processors.pc2[0].envs", BUILDERS),
        ("processors.c2[2].envs", MODEL),
    ],
    "2": [OLD_NAME, ("processors.pc2[0].envs", BUILDERS), ("processors.c2[0].envs", MODEL)],
    "3": [
        OLD_NAME,
        ("processors.limit.pc1", "24 is below what the processors of pc1 take at once (14 + 13 = 27)"),
        ("processors.pc2[0].envs", GPU_0_OR_1),
        ("processors.pc2[1].cgroup.cpuset", "cpus 36-47,84-95 are also those of processors.pc2[0]"),
        ("processors.pc2[1].envs", GPU_0_OR_1),
        ("processors.c2[0].envs", "BELLMAN_CUSTOM_GPU and CUDA_VISIBLE_DEVICES ask for a GPU"),
        ("processors.c2[1].envs", "BELLMAN_CUSTOM_GPU and CUDA_VISIBLE_DEVICES ask for a GPU"),
    ],
    "4": [
        OLD_NAME,
        ("processors.pc1[0].cgroup.cpuset", "cpus 0-9 are L3 #0: 8, L3 #1: 2"),
        ("processors.pc2[0].cgroup.cpuset", "cpus 1,3,5,7,9 are also those of processors.pc1[0]"),
        ("processors.pc2[0].envs", BUILDERS),
        ("processors.c2[0].envs", MODEL),
    ],
}


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_warnings_of_the_deployments(path: Path, tmp_path: Path) -> None:
    """``config check`` on the machine that each was written for: these warnings and no others."""
    root = machine(tmp_path, **MACHINES[path.name[0]])
    result = CliRunner().invoke(config, ["check", str(path), "--fsroot", str(root)])
    assert result.exit_code == 0, result.output
    findings = [line.split(": ", 3) for line in result.output.splitlines() if line.startswith(f"{path}:")]
    findings = [finding for finding in findings if finding[1] in ("error", "warning")]
    expected = WARNINGS[path.name[0]]
    assert [(level, where) for _, level, where, _ in findings] == [
        ("warning", where) for where, _ in expected
    ]
    for (_, _, _, message), (_, part) in zip(findings, expected, strict=True):
        assert part in message


def on_this_machine(spec: ChildSpec, directory: Path) -> ChildSpec:
    """The same child as a stub, on the cpu that lies here where its first one lies on the large machine.

    It takes a file lock in ``directory`` for each of its locks.
    """
    allowed = sorted(os.sched_getaffinity(0))
    changes: dict[str, Any] = {
        "bin": sys.executable,
        "args": ("-I", "-S", str(STUB), spec.stage, "--locks", str(directory), *spec.locks),
    }
    if spec.cpus is not None:
        cpu = allowed[min(spec.cpus) * len(allowed) // CPUS]
        changes |= {"cpus": frozenset({cpu}), "cpuset": str(cpu)}
    if spec.numa_preferred is not None:
        changes["numa_preferred"] = 0
    return msgspec.structs.replace(spec, **changes)


def start_and_seal(settings: Settings, directory: Path, tasks: int = 2) -> list[ChildSpec]:
    """Start the children as stubs and give each stage more tasks than it has children.

    Fails if one is elsewhere than on its cpus and node, or works while its lock is held elsewhere.
    """
    tables = external.specs(settings.processors)
    directory = directory / "locks"
    directory.mkdir()
    specs = [on_this_machine(spec, directory) for children in tables.values() for spec in children]
    limits = settings.processors

    async def main() -> None:
        scheduler = Scheduler(limits.concurrent, {}, limits.ext_locks)
        async with pool(*specs, scheduler=scheduler) as running:
            for spec, status in zip(specs, running.status(), strict=True):
                assert status.problems == ()
                assert not spec.cpus or {int(status.cpus)} == spec.cpus
                assert (
                    Path(f"/proc/{status.pid}/status")
                    .read_text()
                    .count(f"Cpus_allowed_list:\t{status.cpus}\n")
                )
                assert spec.numa_preferred is None or status.memory in ("prefer:0", "")

            async def one(stage: str) -> None:
                async with scheduler.hold(stage) as lease:
                    await running.run(stage, b'{"do":"locks","seconds":0.01}', lease=lease)

            await asyncio.gather(*(one(spec.stage) for spec in specs for _ in range(tasks)))
            taken = {path.name for path in directory.iterdir()}
            assert taken == {lock for spec in specs for lock in spec.locks}
            assert all(status.restarts == 0 for status in running.status())

    run(main())
    return specs


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_deployment_starts_and_works(path: Path, tmp_path: Path) -> None:
    settings = inspect(str(path)).settings
    assert settings is not None
    assert len(start_and_seal(settings, tmp_path)) >= 3


BASIC = """
[processors.limitation.concurrent]
add_pieces = 8
pc1 = 4
pc2 = 2
c2 = 1
[processors.ext_locks]
gpu = 1
[[processors.pc1]]
numa_preferred = 0
cgroup.cpuset = "0-7"
concurrent = 2
envs = { FIL_PROOFS_USE_MULTICORE_SDR = "1" }
[[processors.pc1]]
numa_preferred = 1
cgroup.cpuset = "48-55"
concurrent = 2
envs = { FIL_PROOFS_USE_MULTICORE_SDR = "1" }
[[processors.pc2]]
cgroup.cpuset = "8-11,24-27"
locks = ["gpu"]
[[processors.c2]]
cgroup.cpuset = "28-35"
locks = ["gpu"]
[[processors.tree_d]]
cgroup.cpuset = "40-45"
"""
CLOSED_C2 = """
[[processors.c2]]
bin = "/usr/local/bin/damocles-worker-c2-optimized"
cgroup.cpuset = "40-47"
envs = { CUDA_VISIBLE_DEVICES = "2,3" }
"""
OUTSOURCED_C2 = """
[[processors.c2]]
bin = "/usr/local/bin/damocles-worker-c2-outsource"
args = ["--url", "/ip4/apis.filecoin.io/tcp/10086/https", "--timeout", "10s"]
envs = { LICENCE_PATH = "/var/tmp/c2.licence.dev" }
"""
CPU_PC2 = """
[[processors.pc2]]
cgroup.cpuset = "8-11,24-27"
envs = { FIL_PROOFS_USE_GPU_COLUMN_BUILDER = "1", CUDA_VISIBLE_DEVICES = "0" }
[[processors.pc2]]
cgroup.cpuset = "20-23,36-45"
"""
ODD_PC1 = """
[processors.limitation.concurrent]
pc1 = 29
[[processors.pc1]]
numa_preferred = 0
cgroup.cpuset = "0-41"
concurrent = 14
[[processors.pc1]]
numa_preferred = 1
cgroup.cpuset = "48-92"
concurrent = 15
"""
NODE_0_FIRST = """
[processors.limitation.concurrent]
pc1 = 29
[[processors.pc1]]
numa_preferred = 0
cgroup.cpuset = "0-47"
concurrent = 16
[[processors.pc1]]
numa_preferred = 1
cgroup.cpuset = "48-86"
concurrent = 13
"""


@pytest.mark.parametrize(
    "text",
    [BASIC, CLOSED_C2, OUTSOURCED_C2, CPU_PC2, ODD_PC1, NODE_0_FIRST],
    ids=["basic", "closed c2", "outsourced c2", "cpu pc2", "odd pc1", "node 0 first"],
)
def test_example_of_the_manual_starts_and_works(text: str, tmp_path: Path) -> None:
    start_and_seal(settings_of(tmp_path, MINIMAL + text), tmp_path, tasks=3)


def test_programs_and_arguments_of_the_manual(tmp_path: Path) -> None:
    closed = external.specs(settings_of(tmp_path, MINIMAL + CLOSED_C2).processors)["c2"][0]
    assert closed.command() == ["/usr/local/bin/damocles-worker-c2-optimized", "processor", "c2"]
    outsourced = external.specs(settings_of(tmp_path, MINIMAL + OUTSOURCED_C2).processors)["c2"][0]
    assert outsourced.command() == [
        "/usr/local/bin/damocles-worker-c2-outsource",
        *("--url", "/ip4/apis.filecoin.io/tcp/10086/https", "--timeout", "10s"),
    ]
    assert outsourced.answer_timeout is None, "an outsourced proof may take as long as it takes"


def test_node_0_gets_the_first_tasks(tmp_path: Path) -> None:
    settings = settings_of(tmp_path, MINIMAL + NODE_0_FIRST)

    async def main() -> list[int]:
        scheduler = Scheduler(settings.processors.concurrent, {})
        specs = [on_this_machine(spec, tmp_path) for spec in external.specs(settings.processors)["pc1"]]
        async with pool(*specs, scheduler=scheduler), contextlib.AsyncExitStack() as held:
            leases = [await held.enter_async_context(scheduler.hold("pc1")) for _ in range(5)]
            first = leases[0].slot
            return [0 if lease.slot is first else 1 for lease in leases]

    assert run(main()) == [0, 0, 0, 1, 0], "the node with more room, and of equal ones the last"


def test_token_of_the_market_goes_to_the_children_that_download(tmp_path: Path) -> None:
    text = MINIMAL + "[[processors.add_pieces]]\nenvs = { A = '1' }\n[[processors.tree_d]]\n"
    tables = external.specs(settings_of(tmp_path, text).processors, "secret")
    assert tables["add_pieces"][0].envs == {"A": "1", "PIECE_FETCHER_TOKEN": "secret"}
    assert tables["tree_d"][0].envs == {}


def test_children_are_started_in_the_order_of_the_stages(tmp_path: Path) -> None:
    text = MINIMAL + "[[processors.c2]]\n[[processors.pc1]]\n[[processors.pc1]]\n[[processors.add_pieces]]\n"
    tables = external.specs(settings_of(tmp_path, text).processors)
    assert list(tables) == ["add_pieces", "pc1", "c2"]
    assert [spec.path for spec in tables["pc1"]] == ["processors.pc1[0]", "processors.pc1[1]"]
