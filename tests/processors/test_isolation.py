"""Children run on the cpus and with the memory node they were given, or it is said that they don't."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest

from damocles_worker import affinity
from damocles_worker.errors import WorkerError
from damocles_worker.processors import cgroup, isolation
from damocles_worker.processors.spec import ChildSpec
from tests.processors.support import ask, pool, run, stub, until

LAST = max(affinity.get_affinity(0))
ELSEWHERE = max(affinity.get_affinity(0)) + 1


def on_cpus(text: str, *cpus: int) -> dict[str, Any]:
    return {"cpuset": text, "cpus": frozenset(cpus)}


def no_groups(tmp_path: Path) -> Path:
    """A root in which there are no control groups, as in a container."""
    (tmp_path / "proc/self").mkdir(parents=True)
    return tmp_path


def test_bound_by_affinity_where_no_group_can_be_made(tmp_path: Path) -> None:
    async def main() -> None:
        async with pool(stub(**on_cpus(str(LAST), LAST)), root=no_groups(tmp_path)) as running:
            before = affinity.get_affinity(0)
            status = running.status()[0]
            assert (status.cpus, status.bound_by, status.problems) == (str(LAST), "affinity", ())
            assert (await ask(running, do="report"))["cpus"] == str(LAST)
            assert affinity.get_affinity(0) == before, "the daemon itself stays where it was"
            # Upstream loses the cpus when a child is started again.
            with pytest.raises(WorkerError):
                await ask(running, do="signal", number=signal.SIGKILL)
            assert (await ask(running, do="report"))["cpus"] == str(LAST)
            assert running.status()[0].bound_by == "affinity"

    run(main())


def test_cpus_that_can_not_be_given_are_never_silently_missing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The processor works, unbound or on the part there is, and start and list say so."""
    part = on_cpus(f"{LAST}-{ELSEWHERE}", LAST, ELSEWHERE)
    none = on_cpus(str(ELSEWHERE), ELSEWHERE)

    async def main() -> None:
        specs = stub(**part), stub(index=1, **none)
        async with pool(*specs, root=no_groups(tmp_path)) as running:
            partly, unbound = running.status()
            assert partly.bound_by == unbound.bound_by == ""
            (problem,) = partly.problems
            assert problem == (
                f"cpuset {LAST}-{ELSEWHERE} is not in force: it runs on {LAST}"
                " (no control groups with cpuset here)"
            )
            (problem,) = unbound.problems
            assert problem.startswith(f"cpuset {ELSEWHERE} is not in force: it runs on 0")
            assert "affinity is refused: Invalid argument" in problem

    run(main())
    assert caplog.text.count("is not in force") == 2


def test_why_there_is_only_affinity_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        async with pool(stub(**on_cpus(str(LAST), LAST)), root=no_groups(tmp_path)) as running:
            note = "bound by affinity only: no control groups with cpuset here"
            assert running.status()[0].notes == (note,)
            assert [text for text in caplog.messages if note in text] == [
                f"processors.pc1[0]: ext(pid: {running.status()[0].pid}): {note}"
            ]

    run(main())


