"""What holds in every test."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

import pytest

from damocles_worker.errors import WorkerError
from damocles_worker.sealing.machine.events import Failure
from tests.clear import unclear


@pytest.fixture(autouse=True)
def every_failure_says_what_to_do(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> Iterator[None]:
    """No error of ours is made without a clear cause and next step, each on one line.

    Those that the tests make up themselves are only looked at for being there, and so are those that show
    what Hypothesis has made up.
    """
    found: list[str] = []
    made_up = getattr(request.function, "is_hypothesis_test", False)

    def look(cause: str, next_step: str, maker: str) -> None:
        problem = unclear(cause, next_step)
        ours = "/damocles_worker/" in maker and not made_up
        if problem and (ours or not cause.strip() or not next_step.strip()):
            found.append(f"{problem}: {cause!r}, {next_step!r}")

    make_error, make_failure = WorkerError.__init__, Failure.__init__

    def error(self: WorkerError, cause: str, *, next_step: str, **more: Any) -> None:
        make_error(self, cause, next_step=next_step, **more)
        look(cause, next_step, sys._getframe(1).f_code.co_filename)

    def failure(self: Failure, *args: Any, **more: Any) -> None:
        make_failure(self, *args, **more)
        maker = sys._getframe(1).f_code.co_filename
        # There the errors of others, which have been looked at, become failures.
        if not maker.endswith("/failures.py"):
            look(self.cause, self.next_step, maker)

    monkeypatch.setattr(WorkerError, "__init__", error)
    monkeypatch.setattr(Failure, "__init__", failure)
    yield
    assert not found, f"errors that say too little: {'; '.join(found)}"
