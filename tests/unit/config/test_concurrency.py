"""Limits of stages beside those of their processors."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.unit.config.support import MINIMAL, inspected, only


def children(*concurrent: int | None) -> str:
    return "".join(
        "[[processors.pc1]]\n" + (f"concurrent = {count}\n" if count is not None else "")
        for count in concurrent
    )


@pytest.mark.parametrize(
    ("limit", "concurrent", "message"),
    [
        (24, (14, 13), "the limit of 24 is below what the processors of pc1 take at once (14 + 13 = 27)"),
        (5, (4,), "the limit of 5 is above what the processors of pc1 take at once (4)"),
        (1, (None, 2), "at most 1 of the 2 processors of pc1 work at the same time"),
    ],
)
def test_limit_that_does_not_fit(
    tmp_path: Path, limit: int, concurrent: tuple[int | None, ...], message: str
) -> None:
    text = f"{MINIMAL}[processors.limitation.concurrent]\npc1 = {limit}\n{children(*concurrent)}"
    finding = only(inspected(tmp_path, text).findings, "processors.limitation.concurrent.pc1")
    assert finding.level == "warning"
    assert message in finding.message
    assert finding.line == text[: text.index("pc1 = ")].count("\n") + 1


@pytest.mark.parametrize(("limit", "concurrent"), [(29, (14, 15)), (2, (None, 2)), (9, (None,))])
def test_limit_that_fits(tmp_path: Path, limit: int, concurrent: tuple[int | None, ...]) -> None:
    text = f"{MINIMAL}[processors.limit]\npc1 = {limit}\n{children(*concurrent)}"
    assert "processors.limit.pc1" not in {finding.path for finding in inspected(tmp_path, text).findings}
