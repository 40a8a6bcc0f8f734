"""Byte counts and boxed tables as ``damocles-worker-util`` prints them."""

from __future__ import annotations

from collections.abc import Sequence

_UNITS = ("B", "KiB", "MiB", "GiB", "TiB", "PiB")


def byte_text(size: int, decimals: int = 2) -> str:
    """A size in the largest unit that it exceeds: ``503.55 GiB``; exactly 1 GiB is ``1024.00 MiB``.

    Plain bytes have no decimals. (So prints the Rust worker's utility, whose output scripts read.)
    """
    unit = 0
    while unit + 1 < len(_UNITS) and size > 1 << 10 * (unit + 1):
        unit += 1
    return f"{size} B" if unit == 0 else f"{size / (1 << 10 * unit):.{decimals}f} {_UNITS[unit]}"


def share_text(used: int, total: int) -> str:
    """``used`` as a percentage of ``total``: ``6.50%``; of nothing it is ``0.00%``."""
    return f"{100 * used / total if total else 0:.2f}%"


def box_table(header: Sequence[str], rows: Sequence[Sequence[str]], empty: str = "") -> str:
    """A table with rounded corners, a centred header and a line between any two rows.

    Without rows the text ``empty`` stands in one cell as wide as the table.
    """
    widths = [max(len(row[column]) for row in (header, *rows)) for column in range(len(header))]
    if not rows:
        widths[-1] += max(0, len(empty) - (sum(widths) + 3 * (len(widths) - 1)))
    lines = [
        _rule(widths, "╭┬╮"),
        _row([text.center(width) for text, width in zip(header, widths, strict=True)]),
    ]
    for row in rows:
        lines.append(_rule(widths, "├┼┤"))
        lines.append(_row([text.ljust(width) for text, width in zip(row, widths, strict=True)]))
    if not rows:
        lines.append(_rule(widths, "├┴┤"))
        whole = [sum(widths) + 3 * (len(widths) - 1)]
        lines.append(_row([empty.ljust(whole[0])]))
        widths = whole
    return "\n".join([*lines, _rule(widths, "╰┴╯")])


def _rule(widths: Sequence[int], corners: str) -> str:
    left, middle, right = tuple(corners)
    return left + middle.join("─" * (width + 2) for width in widths) + right


def _row(cells: Sequence[str]) -> str:
    return "│ " + " │ ".join(cells) + " │"
