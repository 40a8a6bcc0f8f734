"""``damocles-worker demo``: two real sectors on the embedded manager."""

from __future__ import annotations

import sys
from pathlib import Path

import click


@click.command()
@click.option(
    "--dir",
    "directory",
    type=click.Path(file_okay=False, path_type=Path),
    help="Keep the files here [default: a new temporary directory].",
)
def demo(directory: Path | None) -> None:
    """Seal one sector without deals and one with deals on an embedded manager, and verify both proofs.

    Missing Groth16 parameters are generated first. Exit status 0 when both proofs verify.
    """
    from damocles_worker.demo.run import run_demo  # loaded here: no other command needs it

    sys.exit(run_demo(directory))
