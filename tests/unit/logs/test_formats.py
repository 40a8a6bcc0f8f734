"""The lines themselves: for people, as JSON, with their place and without secrets."""

from __future__ import annotations

import asyncio
import json
import logging
import re
import sys
from collections.abc import Callable, Iterator

import pytest

from damocles_worker import logs
from damocles_worker.logs import place
from damocles_worker.processors.inprocess import InProcess

log = logging.getLogger("damocles_worker.test")


@pytest.fixture
def printed(capsys: pytest.CaptureFixture[str]) -> Iterator[Callable[[], str]]:
    """Tells what went to stderr; the log is as before afterwards."""
    root = logging.getLogger()
    level, handlers = root.level, list(root.handlers)
    logs.set_up({})
    yield lambda: capsys.readouterr().err
    root.setLevel(level)
    root.handlers[:] = handlers


def test_a_line_for_people_has_time_level_target_and_message(printed: Callable[[], str]) -> None:
    log.warning("the disk of %s is full", "/mnt/s1")
    log.debug("not shown")
    assert re.fullmatch(
        r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}[+-]\d\d:\d\d  WARN damocles_worker::test: "
        r"the disk of /mnt/s1 is full\n",
        printed(),
    )


def test_a_json_line_is_one_object_whatever_the_message(printed: Callable[[], str]) -> None:
    logs.use_format("json")
    try:
        raise ValueError("two\nlines")
    except ValueError:
        log.exception('a "quoted" word')
    (line,) = printed().splitlines()
    found = json.loads(line)
    assert list(found) == ["time", "level", "target", "message"]
    assert found["level"] == "error" and found["message"].startswith('a "quoted" word\nTraceback')
    assert found["message"].endswith("ValueError: two\nlines")


def test_colours_are_for_terminals_that_want_them(
    printed: Callable[[], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    monkeypatch.setenv("NO_COLOR", "")
    logs.use_format("human")
    log.info("plain")
    monkeypatch.delenv("NO_COLOR")
    logs.use_format("human")
    log.info("coloured")
    plain, coloured = printed().splitlines()
    assert "\x1b" not in plain and "\x1b[32m INFO\x1b[0m" in coloured


def test_lines_of_a_thread_and_of_all_it_starts_name_sector_and_stage(printed: Callable[[], str]) -> None:
    async def sealing_thread(index: int) -> None:
        mine = place.enter(index)
        log.info("nothing yet")
        mine.is_at(f"s-t01000-{index}", "PC1")
        await asyncio.gather(asyncio.to_thread(log.info, "in a thread"), asyncio.sleep(0))
        await InProcess().call("pc1", lambda _flag: log.info("computing"))
        mine.is_at(f"s-t01000-{index}", "-")
        log.info("done")

    async def both() -> None:
        await asyncio.gather(sealing_thread(0), sealing_thread(7))
        log.info("of no thread")

    asyncio.run(both())
    lines = [line.partition(" INFO ")[2] for line in printed().splitlines()]
    test = "damocles_worker::test: "
    assert [line for line in lines if "index=7" in line and test in line] == [
        f"thread{{index=7}}: {test}nothing yet",
        f"thread{{index=7 sector=s-t01000-7 stage=PC1}}: {test}in a thread",
        f"thread{{index=7 sector=s-t01000-7 stage=PC1}}: {test}computing",
        f"thread{{index=7 sector=s-t01000-7}}: {test}done",
    ]
    assert lines[-1] == f"{test}of no thread"


def test_secrets_are_masked_in_messages_and_tracebacks(printed: Callable[[], str]) -> None:
    try:
        raise OSError("GET http://market:1/piece?sig=hush-hush")
    except OSError:
        log.exception("no answer")
    text = printed()
    assert "hush-hush" not in text and "http://market:1/piece?***" in text
