"""Configuration files for tests: a valid one to vary, and short ways to ask what is found."""

from __future__ import annotations

from pathlib import Path

from damocles_worker.config.findings import Finding
from damocles_worker.config.load import Inspection, inspect
from damocles_worker.config.settings import Settings

VECTORS = Path(__file__).parents[2] / "vectors" / "config"

#: The least a worker needs.
MINIMAL = """\
sector_manager.rpc_client.addr = "/ip4/127.0.0.1/tcp/1789"
[[sealing_thread]]
location = "/stores/1"
[[attached]]
name = "persist"
location = "/persist"
"""


def inspected(directory: Path, text: str | bytes) -> Inspection:
    """What is said about a file of this text."""
    path = directory / "worker.toml"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return inspect(str(path))


def settings_of(directory: Path, text: str) -> Settings:
    """The settings of a file without errors."""
    inspection = inspected(directory, text)
    assert [f for f in inspection.findings if f.level == "error"] == []
    assert inspection.settings is not None
    return inspection.settings


def only(findings: list[Finding], path: str) -> Finding:
    """The one finding at a TOML path."""
    found = [finding for finding in findings if finding.path == path]
    assert len(found) == 1, f"{path}: {[str(finding) for finding in findings]}"
    return found[0]
