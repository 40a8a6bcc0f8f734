"""Places in a stage, as a sealing thread waits for them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest

from damocles_worker.config.settings import Sealing
from damocles_worker.errors import Level
from damocles_worker.processors.scheduler import Scheduler
from damocles_worker.sealing.machine.events import AcquireLimit, Answered, Failed
from damocles_worker.sealing.mailbox import Mailbox
from damocles_worker.sealing.records import NoRecords
from damocles_worker.sealing.runner import Runner
from damocles_worker.sealing.stages import Workbench
from tests.processors.support import stub
from tests.unit.sealing.bench import Place, at_work


@pytest.mark.parametrize("external", [False, True])
def test_who_waits_too_long_for_a_place_hears_who_has_it_and_has_taken_none(
    tmp_path: Path, external: bool
) -> None:
    limits = Scheduler({"window_post": 1}, {})

    async def story(there: Place) -> None:
        services = replace(there.bench.services, limits=limits)
        bench = Workbench(services, None, Sealing())
        runner = Runner(services, cast(Any, None), "w1", None, Mailbox().waiting)
        async with limits.hold("window_post"):
            event = await runner.begin(AcquireLimit("window_post", 0.05), bench, NoRecords())
            assert isinstance(event, Failed) and event.failure.level is Level.PERMANENT
            assert "no processor of window_post had a place within 0.05 s" in event.failure.cause
            assert ("processors.window_post[0]: ready" if external else "builtin") in event.failure.cause
            assert "worker processors" in event.failure.next_step
        assert limits.usage()[0].held == 0 and limits.usage()[0].waiting == 0
        assert await runner.begin(AcquireLimit("window_post", 5.0), bench, NoRecords()) == Answered()
        await runner.release()

    at_work(tmp_path, story, *([stub("window_post")] if external else []))
