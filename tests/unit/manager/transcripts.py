"""Exchanges recorded with a real manager (tests/vectors/transcripts.jsonl), one a line."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import msgspec

VECTORS = Path(__file__).parents[2] / "vectors"
NAMESPACE = "Venus."


class Line(msgspec.Struct, frozen=True):
    """A recorded exchange. ``number`` is that of its line in the file, from 1."""

    number: int
    what: str
    request: str
    status: int
    response: str
    http_method: str
    path: str
    headers: dict[str, str]

    @property
    def body(self) -> dict[str, Any] | None:
        """The request, if it is one JSON object."""
        try:
            parsed = json.loads(self.request)
        except ValueError:
            return None
        return parsed if isinstance(parsed, dict) else None

    @property
    def method(self) -> str:
        """Its method without prefix; empty when there is none."""
        return str((self.body or {}).get("method", "")).removeprefix(NAMESPACE)

    def __str__(self) -> str:
        return f"{self.number} {self.what}"


@cache
def load() -> tuple[Line, ...]:
    lines = []
    for number, text in enumerate((VECTORS / "transcripts.jsonl").read_text().splitlines(), 1):
        entry = json.loads(text)
        lines.append(
            Line(
                number=number,
                what=entry["what"],
                request=entry["request"],
                status=entry["status"],
                response=entry["response"],
                http_method=entry.get("method", "POST"),
                path=entry.get("path", "/rpc/v0"),
                headers=entry.get("headers", {}),
            )
        )
    return tuple(lines)
