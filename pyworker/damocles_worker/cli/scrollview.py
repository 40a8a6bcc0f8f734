"""A list that scrolls on the terminal: a title, column heads, rows, one of them selected."""

from __future__ import annotations

import curses
from collections.abc import Sequence

PAGE = 20
HELP = "q quit   Up/Down a row   Left/Right 20 rows"


def show(title: str, head: str, rows: Sequence[str]) -> None:
    """Show the rows until ``q`` (or Ctrl-C) is pressed.

    Raises ``curses.error`` when the terminal can't do it (no or an unknown ``TERM``).
    """
    try:
        curses.wrapper(_loop, title, head, rows)
    except KeyboardInterrupt:
        return


def moved(selected: int, key: int, count: int) -> int:
    """The row selected after a key: single steps wrap, pages stop at an end and wrap from there."""
    last = count - 1
    match key:
        case curses.KEY_UP:
            return (selected - 1) % count if count else 0
        case curses.KEY_DOWN:
            return (selected + 1) % count if count else 0
        case curses.KEY_LEFT | curses.KEY_PPAGE:
            return max(last, 0) if selected == 0 else max(selected - PAGE, 0)
        case curses.KEY_RIGHT | curses.KEY_NPAGE:
            return 0 if selected >= last else min(selected + PAGE, last)
        case _:
            return moved(selected, curses.KEY_RIGHT, count) if key == ord(" ") else selected


def _loop(screen: curses.window, title: str, head: str, rows: Sequence[str]) -> None:
    try:
        curses.curs_set(0)
    except curses.error:
        pass  # a terminal that can't hide its cursor
    selected = top = 0
    while True:
        top = _draw(screen, title, head, rows, selected, top)
        key = screen.getch()
        if key in (ord("q"), ord("Q")):
            return
        selected = moved(selected, key, len(rows))


def _draw(screen: curses.window, title: str, head: str, rows: Sequence[str], selected: int, top: int) -> int:
    """Draw what fits; answers the first row shown, moved so that the selected one is visible."""
    height, width = screen.getmaxyx()
    body = max(1, height - 3)
    top = min(max(top, selected - body + 1), selected)
    screen.erase()
    lines = [(title.center(width - 1), curses.A_BOLD), (head, curses.A_UNDERLINE)]
    for index in range(top, min(top + body, len(rows))):
        lines.append((rows[index], curses.A_REVERSE if index == selected else curses.A_NORMAL))
    for line, (text, style) in enumerate(lines[:height]):
        screen.addnstr(line, 0, text, width - 1, style)
    if height > len(lines):
        screen.addnstr(height - 1, 0, HELP, width - 1, curses.A_DIM)
    screen.refresh()
    return top
