"""Durations and sizes: the tables of the Rust worker's libraries, and properties."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from damocles_worker.units import (
    format_duration,
    format_size,
    parse_duration,
    parse_size_a,
    parse_size_b,
)

UNIT_SECONDS = {
    ("ns", "nsec", "nanos"): 1e-9,
    ("us", "usec"): 1e-6,
    ("ms", "msec", "millis"): 1e-3,
    ("s", "sec", "secs", "second", "seconds"): 1,
    ("m", "min", "mins", "minute", "minutes"): 60,
    ("h", "hr", "hrs", "hour", "hours"): 3600,
    ("d", "day", "days"): 86400,
    ("w", "week", "weeks"): 7 * 86400,
    ("M", "month", "months"): 2_630_016,
    ("y", "year", "years"): 31_557_600,
}


@pytest.mark.parametrize(
    ("unit", "seconds"), [(unit, seconds) for units, seconds in UNIT_SECONDS.items() for unit in units]
)
def test_every_unit_of_time_has_its_length(unit: str, seconds: float) -> None:
    assert parse_duration(f"3{unit}") == pytest.approx(3 * seconds)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("1h 30min 5s", 5405),
        ("1h30m", 5400),
        ("2 h", 7200),
        ("  10s ", 10),
        ("0s", 0),
        ("1s1s", 2),
        ("1M", 2_630_016),
        ("1m", 60),
    ],
)
def test_durations_are_sums_of_pairs(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("90", 'write "90s"'),
        ("", "whole numbers with a unit"),
        ("1.5h", "fractions are not accepted"),
        ("-1s", "no sign"),
        ("1S", 'case-sensitive: "s"'),
        ("1H", 'case-sensitive: "h"'),
        ("1Min", 'case-sensitive: "min"'),
        ("5 parsecs", "not a unit of time"),
        ("s5", "whole numbers with a unit"),
        ("1_000s", "whole numbers with a unit"),
        ("99999999999999999999y", "longer than"),
        ("9" * 5000 + "s", "whole numbers with a unit"),
    ],
)
def test_other_texts_are_no_durations_and_the_reason_is_said(text: str, hint: str) -> None:
    with pytest.raises(ValueError, match="is not a duration") as refusal:
        parse_duration(text)
    assert hint in str(refusal.value)
    assert text in str(refusal.value)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0s"),
        (3903, "1h 5m 3s"),
        (0.0015, "1ms 500us"),
        (86400, "1day"),
        (2 * 86400 + 1, "2days 1s"),
        (2_630_016 + 3 * 86400, "1month 3days"),
        (2 * 31_557_600, "2years"),
    ],
)
def test_durations_are_printed_as_humantime_does(seconds: float, text: str) -> None:
    assert format_duration(seconds) == text


def test_a_negative_duration_is_not_printed() -> None:
    with pytest.raises(ValueError, match="negative"):
        format_duration(-1)


@given(st.integers(0, 10**9))
def test_a_printed_duration_reads_back(milliseconds: int) -> None:
    seconds = milliseconds / 1000
    assert parse_duration(format_duration(seconds)) == pytest.approx(seconds)


@given(st.lists(st.tuples(st.integers(0, 10**6), st.sampled_from(["s", "min", "h", "days"])), min_size=1))
def test_the_order_and_spacing_of_pairs_do_not_matter(pairs: list[tuple[int, str]]) -> None:
    tight = "".join(f"{number}{unit}" for number, unit in pairs)
    loose = "  ".join(f"{number} {unit}" for number, unit in reversed(pairs))
    assert parse_duration(tight) == parse_duration(loose)


@given(st.text())
def test_any_text_is_a_duration_or_refused(text: str) -> None:
    try:
        assert parse_duration(text) >= 0
    except ValueError as error:
        assert "is not a duration" in str(error)


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("32GiB", 32 << 30),
        ("32Gi", 32 << 30),
        ("32gib", 32 << 30),
        ("32 GiB", 32 << 30),
        (" 32GiB\t", 32 << 30),
        ("34359738368", 32 << 30),
        ("34359738368B", 32 << 30),
        ("32G", 32 * 10**9),
        ("32GB", 32 * 10**9),
        ("1.5KiB", 1536),
        ("1k", 1000),
        ("2ZiB", 2 << 70),
        ("0", 0),
    ],
)
def test_sizes_of_the_configuration(text: str, size: int) -> None:
    assert parse_size_a(text) == size


@pytest.mark.parametrize(
    "text", ["", "GiB", "1.", ".5GiB", "-1", "+1", "1e3", "1_000", "32GiBs", "32XiB", "1 2"]
)
def test_other_texts_are_no_sizes_of_the_configuration(text: str) -> None:
    with pytest.raises(ValueError, match="is not a size") as refusal:
        parse_size_a(text)
    assert f'"{text}"' in str(refusal.value)


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("2048", 2048),
        ("2KiB", 2048),
        ("2kib", 2048),
        ("2 ki", 2048),
        ("1.5 mb", 1_500_000),
        ("8b", 8),
        ("1PiB", 1 << 50),
    ],
)
def test_sizes_of_the_command_line(text: str, size: int) -> None:
    assert parse_size_b(text) == size


@pytest.mark.parametrize(
    "text", ["", " 2KiB", "2KiB ", "2_000", "1EiB", "1.5", "KiB", ".", ". k", "-1", "99999999999999999999"]
)
def test_other_texts_are_no_sizes_of_the_command_line(text: str) -> None:
    with pytest.raises(ValueError, match="is not a size"):
        parse_size_b(text)


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0 B"),
        (127, "127 B"),
        (2048, "2 KiB"),
        (1536 << 20, "1.5 GiB"),
        (32 << 30, "32 GiB"),
        (1000, "1000 B"),
    ],
)
def test_sizes_are_printed_in_powers_of_1024(size: int, text: str) -> None:
    assert format_size(size) == text


@given(st.integers(0, 2**60))
def test_a_printed_size_is_within_its_two_decimals(size: int) -> None:
    printed = parse_size_a(format_size(size))
    assert abs(printed - size) <= max(size * 0.006, 1)


@given(st.text())
def test_any_text_is_a_size_or_refused(text: str) -> None:
    for parse in (parse_size_a, parse_size_b):
        try:
            assert parse(text) >= 0
        except ValueError as error:
            assert "is not a size" in str(error)
