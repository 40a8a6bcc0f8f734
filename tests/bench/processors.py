"""What external processors cost: ``python -m tests.bench.processors``. Prints figures, judges nothing."""

from __future__ import annotations

import asyncio
import json
import statistics
import time

import uvloop

from damocles_worker.processors.inprocess import InProcess
from damocles_worker.processors.spec import ChildSpec
from tests.processors.support import pool, stub

ROUNDS = 300
LARGE = 35 << 20
CHILDREN = 64
IDLE_SECONDS = 10.0


async def round_trip() -> None:
    """An empty task: a transfer without routes in our own child, beside the same length of call here."""
    inside = InProcess({"transfer": lambda _task, _progress, _cancel: b"true"})
    task = b'{"routes":[]}'
    async with pool(ChildSpec("transfer", 0, stable_wait=60.0, envs={"RUST_LOG": "error"})) as running:
        child, here = [], []
        for _ in range(ROUNDS):
            began = time.perf_counter()
            await running.run("transfer", task)
            child.append(time.perf_counter() - began)
            began = time.perf_counter()
            await inside.run("transfer", task)
            here.append(time.perf_counter() - began)
    child_ms, here_ms = 1000 * statistics.median(child), 1000 * statistics.median(here)
    print(
        f"Empty task: {child_ms:.2f} ms through a child, {here_ms:.2f} ms here,"
        f" {child_ms - here_ms:.2f} ms more"
    )


async def large_output() -> None:
    """An output of the size of a 32 GiB C1, from a child and on to another."""
    async with pool(stub("pc1"), stub("c2")) as running:
        await running.run("pc1", b'{"do":"large","bytes":1}')
        began, cpu = time.perf_counter(), time.process_time()
        output = await running.run("pc1", b'{"do":"large","bytes":%d}' % LARGE)
        got, got_cpu = time.perf_counter() - began, time.process_time() - cpu
        began, cpu = time.perf_counter(), time.process_time()
        length = json.loads(await running.run("c2", b'{"do":"size","value":' + output + b"}"))
        sent, sent_cpu = time.perf_counter() - began, time.process_time() - cpu
        assert length == LARGE
    print(
        f"35 MiB output: received in {1000 * got:.0f} ms ({1000 * got_cpu:.0f} ms of this process),"
        f" sent in {1000 * sent:.0f} ms ({1000 * sent_cpu:.0f} ms of this process);"
        " the rest is the stub's JSON"
    )


async def supervision() -> None:
    """Many children that do nothing, looked at once a second as the metrics do."""
    async with pool(*(stub("pc1", index=index, stable_wait=60.0) for index in range(CHILDREN))) as running:
        began, cpu = time.perf_counter(), time.process_time()
        while time.perf_counter() - began < IDLE_SECONDS:
            running.status()
            await asyncio.sleep(1)
        used = (time.process_time() - cpu) / (time.perf_counter() - began)
    print(f"{CHILDREN} children supervised: {100 * used:.2f} % of a core")


def main() -> None:
    """Print all figures."""
    for bench in (round_trip, large_output, supervision):
        uvloop.run(bench())


if __name__ == "__main__":
    main()
