"""``damocles-worker processor <stage>``: this program as an external processor.

Started by a daemon, not by hand: tasks come in on stdin, answers go out on stdout, one JSON line each.
"""

from __future__ import annotations

import functools
import logging
import os
import sys

import click

from damocles_worker import _native, affinity, logs
from damocles_worker.cli.guarded import guarded
from damocles_worker.cli.log_format import log_format
from damocles_worker.hardware.cpulist import parse_cpu_list
from damocles_worker.logs.secrets import hide
from damocles_worker.processors.child import StageFunction, serve
from damocles_worker.processors.spec import (
    CPUSET_VARIABLE,
    HUGE_PAGE_VARIABLES,
    LINK_VARIABLE,
    NUMA_VARIABLE,
    TOKEN_VARIABLE,
)

log = logging.getLogger(__name__)

#: Functions of the extension. What the other stages need is loaded with them, so that these start faster.
STAGES: dict[str, StageFunction] = {
    "tree_d": _native.tree_d,
    "pc2": _native.pc2,
    "c2": _native.c2,
    "snap_encode": _native.snap_encode,
    "snap_prove": _native.snap_prove,
    "unseal": _native.unseal,
    "window_post": _native.window_post,
    "winning_post": _native.winning_post,
    "synth_proof": _native.synth_proof,
}


@click.group()
@log_format
def processor() -> None:
    """Serve one stage on stdin and stdout, for a daemon that started this process."""


def _command(stage: str, function: StageFunction) -> click.Command:
    def run() -> None:
        take_place()
        serve(stage, function)

    return click.Command(
        stage, callback=run, help=f"Serve {stage} tasks.", short_help=f"Serve {stage} tasks."
    )


for _stage, _function in STAGES.items():
    processor.add_command(_command(_stage, _function))


@processor.command("add_pieces")
def add_pieces() -> None:
    """Serve add_pieces tasks."""
    from damocles_worker.sealing import piece_urls

    take_place()
    serve("add_pieces", piece_urls.add_pieces)


@processor.command()
@click.option(
    "--disable-link",
    "--disable_link",
    is_flag=True,
    envvar=LINK_VARIABLE,
    help="Always copy, also where a task allows a link.",
)
def transfer(disable_link: bool) -> None:
    """Serve transfer tasks: links or durable copies between local paths."""
    from damocles_worker.sealing import routes

    take_place()
    serve("transfer", functools.partial(routes.run, disable_link=disable_link))


@processor.command()
@click.option(
    "--hugepage-files-path",
    "--hugepage_files_path",
    envvar=HUGE_PAGE_VARIABLES[0],
    metavar="DIR",
    help="Take label memory from the files of DIR/numa_N, N being the NUMA node.",
)
@click.option(
    "--hugepage-files-path-pattern",
    "--hugepage_files_path_pattern",
    envvar=HUGE_PAGE_VARIABLES[1],
    metavar="PATTERN",
    help="The same, with $NUMA_NODE_INDEX in the place of N.",
)
def pc1(hugepage_files_path: str | None, hugepage_files_path_pattern: str | None) -> None:
    """Serve pc1 tasks."""
    # The engine takes them from the environment.
    chosen = zip(HUGE_PAGE_VARIABLES, (hugepage_files_path, hugepage_files_path_pattern), strict=True)
    os.environ.update({name: value for name, value in chosen if value is not None})
    take_place()
    serve("pc1", _native.pc1)


def main() -> None:
    """``damocles-worker processor …`` without the rest of the program, which makes a child start faster."""
    guarded(_run)


def _run() -> None:
    logs.set_up()
    hide([os.environ.get(TOKEN_VARIABLE)])
    processor(sys.argv[2:], prog_name="damocles-worker processor")


def take_place() -> None:
    """Bind this process to the cpus and the memory node of its environment, if its parent did not.

    Ours has done it already; the Rust worker leaves it to the child.
    """
    cpuset = os.environ.get(CPUSET_VARIABLE)
    if cpuset:
        try:
            wanted = parse_cpu_list(cpuset)
            if not affinity.get_affinity(0) <= wanted:
                affinity.set_affinity(0, wanted)
        except (OSError, ValueError) as error:
            log.error("%s=%s can't be followed: %s", CPUSET_VARIABLE, cpuset, error)
    node = os.environ.get(NUMA_VARIABLE)
    if node:
        try:
            affinity.set_mempolicy_preferred(int(node) if int(node) >= 0 else None)
        except (OSError, ValueError) as error:
            log.warning("%s=%s can't be followed: %s", NUMA_VARIABLE, node, error)
