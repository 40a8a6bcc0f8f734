"""The lines of the protocol, as the Rust worker and its children write them."""

from __future__ import annotations

import asyncio
import itertools
import json
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from damocles_worker.processors import pipes, protocol
from damocles_worker.processors.protocol import Control, Response, UnreadableLineError
from tests.processors.support import run


def test_request_line_is_that_of_the_rust_worker() -> None:
    line = b"".join(protocol.request_line(1, b'{"cache_path":"/s/cache"}'))
    assert line == b'{"id":1,"task":{"cache_path":"/s/cache"}}\n'


def test_response_lines_are_those_of_the_rust_worker() -> None:
    assert b"".join(protocol.response_line(7, b"true")) == b'{"id":7,"err_msg":null,"output":true}\n'
    assert protocol.error_line(Response(7, "no")) == b'{"id":7,"err_msg":"no","output":null}\n'


def test_our_own_fields_of_a_failure_survive() -> None:
    failure = Response(7, "no", level="Temporary", next_step="wait", waits_for="piece x")
    assert protocol.parse_response(protocol.error_line(failure)) == failure


def test_task_is_passed_on_without_a_copy() -> None:
    task = b'{"c1out":[1,2,3]}'
    assert protocol.request_line(1, task)[1] is task
    output = protocol.parse_response(b'{"id":1,"output":' + task + b"}").output
    assert bytes(output) == task


def test_task_over_several_lines_is_put_on_one() -> None:
    line = b"".join(protocol.request_line(1, b'{\n  "a": "x\\ny"\n}'))
    assert line.count(b"\n") == 1
    assert json.loads(line) == {"id": 1, "task": {"a": "x\ny"}}


@pytest.mark.parametrize(
    ("line", "empty"),
    [
        (b'{"id":1}', True),
        (b'{"id":1,"err_msg":null,"output":null}', True),
        (b'{"id":1,"err_msg":"x"}', False),
        (b'{"output":0,"new_field":[1],"id":1}', False),
    ],
)
def test_missing_fields_are_null_and_unknown_ones_ignored(line: bytes, empty: bool) -> None:
    response = protocol.parse_response(line)
    assert response.id == 1
    assert response.is_empty is empty


def test_largest_id() -> None:
    assert protocol.parse_response(b'{"id":18446744073709551615}').id == 2**64 - 1


@pytest.mark.parametrize(
    ("line", "number"),
    [
        (b"hello", None),
        (b"", None),
        (b"[1]", None),
        (b'{"id":12,"err_msg":null,"output":{"a', 12),
        (b' { "id" : 12 ,', 12),
        (b'{"id":12', None),
        (b'{"output":{"id":12},"err', None),
        (b'{"id":"12"}', None),
        (b'{"id":12,"err_msg":5}', 12),
        (b'{"id":3,"err_msg":"\xff\xfe"}', 3),
        (b'\xff\xfe{"id":3}', None),
    ],
)
def test_unreadable_line_names_its_id_if_it_begins_with_one(line: bytes, number: int | None) -> None:
    with pytest.raises(UnreadableLineError) as caught:
        protocol.parse_response(line)
    assert caught.value.id == number


def test_excerpt_is_cut_at_a_character() -> None:
    assert protocol.excerpt(b"short\n") == "short"
    assert protocol.excerpt("ü".encode() * 50) == "ü" * 50
    assert protocol.excerpt(b"x" + "ü".encode() * 60) == "x" + "ü" * 49 + "..."
    assert protocol.excerpt(b"x" * 101) == "x" * 100 + "..."


def test_control_lines() -> None:
    assert protocol.control_line(Control(3, (1, 2))) == b'{"id":3,"progress":[1,2]}\n'
    assert protocol.control_line(Control(3)) == b'{"id":3}\n'
    assert protocol.parse_control(b'{"id":3,"progress":[1,2]}') == Control(3, (1, 2))


@given(
    lines=st.lists(st.binary(max_size=20).map(lambda line: line.replace(b"\n", b"")), max_size=6),
    rest=st.binary(max_size=5).map(lambda line: line.replace(b"\n", b"")),
    cuts=st.lists(st.integers(0, 130), max_size=8),
)
def test_lines_are_the_same_however_the_stream_is_cut(
    lines: list[bytes], rest: bytes, cuts: list[int]
) -> None:
    stream = b"".join(line + b"\n" for line in lines) + rest
    seen: list[bytes] = []
    ends: list[int] = []
    reader = pipes.Lines(seen.append, ends.append, lambda: pytest.fail("flood"))
    places = [0, *sorted(min(cut, len(stream)) for cut in cuts), len(stream)]
    for start, end in itertools.pairwise(places):
        if start < end:
            reader.feed(stream[start:end])
    reader.end()
    assert seen == lines
    assert ends == [len(rest)]


@pytest.mark.parametrize("uv", [True, False])
def test_others_get_their_turns_while_a_chunk_of_many_short_lines_is_passed_on(uv: bool) -> None:
    lines = 20 * pipes.LINES_A_TURN

    async def main() -> None:
        read, write = os.pipe()
        os.write(write, b"y\n" * lines)
        os.close(write)
        seen: list[bytes] = []
        end = asyncio.get_running_loop().create_future()
        pipes.Reader(read, pipes.Lines(seen.append, end.set_result, lambda: pytest.fail("flood")))
        before, most = 0, 0
        while not end.done():
            await asyncio.sleep(0)
            before, most = len(seen), max(most, len(seen) - before)
        assert seen == [b"y"] * lines
        # Two turns of the loop can lie between two looks.
        assert most <= 2 * pipes.LINES_A_TURN

    run(main(), uv=uv)


def test_endless_line_is_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protocol, "LONGEST_LINE", 100)
    floods: list[int] = []
    reader = pipes.Lines(lambda _line: pytest.fail("a line"), lambda _cut: None, lambda: floods.append(1))
    for _ in range(10):
        reader.feed(b"x" * 40)
    reader.feed(b"\n")
    assert floods == [1]


@pytest.mark.parametrize("uv", [True, False])
def test_writer_passes_large_messages_on_as_the_reader_takes_them(uv: bool) -> None:
    parts = [b"a" * 3_000_000, b"", b"b", b"c" * 2_000_000, *(b"%d" % n for n in range(40))]

    async def main() -> None:
        read, write = os.pipe()
        done = asyncio.get_running_loop().create_future()
        got: list[bytes] = []
        writer = pipes.Writer(write)
        writer.write(*parts)
        writer.write(b"\n")
        writer.close()
        pipes.Reader(read, pipes.Lines(got.append, done.set_result, lambda: pytest.fail("flood")))
        assert await done == 0
        assert got == [b"".join(parts)]
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(write)

    run(main(), uv=uv)


def test_writer_without_a_reader_is_quiet() -> None:
    async def main() -> None:
        read, write = os.pipe()
        os.close(read)
        writer = pipes.Writer(write)
        writer.write(b"x")
        writer.write(b"y")
        writer.close()
        writer.abort()

    run(main())


def test_closed_reader_says_nothing() -> None:
    async def main() -> None:
        read, write = os.pipe()
        lines = pipes.Lines(lambda _line: pytest.fail("line"), lambda _cut: pytest.fail("end"), lambda: None)
        reader = pipes.Reader(read, lines)
        os.write(write, b"x\n")
        reader.close()
        reader.close()
        os.close(write)
        await asyncio.sleep(0.01)

    run(main())
