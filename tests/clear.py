"""What a text that an operator reads has to have; the tests hold every error of the product to it."""

from __future__ import annotations

import re

#: What only somebody who reads Python understands.
_PYTHON = re.compile(
    r"Traceback|\bat 0x[0-9a-f]+|<class |<\w+ object|\b\w+(?:Error|Exception)\(|\bPosixPath\(|\bStruct\("
    r"|\b(?:None|True|False)\b|\{'\w+':"
)
#: A number, a path, a quoted or technical name, a value behind a colon, or whose file or store it is.
_NAMED = re.compile(
    r"[\d/`'\"]|\[\[|\b\w+[_.]\w+|\b[A-Z][a-z]+[A-Z]\w+|: \S|\bs-t0\d"
    r"|\b(?:store|stores|sector|plan|stage) \S+"
)
#: A command, something to do, or that nothing has to be done.
_ACTION = re.compile(
    r"`|\b(?:add|ask|bring|check|choose|close|compare|complete|correct|expected|fetch|fill|free|give|import|"
    r"install|leave|let|look|lower|make|mend|mount|move|name|open|put|raise|remount|remove|rename|replace|"
    r"report|reserve|restart|restore|resume|run|seal|see|set|show|start|stop|test|unset|update|use|wait|"
    r"write)\b|tried again|goes on by itself|[Nn]othing (?:is left )?to do|given up",
    re.IGNORECASE,
)


def unclear(cause: str, next_step: str) -> str | None:
    """What is wrong with an error of the product; None if it says what happened to what, and what to do."""
    for text in (cause, next_step):
        if not text.strip() or "\n" in text:
            return "empty, or of several lines"
        if (found := _PYTHON.search(text)) is not None:
            return f"Python's own {found[0]!r}"
    if _NAMED.search(cause) is None:
        return "the cause names nothing"
    if _ACTION.search(next_step) is None or len(next_step.split()) < 3:
        return "the next step is none"
    return None
