"""``damocles-worker preflight``: is everything in place before the first sector?"""

from __future__ import annotations

import sys

import click

from damocles_worker.config.findings import has_errors
from damocles_worker.config.load import inspect
from damocles_worker.params import Steps
from damocles_worker.preflight.lines import of_finding, to_json, to_text, worst
from damocles_worker.preflight.run import before_the_first_sector


@click.command()
@click.option(
    "-c",
    "--config",
    "config_file",
    metavar="FILE",
    envvar="DAMOCLES_WORKER_CONFIG",
    required=True,
    help="Configuration file (TOML).",
)
@click.option("--quick", is_flag=True, help="Read no large file: a digest counts if it was compared before.")
@click.option("--json", "as_json", is_flag=True, help="Print the lines as JSON.")
def preflight(config_file: str, quick: bool, as_json: bool) -> None:
    """Look at everything that sectors will need, and say what is missing and how to get it.

    Parameters and parents caches with their digests, huge pages, cpu sets, limits, free space for as many
    sectors as there are threads, stores, the manager, clocks, ports. Digests are compared once and
    remembered; the first time takes minutes for large sectors. Run it as the worker's user.

    Exits 0 if all is well, 1 if there are warnings, 2 if something keeps sectors from being sealed.
    """
    inspection = inspect(config_file)
    if inspection.settings is None or has_errors(inspection.findings):
        lines = [of_finding("configuration", finding) for finding in inspection.findings]
    else:
        lines = before_the_first_sector(
            inspection.settings, inspection.findings, read=not quick, reading=_Reading()
        )
    click.echo(to_json(lines).decode() if as_json else to_text(lines))
    sys.exit(worst(lines))


class _Reading:
    """Says on stderr how far the reading of a large file is."""

    def __init__(self) -> None:
        self._title = ""
        self._steps: Steps | None = None

    def __call__(self, title: str, done: int, total: int) -> None:
        if self._steps is None or title != self._title:
            self._title, self._steps = title, Steps(lambda text: click.echo(text, err=True), title)
        self._steps(done, total)
