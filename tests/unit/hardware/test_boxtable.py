"""Byte texts at their borders, and boxed tables."""

from __future__ import annotations

import pytest

from damocles_worker.hardware.boxtable import box_table, byte_text, share_text


@pytest.mark.parametrize(
    ("size", "decimals", "text"),
    [
        (0, 2, "0 B"),
        (1024, 2, "1024 B"),
        (1025, 2, "1.00 KiB"),
        (1 << 20, 0, "1024 KiB"),
        (16 << 20, 0, "16 MiB"),
        (1 << 30, 2, "1024.00 MiB"),
        (round(251.57 * 2**30), 2, "251.57 GiB"),
        (1 << 60, 2, "1024.00 PiB"),
    ],
)
def test_byte_text(size: int, decimals: int, text: str) -> None:
    assert byte_text(size, decimals) == text


def test_share_of_nothing_is_nothing() -> None:
    assert share_text(0, 0) == "0.00%"
    assert share_text(1, 3) == "33.33%"


def test_table_with_rows() -> None:
    assert box_table(("Name", "Vendor"), [("A", "NVIDIA"), ("B", "AMD")]) == (
        "╭──────┬────────╮\n"
        "│ Name │ Vendor │\n"
        "├──────┼────────┤\n"
        "│ A    │ NVIDIA │\n"
        "├──────┼────────┤\n"
        "│ B    │ AMD    │\n"
        "╰──────┴────────╯"
    )


def test_table_without_rows_has_one_cell() -> None:
    assert box_table(("A", "B"), [], "nothing here") == (
        "╭───┬──────────╮\n│ A │    B     │\n├───┴──────────┤\n│ nothing here │\n╰──────────────╯"
    )