def test_cpus_are_read_back_where_the_memory_policy_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Docker refuses it: nobody looked at the cpus then, and the list showed nothing that bound them."""

    def refuse(_node: int | None) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(affinity, "set_mempolicy_preferred", refuse)
    escape = (
        "import os; os.sched_setaffinity(0, range(1024)); print('c2 processor ready', flush=True); input()"
    )

    async def main() -> None:
        escapes = ChildSpec("c2", 0, bin=sys.executable, args=("-c", escape), numa_preferred=0)
        escapes = msgspec.structs.replace(escapes, **on_cpus(str(LAST), LAST))
        bound = stub(**on_cpus(str(LAST), LAST), numa_preferred=0)
        async with pool(bound, escapes, root=no_groups(tmp_path)) as running:
            held, free = running.status()
            assert held.bound_by == "affinity"
            (problem,) = held.problems
            assert problem.startswith("memory: node 0 can't be preferred")
            assert free.bound_by == ""
            assert [problem.split()[0] for problem in free.problems] == ["cpuset", "memory:"]

    if affinity.get_affinity(0) == {LAST}:
        pytest.skip("one cpu: there is nowhere to escape to")
    run(main())


def test_thread_that_ends_during_the_look_hides_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads = isolation._threads
    monkeypatch.setattr(isolation, "_threads", lambda pid: [4_000_000, *threads(pid)])

    async def main() -> None:
        async with pool(stub(**on_cpus(str(ELSEWHERE), ELSEWHERE)), root=no_groups(tmp_path)) as running:
            (problem,) = running.status()[0].problems
            assert problem.startswith(f"cpuset {ELSEWHERE} is not in force")

    run(main())


@pytest.mark.parametrize(("node", "policy"), [(0, "prefer:0"), (-1, "default")])
def test_memory_node(node: int, policy: str) -> None:
    try:
        affinity.set_mempolicy_preferred(None)
    except OSError as error:
        pytest.skip(f"this kernel has no memory policies: {error}")

    async def main() -> None:
        async with pool(stub(numa_preferred=node)) as running:
            report = await ask(running, do="report")
            assert report["memory"] in (policy, "")
            assert running.status()[0].memory == report["memory"]
            assert running.status()[0].problems == ()

    run(main())
    assert affinity.get_mempolicy()[0] == affinity.MPOL_DEFAULT


def test_memory_node_that_does_not_exist_is_said_and_the_child_works() -> None:
    async def main() -> None:
        async with pool(stub(numa_preferred=900)) as running:
            (problem,) = running.status()[0].problems
            assert problem.startswith("memory: node 900 can't be preferred")
            assert await ask(running, do="echo", value=1) == 1

    run(main())


# ---- real control groups --------------------------------------------------------------------------


@pytest.fixture
def hierarchy() -> cgroup.Hierarchy:
    found = cgroup.find()
    if found is None or not os.access(found.own, os.W_OK):
        pytest.skip("no control group can be made here")
    return found


def test_child_in_its_group_until_its_end(hierarchy: cgroup.Hierarchy) -> None:
    name = f"damocles-test-{os.getpid()}"

    async def main() -> None:
        spec = stub(**on_cpus(str(LAST), LAST), group_name=name, numa_preferred=0)
        async with pool(spec) as running:
            status = running.status()[0]
            assert status.bound_by == f"cgroup v{hierarchy.version}"
            report = await ask(running, do="report")
            assert f"/{name}/sub-pc1-{os.getpid()}-0\n" in report["groups"]
            assert report["cpus"] == status.cpus == str(LAST)
            assert report["memory"] == "prefer:0"
            with pytest.raises(WorkerError):
                await ask(running, do="signal", number=signal.SIGKILL)
            report = await ask(running, do="report")
            assert f"/{name}/sub-pc1-{os.getpid()}-0\n" in report["groups"]
            assert report["cpus"] == str(LAST)
            assert running.status()[0].bound_by == f"cgroup v{hierarchy.version}"

    run(main())
    (base,) = [base / name for base in hierarchy.bases if (base / name).exists()]
    assert [path for path in base.iterdir() if path.is_dir()] == []
    base.rmdir()


def test_orphans_of_dead_daemons_are_removed_at_the_start(hierarchy: cgroup.Hierarchy) -> None:
    name = f"damocles-orphans-{os.getpid()}"
    ended, other = subprocess.Popen(["true"]), subprocess.Popen(["sleep", "60"])
    ended.wait()
    made = {
        text: cgroup.make(hierarchy, f"{name}/{text}", str(LAST))
        for text in (
            f"sub-pc1-{ended.pid}-0",
            f"sub-snap_prove-{ended.pid}-12",
            f"sub-pc1-{os.getpid()}-99",
            f"sub-pc1-{other.pid}-0",
            "somebody-elses",
        )
    }
    busy = cgroup.make(hierarchy, f"{name}/sub-c2-{ended.pid}-0", str(LAST))
    sleeper = subprocess.Popen(["sleep", "60"])
    try:
        busy.add(sleeper.pid)

        async def main() -> None:
            async with pool(stub(**on_cpus(str(LAST), LAST), group_name=name)):
                left = {text for text, group in made.items() if group.directory.exists()}
                assert left == {f"sub-pc1-{other.pid}-0", "somebody-elses"}
                assert busy.directory.exists(), "its process is not ours to end"

        run(main())
    finally:
        for process in (sleeper, other):
            process.kill()
            process.wait()
        for group in (*made.values(), busy):
            group.remove()
        busy.directory.parent.rmdir()


def test_program_in_a_session_of_its_own_ends_with_its_child(
    hierarchy: cgroup.Hierarchy, tmp_path: Path
) -> None:
    """It left the child's process group; the control group still has it."""
    name = f"damocles-session-{os.getpid()}"
    file = tmp_path / "program"
    script = f"setsid sleep 600 & echo $! > {file}; echo 'c2 processor ready'; read request; exit 1"

    async def main() -> None:
        spec = ChildSpec("c2", 0, bin="/bin/sh", args=("-c", script), group_name=name, **on_cpus("0", 0))
        async with pool(spec):
            await until(lambda: file.exists() and file.read_text())

    run(main())
    program = Path("/proc", file.read_text().strip(), "exe")
    assert not program.exists()
    (base,) = [base / name for base in hierarchy.bases if (base / name).exists()]
    base.rmdir()


def test_group_that_can_not_be_entered_leaves_the_affinity(
    hierarchy: cgroup.Hierarchy, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = f"damocles-locked-{os.getpid()}"

    def refuse(_group: cgroup.Group, _pid: int) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(cgroup.Group, "add", refuse)

    async def main() -> None:
        async with pool(stub(**on_cpus(str(LAST), LAST), group_name=name)) as running:
            status = running.status()[0]
            assert (status.cpus, status.bound_by, status.problems) == (str(LAST), "affinity", ())
            await until(lambda: not (hierarchy.mount / name / f"sub-pc1-{os.getpid()}-0").exists())

    run(main())
    for base in hierarchy.bases:
        if (base / name).exists():
            (base / name).rmdir()
