"""When the demonstration gives up."""

from __future__ import annotations

from typing import Any

import pytest

from damocles_worker.demo.run import stopped_for_good


def thread(state: str, error: str | None) -> dict[str, Any]:
    """What ``worker list`` says of a thread, as far as the demonstration looks at it."""
    return {"index": 0, "thread_state": {"state": state}, "last_error": error}


@pytest.mark.parametrize(
    ("state", "error", "stopped"),
    [
        ("Running", None, False),
        ("Running", "temporary: no answer. Try again", False),
        ("Paused", "permanent: the proof is wrong. Report it", True),
        ("Paused", "temporary: disk full. Free space (waiting for space; looked at again every 2 s)", False),
        ("Paused", None, False),
    ],
)
def test_a_demonstration_whose_thread_stopped_for_good_does_not_wait_for_ever(
    state: str, error: str | None, stopped: bool
) -> None:
    assert stopped_for_good(thread(state, error)) is stopped
