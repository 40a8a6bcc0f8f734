"""What a configuration asks of this host, and whether the host has it."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path

from damocles_worker import params
from damocles_worker.config import gpu, machine_cpus, machine_paths
from damocles_worker.config.findings import Finding, Report, in_order
from damocles_worker.config.settings import Settings
from damocles_worker.hardware.limits import OPEN_FILES, read_limit
from damocles_worker.hardware.memoryuse import read_memory_use
from damocles_worker.hardware.reader import Reader
from damocles_worker.units import format_size

#: Files that a sealing thread holds open at most (layers, trees, replica, journal), with a margin.
_FILES_PER_THREAD = 64
#: Files of everything else: sockets, children, libraries, logs.
_FILES_OF_DAEMON = 256
#: A window proof opens every sector of a partition (2349 at 32 GiB) with its trees.
_FILES_OF_WINDOW_POST = 65536
_START = (1, 1)


def machine_findings(
    settings: Settings,
    *,
    root: Path = Path("/"),
    environ: Mapping[str, str] | None = None,
    extra: Iterable[Finding] = (),
) -> list[Finding]:
    """Findings about this host, in the order of the file.

    ``root`` is where ``/sys`` and ``/proc`` are read; ``extra`` are findings of others, such as
    :func:`parameter_findings`, to put among them.
    """
    environ = os.environ if environ is None else environ
    reader = Reader(root)
    report = Report("machine")
    machine_paths.check(settings, reader, environ, report)
    gpu.check_host(settings, environ, len(os.sched_getaffinity(0)), report)
    return in_order([*report.findings, *hardware_findings(settings, root=root, environ=environ), *extra])


def hardware_findings(
    settings: Settings, *, root: Path = Path("/"), environ: Mapping[str, str] | None = None
) -> list[Finding]:
    """The findings that ``/sys`` and ``/proc`` alone decide, so those of a recorded machine too."""
    reader = Reader(root)
    report = Report("machine")
    machine_cpus.check(settings, root, {} if environ is None else environ, report)
    _check_open_files(settings, reader, report)
    _check_memory(settings, reader, report)
    return in_order(report.findings)


def parameter_findings(settings: Settings, directory: Path | None = None) -> list[Finding]:
    """Findings about the Groth16 parameters that the threads need; ``directory`` None: the usual cache.

    A stage that only other programs serve needs none here: they have parameters of their own.
    """
    path = "sealing.allowed_sizes" if "sealing.allowed_sizes" in settings.positions else "sealing_thread"
    position = settings.positions.get(path, _START)
    return [
        Finding(found.level, path, *position, found.message, found.next_step, "machine")
        for found in params.findings(settings.threads, settings.processors.stages, directory=directory)
    ]


def files_needed(settings: Settings) -> int:
    """Files that the worker and its threads can have open at once."""
    window_post = any(thread.plan == "wdpost" for thread in settings.threads)
    needed = _FILES_OF_DAEMON + _FILES_PER_THREAD * len(settings.threads)
    return max(needed, _FILES_OF_WINDOW_POST) if window_post else needed


def _check_open_files(settings: Settings, reader: Reader, report: Report) -> None:
    """The hard limit counts: the daemon raises its soft one to it."""
    limit = read_limit(reader, OPEN_FILES)
    needed = files_needed(settings)
    if limit is not None and limit.hard is not None and limit.hard < needed:
        report.warning(
            "sealing_thread",
            settings.positions.get("sealing_thread", _START),
            f"this process may open {limit.hard} files, its threads can need {needed}",
            f"raise it: ulimit -Hn {needed}, or LimitNOFILE={needed} in the systemd unit",
        )


def _check_memory(settings: Settings, reader: Reader, report: Report) -> None:
    """PC1 keeps two layers of labels, each as large as the sector, in memory."""
    memory = read_memory_use(reader)
    total = memory.total if memory else 0
    sizes = [size for thread in settings.threads for size in thread.sealing.allowed_sizes or ()]
    if not sizes or not total or 2 * max(sizes) <= total:
        return
    path = next((path for path in settings.positions if path.endswith("allowed_sizes")), "sealing")
    report.warning(
        path,
        settings.positions.get(path, _START),
        f"PC1 of one {format_size(max(sizes))} sector needs {format_size(2 * max(sizes))} of memory, "
        f"this machine has {format_size(total)}",
        "seal smaller sectors here, or add memory",
    )
