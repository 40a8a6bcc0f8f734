"""Binds children to their cpus and memory node, and reads back what they really got.

A thread's affinity and memory policy pass to the processes it starts. So a child is started from a
thread that takes them first: it is bound from its first instruction, whatever program it is, and
nothing has to run in it. Where a control group can be made the child enters that as well, so that it
can't leave its cpus by itself.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
import subprocess
import threading
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TypeVar

from msgspec import Struct

from damocles_worker import affinity
from damocles_worker.errors import WorkerError
from damocles_worker.processors import cgroup
from damocles_worker.processors.guard import Guard
from damocles_worker.processors.spec import DEFAULT_GROUP, ChildSpec

log = logging.getLogger(__name__)

T = TypeVar("T")


class Placement(Struct, frozen=True):
    """Where a child runs, as the kernel says.

    ``problems`` is what was asked for and not given, ``notes`` what is in force by lesser means than it
    could be; a line each.
    """

    #: Kernel cpu list.
    cpus: str = ""
    #: What holds it there: ``cgroup v1``, ``cgroup v2``, ``affinity``; empty: nothing asked for.
    bound_by: str = ""
    #: The memory policy in the kernel's words, ``default`` or ``prefer:0``; empty where it can't be read.
    memory: str = ""
    problems: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


class Started(Struct):
    """A child that was started; its problems as of that moment, of cpus and of memory by themselves."""

    process: subprocess.Popen[bytes]
    group: cgroup.Group | None
    cpu_problems: list[str]
    memory_problems: list[str]
    #: Why it is in no control group.
    notes: list[str]


class Isolation:
    """Starts children of one daemon in their places.

    :param root: where ``/proc`` and ``/sys`` are.
    :param guard: ends them when this process is killed; None leaves that to them.
    """

    def __init__(self, root: Path = Path("/"), guard: Guard | None = None) -> None:
        self._guard = guard
        self._hierarchy = cgroup.find(root)
        self._hides_group = cgroup.is_pure_v2_without_cpuset(root)
        self._root = root

    def remove_orphans(self, specs: Iterable[ChildSpec]) -> None:
        """Remove the groups that dead daemons left behind below the group names of ``specs`` and the
        default one, since the configuration may have changed."""
        names = {DEFAULT_GROUP, *(spec.group_name for spec in specs if spec.cpuset is not None)}
        for directory in cgroup.remove_orphans(names, self._root):
            log.info("removed the control group %s of a dead daemon", directory)

    def start(self, spec: ChildSpec, control: socket.socket | None = None) -> Started:
        """Start a child; only for a thread that ends afterwards, since it takes the child's place itself.

        Raises :class:`WorkerError` naming the key of the configuration when there is no such program.
        """
        group, notes = self._make_group(spec)
        if self._guard is not None:
            # From an unbound thread still.
            self._guard.ready()
        refused = _take_cpus(spec)
        memory_problems = _take_node(spec)
        # A process group of its own: a Ctrl-C in the terminal is the daemon's to handle, and what the
        # child starts can be ended with it.
        try:
            process = subprocess.Popen(
                spec.command(),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                bufsize=0,
                env=spec.environment(self._group_name(spec), control.fileno() if control else None),
                pass_fds=(control.fileno(),) if control else (),
                process_group=0,
            )
        except (OSError, ValueError) as error:
            if group is not None:
                group.remove()
            raise _not_started(spec, error) from error
        if group is not None:
            try:
                _add_family(group, process.pid)
            except OSError as error:
                notes.append(f"it can't enter the control group {group.directory}: {error.strerror}")
                group.remove()
                group = None
        if self._guard is not None:
            self._guard.watch(process.pid, group.directory if group else None)
        cpu_problems = _cpu_problems(spec, process.pid, exact=True, reasons=[*notes, *refused])
        return Started(process, group, cpu_problems, memory_problems, notes)

    def clean(self, started: Started) -> None:
        """Remove what was made for a child that has ended."""
        if started.group is not None:
            started.group.remove()
        if self._guard is not None:
            self._guard.forget(started.process.pid)

    def close(self) -> None:
        """No child is left and none will be started."""
        if self._guard is not None:
            self._guard.stop()

    def placement(self, spec: ChildSpec, started: Started) -> Placement:
        """Read back where a child that is ready runs."""
        pid = started.process.pid
        bound = f"cgroup v{started.group.version}" if started.group else "affinity"
        memory = _memory_policy(pid)
        cpu_problems = started.cpu_problems or _cpu_problems(spec, pid, exact=False, reasons=[])
        memory_problems = started.memory_problems or _memory_problems(spec, memory)
        is_bound = spec.cpus is not None and not cpu_problems
        return Placement(
            cpus=_status(pid).get("Cpus_allowed_list", ""),
            bound_by=bound if is_bound else "",
            memory=memory,
            problems=(*cpu_problems, *memory_problems),
            notes=tuple(f"bound by {bound} only: {note}" for note in started.notes if is_bound),
        )

    def _group_name(self, spec: ChildSpec) -> str | None:
        return None if self._hides_group else spec.group(os.getpid())

    def _make_group(self, spec: ChildSpec) -> tuple[cgroup.Group | None, list[str]]:
        if spec.cpuset is None:
            return None, []
        if self._hierarchy is None:
            return None, ["no control groups with cpuset here"]
        try:
            return cgroup.make(self._hierarchy, spec.group(os.getpid()), spec.cpuset), []
        except OSError as error:
            return None, [f"no control group can be made: {error.strerror} ({error.filename})"]


def _add_family(group: cgroup.Group, pid: int) -> None:
    """Move a child into its group, with what it has started in its first instant. Raises ``OSError``."""
    group.add(pid)
    # From here on what it starts is in the group by itself.
    for thread in _threads(pid):
        try:
            children = Path(f"/proc/{pid}/task/{thread}/children").read_text().split()
        except OSError:
            continue
        for child in children:
            with contextlib.suppress(OSError):
                _add_family(group, int(child))


def _take_cpus(spec: ChildSpec) -> list[str]:
    """Bind the calling thread; answers why that is refused."""
    if spec.cpus is not None:
        try:
            affinity.set_affinity(0, spec.cpus)
        except OSError as error:
            return [f"affinity is refused: {os.strerror(error.errno or 0)}"]
    return []


def _take_node(spec: ChildSpec) -> list[str]:
    """Set the memory policy of the calling thread; answers what is wrong then."""
    node = spec.numa_preferred
    if node is not None:
        try:
            affinity.set_mempolicy_preferred(node if node >= 0 else None)
        except (OSError, ValueError) as error:
            return [f"memory: node {node} can't be preferred: {error}"]
    return []


def _memory_problems(spec: ChildSpec, policy: str) -> list[str]:
    if spec.numa_preferred is None or not policy:
        return []
    wanted = f"prefer:{spec.numa_preferred}" if spec.numa_preferred >= 0 else "default"
    return [] if policy == wanted else [f"memory: the policy is {policy}, asked for {wanted}"]


def _cpu_problems(spec: ChildSpec, pid: int, *, exact: bool, reasons: list[str]) -> list[str]:
    """What is wrong with the cpus of a process: a child may bind its threads more narrowly by itself."""
    if spec.cpus is None:
        return []
    found = []
    for thread in _threads(pid):
        # One that has ended just now says nothing about the others.
        with contextlib.suppress(ProcessLookupError):
            found.append(affinity.get_affinity(thread))
    if all(cpus == spec.cpus if exact else cpus <= spec.cpus for cpus in found):
        return []
    why = "; ".join(reasons)
    runs_on = _status(pid).get("Cpus_allowed_list", "?")
    return [f"cpuset {spec.cpuset} is not in force: it runs on {runs_on}{f' ({why})' if why else ''}"]


def _threads(pid: int) -> list[int]:
    try:
        return [int(entry.name) for entry in Path(f"/proc/{pid}/task").iterdir()]
    except OSError:
        # The process has ended, which is reported by itself.
        return []


def _status(pid: int) -> dict[str, str]:
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return {}
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}


def _memory_policy(pid: int) -> str:
    """The policy of a process that set none for single mappings: that of any of them, the first say."""
    try:
        with Path(f"/proc/{pid}/numa_maps").open() as lines:
            return lines.readline().split()[1]
    except (OSError, IndexError):
        return ""


def _not_started(spec: ChildSpec, error: OSError | ValueError) -> WorkerError:
    why = error.strerror if isinstance(error, OSError) else str(error)
    key = f"{spec.path}.bin" if spec.bin is not None else spec.path
    return WorkerError(
        f"{key}: {spec.program} can't be started: {why}",
        next_step="Name a program that exists and may be executed (a script needs its #! line)",
    )


async def in_own_thread(work: Callable[[], T]) -> T:
    """Run ``work`` in a thread that ends with it: what it does to its thread touches no other."""
    loop = asyncio.get_running_loop()
    outcome: asyncio.Future[T] = loop.create_future()

    def settle(set_outcome: Callable[[], None]) -> None:
        if not outcome.done():
            set_outcome()

    def run() -> None:
        try:
            result = work()
        except BaseException as error:
            failure = error
            loop.call_soon_threadsafe(settle, lambda: outcome.set_exception(failure))
        else:
            loop.call_soon_threadsafe(settle, lambda: outcome.set_result(result))

    threading.Thread(target=run, name="start-child", daemon=True).start()
    return await outcome
