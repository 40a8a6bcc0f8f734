# cython: language_level=3, autotestdict=False
"""CPU affinity and NUMA memory policy of threads, as thin system calls (no libnuma).

The masks grow with what the kernel asks for, so that machines with more than 1024 CPUs work. A
refused call is an OSError with the kernel's errno.
"""

import os

cimport cython
from libc.errno cimport EINVAL, errno
from libc.stdlib cimport calloc, free


cdef extern from "<unistd.h>" nogil:
    long syscall(long number, ...)


cdef extern from "<sys/syscall.h>" nogil:
    const long SYS_sched_setaffinity
    const long SYS_sched_getaffinity
    const long SYS_set_mempolicy
    const long SYS_get_mempolicy
    const long SYS_mbind
    const long SYS_getcpu


cdef extern from "<linux/mempolicy.h>" nogil:
    enum:
        _DEFAULT "MPOL_DEFAULT"
        _PREFERRED "MPOL_PREFERRED"
        _BIND "MPOL_BIND"
        _INTERLEAVE "MPOL_INTERLEAVE"
        _LOCAL "MPOL_LOCAL"
        _STRICT "MPOL_MF_STRICT"
        _MOVE "MPOL_MF_MOVE"


MPOL_DEFAULT = _DEFAULT
MPOL_PREFERRED = _PREFERRED
MPOL_BIND = _BIND
MPOL_INTERLEAVE = _INTERLEAVE
MPOL_LOCAL = _LOCAL
MPOL_MF_STRICT = _STRICT
MPOL_MF_MOVE = _MOVE

ctypedef unsigned long Word

cdef enum:
    WORD_BITS = 8 * sizeof(Word)
    # Masks start here and double up to the limit, far above any kernel's.
    FIRST_BITS = 1024
    LIMIT_BITS = 1 << 22


@cython.internal
@cython.auto_pickle(False)
cdef class Mask:
    """A bit set in the kernel's layout: an array of longs, bit n of the set in long n / 64."""

    cdef Word* words
    cdef size_t bits

    def __cinit__(self, size_t bits):
        self.bits = (bits + WORD_BITS - 1) // WORD_BITS * WORD_BITS
        self.words = <Word*>calloc(self.bits // WORD_BITS, sizeof(Word))
        if self.words == NULL:
            raise MemoryError

    def __dealloc__(self):
        free(self.words)

    cdef size_t size(self):
        """Bytes of the array."""
        return self.bits // 8

    cdef frozenset members(self):
        return frozenset(
            n for n in range(self.bits) if self.words[n // WORD_BITS] >> (n % WORD_BITS) & 1
        )


cdef Mask mask_of(frozenset wanted, str what):
    """A mask with these bits set; at least one long, so that an empty set has an array too."""
    cdef size_t n
    for member in wanted:
        if not 0 <= member < LIMIT_BITS:
            raise ValueError(f"{what} {member}: expected a number from 0 to {LIMIT_BITS - 1}")
    cdef Mask mask = Mask(max(wanted, default=0) + 1)
    for n in wanted:
        mask.words[n // WORD_BITS] |= <Word>1 << (n % WORD_BITS)
    return mask


cdef object refused(int error, str call):
    return OSError(error, f"{call}: {os.strerror(error)}")


def set_affinity(int tid, cpus):
    """Let thread ``tid`` (0: the calling one) run on these CPUs only.

    EINVAL: none of them exists or is allowed here; ESRCH: no such thread; EPERM: another user's.
    """
    cdef frozenset wanted = frozenset(cpus)
    cdef Mask mask = mask_of(wanted, "cpu")
    cdef Word* words = mask.words
    cdef size_t size = mask.size()
    cdef long result
    cdef int error = 0
    with nogil:
        result = syscall(SYS_sched_setaffinity, tid, size, words)
        if result < 0:
            error = errno
    if error:
        raise refused(error, f"set affinity of thread {tid} to cpus {sorted(wanted)}")


def get_affinity(int tid):
    """The CPUs that thread ``tid`` (0: the calling one) may run on."""
    cdef size_t bits = FIRST_BITS
    cdef Mask mask
    cdef int error
    while True:
        mask = Mask(bits)
        if syscall(SYS_sched_getaffinity, tid, mask.size(), mask.words) >= 0:
            return mask.members()
        error = errno
        # EINVAL: the kernel's mask is longer than ours.
        if error != EINVAL or bits >= LIMIT_BITS:
            raise refused(error, f"get affinity of thread {tid}")
        bits *= 2


def set_mempolicy_preferred(node):
    """Let the calling thread, and those it starts, take memory from ``node`` while there is some.

    ``None`` restores the default: memory of the node that the thread runs on. EINVAL: no such node.
    """
    cdef Mask mask
    cdef long result
    if node is None:
        result = syscall(SYS_set_mempolicy, _DEFAULT, NULL, <Word>0)
    else:
        mask = mask_of(frozenset((node,)), "node")
        # The kernel takes the count to be one above the number of bits it may read.
        result = syscall(SYS_set_mempolicy, _PREFERRED, mask.words, mask.bits + 1)
    if result < 0:
        raise refused(errno, f"set memory policy to prefer node {node}")


def get_mempolicy():
    """Mode (``MPOL_*``) and nodes of the calling thread's memory policy."""
    cdef size_t bits = FIRST_BITS
    cdef int mode = 0
    cdef int error
    cdef Mask mask
    while True:
        mask = Mask(bits)
        if syscall(SYS_get_mempolicy, &mode, mask.words, mask.bits, NULL, <Word>0) >= 0:
            return mode, mask.members()
        error = errno
        # EINVAL: the kernel has more possible nodes than the mask has bits.
        if error != EINVAL or bits >= LIMIT_BITS:
            raise refused(error, "get memory policy")
        bits *= 2


def mbind(size_t address, size_t length, nodes, *, int mode=_BIND, unsigned int flags=0):
    """Set the memory policy of the pages from ``address`` (a page's start) over ``length`` bytes.

    ``mode`` is ``MPOL_*``; ``flags`` of ``MPOL_MF_MOVE`` also moves pages that exist, of
    ``MPOL_MF_STRICT`` fails with EIO if one is on another node. EINVAL: a node that doesn't exist, or
    an address within a page; EFAULT: not mapped.
    """
    cdef frozenset wanted = frozenset(nodes)
    cdef Mask mask = mask_of(wanted, "node")
    # Modes without nodes want an empty mask, which the kernel knows by a count of zero.
    cdef Word* words = mask.words if wanted else NULL
    cdef size_t count = mask.bits + 1 if wanted else 0
    cdef long result
    cdef int error = 0
    with nogil:
        result = syscall(SYS_mbind, address, length, mode, words, count, flags)
        if result < 0:
            error = errno
    if error:
        raise refused(error, f"bind {length} bytes at {address:#x} to nodes {sorted(wanted)}")


def current_cpu_and_node():
    """The CPU that the calling thread is running on just now, and its NUMA node."""
    cdef unsigned int cpu = 0
    cdef unsigned int node = 0
    if syscall(SYS_getcpu, &cpu, &node, NULL) < 0:
        raise refused(errno, "get current cpu")
    return cpu, node
