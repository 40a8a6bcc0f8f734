"""``--log-format``, for the commands that run long enough for somebody to collect their log."""

from __future__ import annotations

import os

import click

from damocles_worker import logs


def _use(_context: click.Context, _parameter: click.Parameter, value: str | None) -> None:
    if value is not None:
        # Processors that are started from here write to the same stderr: they follow.
        os.environ[logs.FORMAT_VARIABLE] = value
        logs.use_format(value)


log_format = click.option(
    "--log-format",
    type=click.Choice(logs.FORMATS),
    envvar=logs.FORMAT_VARIABLE,
    show_envvar=True,
    callback=_use,
    expose_value=False,
    help="Lines for people (in colours on a terminal), or one JSON object per line.  [default: human]",
)
