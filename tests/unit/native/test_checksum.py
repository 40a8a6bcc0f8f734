"""The checksum of copies: that of `xxh128sum`, however the bytes come."""

from __future__ import annotations

import mmap

import pytest

from damocles_worker import _native


@pytest.mark.parametrize(
    ("content", "expected"),
    # From the test values of the xxHash library.
    [(b"", "99aa06d3014798d86001c324468d497f"), (b"abc", "06b05ab6733a618578af5f94892f3950")],
)
def test_known_values(content: bytes, expected: str) -> None:
    checksum = _native.Checksum()
    for byte in content:
        checksum.update(bytes([byte]))
    assert checksum.hexdigest() == expected


def test_parts_of_any_buffer_count_as_the_whole() -> None:
    content = bytes(range(256)) * 1000
    whole, parts = _native.Checksum(), _native.Checksum()
    whole.update(content)
    with mmap.mmap(-1, len(content)) as buffer:
        buffer[:] = content
        with memoryview(buffer) as view:
            for start in range(0, len(content), 777):
                parts.update(view[start : start + 777])
    assert parts.hexdigest() == whole.hexdigest()


def test_a_buffer_with_gaps_is_refused() -> None:
    with pytest.raises(BufferError, match="contiguous"):
        _native.Checksum().update(memoryview(b"abcdef")[::2])
