"""Runs stages in this process, each in a thread of its own."""

from __future__ import annotations

import asyncio
import contextvars
import logging
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import msgspec

from damocles_worker import _native
from damocles_worker.logs import engine
from damocles_worker.processors.explain import explain
from damocles_worker.processors.names import builtin_name

log = logging.getLogger(__name__)

#: Seconds a cancelled stage gets to end before its thread is left to itself.
GRACE = 5.0

Progress = Callable[[int, int], None]
#: Task JSON, progress callback, cancel flag; output JSON.
StageFunction = Callable[[bytes, Progress | None, _native.Cancel | None], bytes]
Result = TypeVar("Result")


def _verification(verify: Callable[[bytes], bool]) -> StageFunction:
    def stage(task: bytes, _progress: Progress | None, _cancel: _native.Cancel | None) -> bytes:
        return msgspec.json.encode(verify(task))

    return stage


def _clear_cache(task: bytes, _progress: Progress | None, _cancel: _native.Cancel | None) -> bytes:
    _native.clear_cache(task)
    return b"null"


STAGES: Mapping[str, StageFunction] = {
    "add_pieces": _native.add_pieces,
    "tree_d": _native.tree_d,
    "pc1": _native.pc1,
    "pc2": _native.pc2,
    "synth_proof": _native.synth_proof,
    "c1": _native.c1,
    "c2": _native.c2,
    "verify_seal": _verification(_native.verify_seal),
    "clear_cache": _clear_cache,
    "snap_encode": _native.snap_encode,
    "snap_vanilla": _native.snap_vanilla,
    "snap_prove": _native.snap_prove,
    "verify_snap": _verification(_native.verify_snap),
    "unseal": _native.unseal,
    "snap_decode": _native.snap_decode,
    "window_post": _native.window_post,
    "winning_post": _native.winning_post,
    "verify_window_post": _verification(_native.verify_window_post),
    "verify_winning_post": _verification(_native.verify_winning_post),
}


class InProcess:
    """The executor for stages without an external processor."""

    def __init__(self, stages: Mapping[str, StageFunction] = STAGES, grace: float = GRACE) -> None:
        self._stages = stages
        self._grace = grace

    def name(self, stage: str) -> str:
        """What ``worker list`` shows as the processor of ``stage``."""
        return builtin_name(stage)

    async def run(
        self,
        stage: str,
        task: bytes,
        *,
        progress: Progress | None = None,
        cancel: _native.Cancel | None = None,
    ) -> bytes:
        """Run ``stage`` on the task JSON ``task`` and return the output JSON.

        ``progress`` is called from the computing thread. Raises
        :class:`~damocles_worker.errors.WorkerError` (permanent) when the stage fails, and
        :class:`_native.Cancelled` when somebody set ``cancel``.
        """
        function = self._stages[stage]
        return await self.call(stage, lambda flag: function(task, progress, flag), cancel=cancel)

    async def call(
        self,
        stage: str,
        work: Callable[[_native.Cancel], Result],
        *,
        cancel: _native.Cancel | None = None,
        grace: float | None = None,
    ) -> Result:
        """Run ``work`` in a thread of its own; it gets the flag that tells it to stop.

        When the waiting task is cancelled the flag is set, and the thread gets ``grace`` seconds (None: the
        usual ones) to end before it is abandoned: it is a daemon thread, so that the process can exit all
        the same.
        """
        flag = cancel if cancel is not None else _native.Cancel()
        loop = asyncio.get_running_loop()
        outcome: asyncio.Future[Result] = loop.create_future()

        def settle(function: Callable[[Any], None], value: object) -> None:
            try:
                loop.call_soon_threadsafe(function, value)
            except RuntimeError:
                # The loop is closed: the daemon ended without waiting for this stage.
                log.info("%s ended after the worker", self.name(stage))

        def compute() -> None:
            started = time.monotonic()
            engine.here()
            try:
                result = work(flag)
                log.info("%s took %.3f s", self.name(stage), time.monotonic() - started)
            except BaseException as error:
                settle(outcome.set_exception, error)
            else:
                settle(outcome.set_result, result)

        # In a copy of this task's context: the log knows by it whose sector the thread works on.
        context = contextvars.copy_context()
        threading.Thread(target=context.run, args=(compute,), name=stage, daemon=True).start()
        try:
            return await asyncio.shield(outcome)
        except asyncio.CancelledError:
            flag.cancel()
            await asyncio.wait({outcome}, timeout=self._grace if grace is None else grace)
            # That it was cut short is no news; asyncio would log what nobody has asked for.
            outcome.add_done_callback(asyncio.Future.exception)
            raise
        except _native.StageError as error:
            log.debug("%s failed: %s", self.name(stage), error)
            raise explain(self.name(stage), str(error)) from error
