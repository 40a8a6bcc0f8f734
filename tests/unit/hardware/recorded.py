"""Machines recorded by ``hwinfo --record``, each one JSON file: empty directories, and files by path."""

from __future__ import annotations

import json
from pathlib import Path

VECTORS = Path(__file__).parents[2] / "vectors/hardware"


def unpack(root: Path, name: str) -> Path:
    """Write the files of a recorded machine below ``root``."""
    machine = json.loads((VECTORS / f"{name}.json").read_text())
    for path in machine["empty_directories"]:
        (root / path).mkdir(parents=True, exist_ok=True)
    for path, text in machine["files"].items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text)
    return root
