"""CPU affinity and NUMA memory policy of threads, as thin system calls (no libnuma).

More than 1024 CPUs are supported. A refused call is an :class:`OSError` with the kernel's errno; a
negative or absurd number is a :class:`ValueError`.
"""

from collections.abc import Iterable

MPOL_DEFAULT: int
MPOL_PREFERRED: int
MPOL_BIND: int
MPOL_INTERLEAVE: int
MPOL_LOCAL: int
MPOL_MF_STRICT: int
MPOL_MF_MOVE: int

def set_affinity(tid: int, cpus: Iterable[int]) -> None:
    """Let thread ``tid`` (0: the calling one) run on these CPUs only.

    EINVAL: none of them exists or is allowed here; ESRCH: no such thread; EPERM: another user's.
    """

def get_affinity(tid: int) -> frozenset[int]:
    """The CPUs that thread ``tid`` (0: the calling one) may run on."""

def set_mempolicy_preferred(node: int | None) -> None:
    """Let the calling thread, and those it starts, take memory from ``node`` while there is some.

    ``None`` restores the default: memory of the node that the thread runs on. EINVAL: no such node.
    """

def get_mempolicy() -> tuple[int, frozenset[int]]:
    """Mode (``MPOL_*``) and nodes of the calling thread's memory policy."""

def mbind(address: int, length: int, nodes: Iterable[int], *, mode: int = ..., flags: int = 0) -> None:
    """Set the memory policy of the pages from ``address`` (a page's start) over ``length`` bytes.

    ``mode`` is ``MPOL_*``, by default ``MPOL_BIND``; ``flags`` of ``MPOL_MF_MOVE`` also moves pages that
    exist, of ``MPOL_MF_STRICT`` fails with EIO if one is on another node. EINVAL: a node that doesn't
    exist, or an address within a page; EFAULT: not mapped.
    """

def current_cpu_and_node() -> tuple[int, int]:
    """The CPU that the calling thread is running on just now, and its NUMA node."""
