"""Affinity and memory policy, read back as the kernel shows them in /proc."""

from __future__ import annotations

import ctypes
import errno
import mmap
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from damocles_worker import affinity

PAGES = 4 * mmap.PAGESIZE


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    """Leaves the calling thread as it was."""
    cpus = affinity.get_affinity(0)
    yield
    affinity.set_affinity(0, cpus)
    affinity.set_mempolicy_preferred(None)


def cpus_shown(tid: int) -> frozenset[int]:
    """Cpus_allowed_list of a thread of this process."""
    status = Path(f"/proc/self/task/{tid}/status").read_text()
    line = next(line for line in status.splitlines() if line.startswith("Cpus_allowed_list:"))
    cpus: set[int] = set()
    for part in line.split()[1].split(","):
        first, _, last = part.partition("-")
        cpus.update(range(int(first), int(last or first) + 1))
    return frozenset(cpus)


def policy_shown(address: int | None = None) -> str:
    """Policy of the memory area with this address, or of the calling thread's first."""
    lines = Path("/proc/thread-self/numa_maps").read_text().splitlines()
    areas = [line.split() for line in lines]
    return next(area[1] for area in areas if address is None or int(area[0], 16) == address)


def memory_policy_works() -> bool:
    """Containers may forbid these calls, and kernels without NUMA lack them."""
    try:
        affinity.set_mempolicy_preferred(0)
        return Path("/proc/thread-self/numa_maps").exists()
    except OSError as refused:
        if refused.errno not in (errno.EPERM, errno.ENOSYS):
            raise
        return False
    finally:
        affinity.set_mempolicy_preferred(None)


needs_memory_policy = pytest.mark.skipif(
    not memory_policy_works(), reason="set_mempolicy is not permitted here"
)


def in_thread(function: Callable[[], None]) -> None:
    """Runs ``function`` in a new thread and raises what it raises."""
    raised: list[BaseException] = []

    def run() -> None:
        try:
            function()
        except BaseException as error:
            raised.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    for error in raised:
        raise error


def test_affinity_is_the_one_the_kernel_shows() -> None:
    tid = threading.get_native_id()
    assert affinity.get_affinity(0) == affinity.get_affinity(tid) == cpus_shown(tid)
    one = min(affinity.get_affinity(0))
    affinity.set_affinity(0, iter([one]))
    assert affinity.get_affinity(0) == cpus_shown(tid) == {one}
    assert affinity.current_cpu_and_node()[0] == one


def test_affinity_of_another_thread_leaves_ours_alone() -> None:
    ours = affinity.get_affinity(0)
    one = max(ours)
    ready, done = threading.Event(), threading.Event()

    def wait() -> None:
        ready.set()
        done.wait()

    thread = threading.Thread(target=wait)
    thread.start()
    ready.wait()
    assert thread.native_id is not None
    try:
        affinity.set_affinity(thread.native_id, [one])
        assert cpus_shown(thread.native_id) == {one}
        assert cpus_shown(threading.get_native_id()) == ours
    finally:
        done.set()
        thread.join()


def test_cpus_beyond_1024_reach_the_kernel() -> None:
    one = min(affinity.get_affinity(0))
    affinity.set_affinity(0, [one, 5000])
    assert affinity.get_affinity(0) == {one}


@pytest.mark.parametrize("cpus", [[], [5000]])
def test_a_set_without_a_usable_cpu_is_refused(cpus: list[int]) -> None:
    with pytest.raises(OSError, match=r"set affinity of thread 0 to cpus \[") as refused:
        affinity.set_affinity(0, cpus)
    assert refused.value.errno == errno.EINVAL


def test_a_thread_that_is_gone_is_refused() -> None:
    with subprocess.Popen(["true"]) as gone:
        gone.wait()
    for call in (affinity.get_affinity, lambda tid: affinity.set_affinity(tid, [0])):
        with pytest.raises(ProcessLookupError, match=f"thread {gone.pid}"):
            call(gone.pid)


@pytest.mark.parametrize("number", [-1, 1 << 40])
def test_an_absurd_number_is_named(number: int) -> None:
    with pytest.raises(ValueError, match=f"cpu {number}: expected"):
        affinity.set_affinity(0, [number])
    with pytest.raises(ValueError, match=f"node {number}: expected"):
        affinity.set_mempolicy_preferred(number)


def test_current_cpu_is_an_allowed_one_on_a_node_that_exists() -> None:
    cpu, node = affinity.current_cpu_and_node()
    assert cpu in affinity.get_affinity(0)
    nodes = Path("/sys/devices/system/node")
    if nodes.exists():
        assert (nodes / f"node{node}").exists()


@needs_memory_policy
def test_the_preferred_node_is_of_the_calling_thread_only() -> None:
    def prefer() -> None:
        affinity.set_mempolicy_preferred(0)
        assert affinity.get_mempolicy() == (affinity.MPOL_PREFERRED, frozenset({0}))
        assert policy_shown() == "prefer:0"
        affinity.set_mempolicy_preferred(None)
        assert affinity.get_mempolicy() == (affinity.MPOL_DEFAULT, frozenset())

    in_thread(prefer)
    assert affinity.get_mempolicy() == (affinity.MPOL_DEFAULT, frozenset())


@needs_memory_policy
def test_a_node_that_does_not_exist_is_refused() -> None:
    with pytest.raises(OSError, match="prefer node 1000") as refused:
        affinity.set_mempolicy_preferred(1000)
    assert refused.value.errno == errno.EINVAL


@needs_memory_policy
def test_mbind_sets_the_policy_of_one_area() -> None:
    with mmap.mmap(-1, PAGES) as area:
        view = ctypes.c_char.from_buffer(area)
        address = ctypes.addressof(view)
        try:
            affinity.mbind(address, PAGES, [0], flags=affinity.MPOL_MF_MOVE)
            assert policy_shown(address) == "bind:0"
            affinity.mbind(address, PAGES, [0], mode=affinity.MPOL_PREFERRED)
            assert policy_shown(address) == "prefer:0"
            with pytest.raises(OSError, match=f"bind {PAGES} bytes at 0x") as refused:
                affinity.mbind(address + 1, PAGES, [0])
            assert refused.value.errno == errno.EINVAL
        finally:
            del view
    assert affinity.get_mempolicy() == (affinity.MPOL_DEFAULT, frozenset())
