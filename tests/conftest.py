"""What holds in every test."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from damocles_worker.errors import WorkerError


@pytest.fixture(autouse=True)
def every_failure_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No error of ours is made without a cause and a next step, each on one line."""
    unclear: list[str] = []
    initialise = WorkerError.__init__

    def checked(error: WorkerError, cause: str, *, next_step: str, **more: Any) -> None:
        initialise(error, cause, next_step=next_step, **more)
        if not is_clear(cause) or not is_clear(next_step):
            unclear.append(f"{cause!r}, {next_step!r}")

    monkeypatch.setattr(WorkerError, "__init__", checked)
    yield
    assert not unclear, f"errors without a cause or a next step: {'; '.join(unclear)}"


def is_clear(text: str) -> bool:
    """Whether a text says something, on one line."""
    return bool(text.strip()) and "\n" not in text
