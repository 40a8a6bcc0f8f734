"""Stores, cpu sets, programs and limits: what ``config check`` finds, and where it finds nothing."""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Mapping
from pathlib import Path

from damocles_worker.config.crosscheck import processors_of
from damocles_worker.config.findings import Finding
from damocles_worker.config.machine import files_needed, machine_findings
from damocles_worker.config.settings import Settings
from damocles_worker.hardware.limits import LOCKED_MEMORY, OPEN_FILES, read_limit
from damocles_worker.hardware.reader import Reader
from damocles_worker.preflight.lines import Line, of_finding
from damocles_worker.preflight.work import attached_stores, sector_sizes
from damocles_worker.processors.spec import HUGE_PAGE_VARIABLES
from damocles_worker.units import format_size

#: Area by TOML path, the first that fits.
_AREAS = (
    (re.compile(r".*\.(cpuset|numa_preferred)"), "cpus"),
    (re.compile(r".*\.HUGEPAGE_FILES\w+"), "huge pages"),
    (re.compile(r"(sealing_thread\[\d+\]\.location|attached.*|remote_store.*|worker\..*)"), "stores"),
    (re.compile(r"sealing_thread"), "limits"),
    (re.compile(r".*allowed_sizes|sealing"), "memory"),
    (re.compile(r"processors\..*"), "processors"),
)
_OTHER = "environment"


def look(
    settings: Settings, *, root: Path = Path("/"), environ: Mapping[str, str] | None = None
) -> list[Line]:
    """The machine's findings, and a line for each area in which all is well."""
    findings = machine_findings(settings, root=root, environ=environ)
    lines = [of_finding(_area(finding), finding) for finding in findings]
    spoken = {line.area for line in lines}
    lines += [line for line in _all_well(settings, Reader(root)) if line.area not in spoken]
    return lines + _locked_memory(settings, Reader(root))


def _area(finding: Finding) -> str:
    return next((area for pattern, area in _AREAS if pattern.fullmatch(finding.path)), _OTHER)


def _all_well(settings: Settings, reader: Reader) -> list[Line]:
    bound = [path for path, _, processor in processors_of(settings) if processor.cpuset]
    lines = _written(settings)
    if bound:
        lines.append(Line("ok", "cpus", f"{len(bound)} cpusets", "all cpus are there, on, and allowed"))
    limit = read_limit(reader, OPEN_FILES)
    if limit is not None:
        found = "unlimited" if limit.hard is None else str(limit.hard)
        lines.append(Line("ok", "limits", "open files", found, str(files_needed(settings))))
    return lines


def _written(settings: Settings) -> list[Line]:
    """Whether a file can really be written in every store: a server of files may refuse what modes allow."""
    sealing = [thread.location for thread in settings.threads if thread.location is not None]
    stores = attached_stores(settings)
    attached = [str(store.location) for store in stores if not store.readonly]
    lines = []
    for directory in (*sealing, *attached):
        try:
            with tempfile.TemporaryFile(dir=directory) as file:
                file.write(b"preflight")
                file.flush()
        except FileNotFoundError:
            continue  # A sealing store that the daemon will make.
        except OSError as error:
            found = f"no file can be written there: {(error.strerror or str(error)).lower()}"
            command = (
                f"let user id {os.geteuid()} write there (on NFS: root_squash, all_squash of the export)"
            )
            lines.append(Line("problem", "stores", directory, found, command=command))
    what = f"{len(sealing)} sealing, {len(stores)} attached"
    return lines or [
        Line("ok", "stores", what, "there, and a file can be written in each that is not read-only")
    ]


def _locked_memory(settings: Settings, reader: Reader) -> list[Line]:
    """Huge-page files are locked into memory; nothing else is."""
    users = [
        processor
        for _, stage, processor in processors_of(settings)
        if stage == "pc1"
        and processor.bin is None
        and any(name in processor.envs for name in HUGE_PAGE_VARIABLES)
    ]
    sizes = sector_sizes(settings)
    limit = read_limit(reader, LOCKED_MEMORY)
    if not users or not sizes or limit is None:
        return []
    needed = 2 * max(sizes) * max(processor.concurrent or len(settings.threads) for processor in users)
    found = "unlimited" if limit.soft is None else format_size(limit.soft)
    if limit.soft is None or limit.soft >= needed:
        return [Line("ok", "limits", "locked memory", found, format_size(needed))]
    return [
        Line(
            "warning",
            "limits",
            "locked memory",
            f"{found}, and the huge-page files of pc1 are to stay in memory",
            format_size(needed),
            "ulimit -l unlimited, or LimitMEMLOCK=infinity in the systemd unit",
        )
    ]
