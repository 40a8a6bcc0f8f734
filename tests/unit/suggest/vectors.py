"""The suggestions in ``tests/vectors``; ``python -m tests.unit.suggest.vectors`` writes them anew."""

from __future__ import annotations

import tempfile
from pathlib import Path

from click.testing import CliRunner

from damocles_worker.cli.main import cli
from tests.unit.hardware.providers import PROVIDERS, record_provider

GPU_PROGRAM = "/usr/local/bin/gpu-prover"
#: Options by machine: those of the examples have GPUs.
OPTIONS = {name: [] if name == "guide" else ["--gpu-program", GPU_PROGRAM] for name in PROVIDERS}


def vector(name: str) -> Path:
    """Where the suggestion for a machine is kept."""
    return Path(__file__).parents[2] / f"vectors/suggest/{name}.toml"


def write() -> None:
    """Write the suggestion for every machine."""
    for name, build in PROVIDERS.items():
        with tempfile.TemporaryDirectory() as directory:
            tree = record_provider(Path(directory), build())
            command = ["config", "suggest", "--fsroot", str(tree), *OPTIONS[name]]
            vector(name).write_text(CliRunner().invoke(cli, command, catch_exceptions=False).stdout)


if __name__ == "__main__":
    write()
