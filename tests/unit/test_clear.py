"""The rules that every error of the product is held to, on texts that say too little."""

from __future__ import annotations

import pytest

from tests.clear import unclear


@pytest.mark.parametrize(
    ("cause", "next_step", "problem"),
    [
        ("can't read /a: it doesn't exist", "Look who removed it", None),
        ("the manager misses files of sector s-t01-2", "`resume --state Aborted` gives it up", None),
        ("the child exited with status 1", "The stage is tried again", None),
        ("", "Look who removed it", "empty"),
        ("can't read /a", "Look who\nremoved it", "several lines"),
        ("can't read /a: OSError(5, 'x')", "Look at dmesg, then resume", "Python"),
        ("can't read /a: <_io.FileIO object at 0x7f00>", "Look at dmesg, then resume", "Python"),
        ("store None is not attached", "Add it, then restart", "Python"),
        ("it is broken", "Look at dmesg, then resume", "names nothing"),
        ("can't read /a", "The manager's log says more", "next step"),
        ("can't read /a", "Check it", "next step"),
    ],
)
def test_a_text_that_says_too_little_is_refused(cause: str, next_step: str, problem: str | None) -> None:
    found = unclear(cause, next_step)
    assert found is None if problem is None else found is not None and problem in found
