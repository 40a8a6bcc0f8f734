"""What a parameter file says of itself: the counts in it against its length.

A ``.vk`` file is six points, a 32-bit big-endian count and one G1 point per public input. A ``.params``
file is that key and five queries (h, l, a, b in G1, b in G2), each a count and its points. Points
are uncompressed: 96 bytes in G1, 192 in G2.
"""

from __future__ import annotations

import os
from pathlib import Path

from msgspec import Struct

G1_BYTES = 96
G2_BYTES = 192
_COUNT_BYTES = 4
_KEY_POINTS = 3 * (G1_BYTES + G2_BYTES)
#: Bytes of a point of each query.
_QUERIES = (G1_BYTES, G1_BYTES, G1_BYTES, G1_BYTES, G2_BYTES)


class TruncatedError(Exception):
    """A file ends too early: ``found`` bytes, where at least ``expected`` belong."""

    def __init__(self, found: int, expected: int) -> None:
        super().__init__(f"{found} bytes found, at least {expected} expected")
        self.found = found
        self.expected = expected


class Structure(Struct, frozen=True):
    """The counts of a ``.params`` file; the lengths of its queries."""

    #: The verifying key at the file's head, as it stands in the ``.vk`` file.
    key: bytes
    h: int
    l: int  # noqa: E741 - the query's name
    a: int
    b_g1: int
    b_g2: int
    #: Bytes the counts come to, and bytes the file has.
    expected: int
    found: int


def key_inputs(key: bytes) -> int:
    """Public inputs of a verifying key, the constant one among them; :class:`TruncatedError` if it is cut."""
    if len(key) < _KEY_POINTS + _COUNT_BYTES:
        raise TruncatedError(len(key), _KEY_POINTS + _COUNT_BYTES)
    inputs = int.from_bytes(key[_KEY_POINTS : _KEY_POINTS + _COUNT_BYTES], "big")
    expected = key_bytes(inputs)
    if len(key) < expected:
        raise TruncatedError(len(key), expected)
    return inputs


def key_bytes(inputs: int) -> int:
    """Bytes of a verifying key with that many public inputs."""
    return _KEY_POINTS + _COUNT_BYTES + inputs * G1_BYTES


def read_structure(path: Path, inputs: int) -> Structure:
    """Read the counts of a ``.params`` file whose key has ``inputs`` public inputs.

    Reads a few kilobytes, wherever they stand. Raises :class:`TruncatedError` where a count itself is
    beyond the end of the file, and ``OSError``.
    """
    with open(path, "rb") as file:
        found = os.fstat(file.fileno()).st_size
        key = file.read(key_bytes(inputs))
        if len(key) < key_bytes(inputs):
            raise TruncatedError(found, key_bytes(inputs))
        offset = len(key)
        counts = []
        for point in _QUERIES:
            file.seek(offset)
            count = file.read(_COUNT_BYTES)
            if len(count) < _COUNT_BYTES:
                raise TruncatedError(found, offset + _COUNT_BYTES)
            counts.append(int.from_bytes(count, "big"))
            offset += _COUNT_BYTES + counts[-1] * point
    h, l, a, b_g1, b_g2 = counts  # noqa: E741 - the names of the queries
    return Structure(key, h, l, a, b_g1, b_g2, expected=offset, found=found)
