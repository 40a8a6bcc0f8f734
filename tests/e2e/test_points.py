"""The count that the crash tests end with: a point has resumed when a later life went on behind it."""

from __future__ import annotations

import pytest

from damocles_worker.journal import HistoryRow
from tests.e2e.points import LINES, Kill, report, unresumed

POINTS = ("Allocate Allocated", "AddPiece Added", "Finish Finished", "Finish Finished")


def rows(count: int) -> list[HistoryRow]:
    texts = [point.split() for point in POINTS[:count]]
    return [HistoryRow(seq, 0.0, "s-t01-1", event, state, "") for seq, (event, state) in enumerate(texts)]


def kills(moment: str) -> list[Kill]:
    return [Kill(point, moment, place + (moment == "after")) for place, point in enumerate(POINTS)]


@pytest.mark.parametrize("moment", ["before", "after"])
def test_every_point_has_resumed_when_the_task_is_over(moment: str) -> None:
    assert unresumed(kills(moment), rows(4)) == []


def test_a_write_that_nobody_made_again_has_not_resumed() -> None:
    assert unresumed(kills("before")[:2], rows(1)) == kills("before")[1:2]


def test_a_write_that_nothing_followed_has_not_resumed() -> None:
    assert unresumed(kills("after")[:3], rows(3)) == kills("after")[2:3]


def test_another_event_in_the_place_of_a_lost_write_is_no_resumption() -> None:
    assert unresumed([Kill("Pause Allocated", "before", 1)], rows(4)) != []


def test_a_report_fails_with_the_point_that_has_not_resumed() -> None:
    before = list(LINES)
    with pytest.raises(AssertionError, match=r"2 points, 1 resumed, not .*AddPiece Added"):
        report("a plan", "right after", kills("after")[:2], rows(2))
    assert before == LINES
