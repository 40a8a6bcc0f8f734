"""``damocles-worker-util``: what helps to plan a machine before it seals."""

from __future__ import annotations

import click

from damocles_worker.cli.completion import completion_of
from damocles_worker.cli.lazy import LazyGroup
from damocles_worker.version import version_line

NAME = "damocles-worker-util"


@click.group(
    cls=LazyGroup,
    places={name: f"{name}:{name}" for name in ("hugepages", "hwinfo", "sealcalc")}
    | {"help": "help:help_command"},
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.version_option(version_line(), "-V", "--version", prog_name=NAME, message="%(prog)s %(version)s")
def util() -> None:
    """Look at the hardware, plan its memory, and calculate how much it seals."""


util.add_command(completion_of(NAME))
