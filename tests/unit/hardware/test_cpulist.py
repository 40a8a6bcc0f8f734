"""Cpu lists in the kernel's notation."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from damocles_worker.hardware.cpulist import format_cpu_list, parse_cpu_list


@pytest.mark.parametrize(
    ("text", "cpus"),
    [
        ("0", {0}),
        ("0-3,8,10-11", {0, 1, 2, 3, 8, 10, 11}),
        ("36-37, 84-85", {36, 37, 84, 85}),
        ("1,1,0-1", {0, 1}),
        ("0-15:2/8", {0, 1, 8, 9}),
    ],
)
def test_lists_that_the_kernel_takes(text: str, cpus: set[int]) -> None:
    assert parse_cpu_list(text) == cpus


@pytest.mark.parametrize(
    "text", ["", ",", "1,", "a", "1-", "-1", "3-1", "0-3;5", "0..3", "0-3:9/2", "0-3:0/2", "99999"]
)
def test_other_texts_are_refused_by_name(text: str) -> None:
    with pytest.raises(ValueError, match="is not a cpu list") as refusal:
        parse_cpu_list(text)
    assert f'"{text}"' in str(refusal.value)


@given(st.frozensets(st.integers(0, 300), min_size=1))
def test_a_printed_list_reads_back(cpus: frozenset[int]) -> None:
    assert parse_cpu_list(format_cpu_list(cpus)) == cpus


def test_runs_are_printed_as_ranges() -> None:
    assert format_cpu_list([8, 2, 0, 1]) == "0-2,8"
    assert format_cpu_list([]) == ""
