"""``config check``: every finding, then the effective configuration, then one line of summary."""

from __future__ import annotations

from pathlib import Path

from msgspec import Struct

from damocles_worker.config.findings import Finding, has_errors, in_order
from damocles_worker.config.load import inspect
from damocles_worker.config.machine import hardware_findings, machine_findings, parameter_findings
from damocles_worker.config.show import effective


class Check(Struct, frozen=True):
    """The outcome of a check: its text, and whether the worker could run with the file."""

    text: str
    failed: bool


def check_file(path: str, *, machine: bool, root: Path = Path("/")) -> Check:
    """Check a configuration file, and with ``machine`` whether the host fits it.

    ``root`` other than ``/`` is the recorded ``/sys`` and ``/proc`` of another machine: its cpus, memory
    and limits are looked at, while stores, programs and parameters can't be.
    """
    inspection = inspect(path)
    findings = inspection.findings
    if inspection.settings is None:
        pass
    elif machine and root != Path("/"):
        findings = in_order([*findings, *hardware_findings(inspection.settings, root=root)])
    elif machine:
        extra = parameter_findings(inspection.settings)
        findings = in_order([*findings, *machine_findings(inspection.settings, extra=extra)])
    parts = [format_findings(path, findings)] if findings else []
    if inspection.settings is None:
        parts.append("No effective configuration: the file could not be read to its end.")
    else:
        shown = effective(inspection.settings, inspection.error_paths)
        parts.append(f"# Effective configuration (secrets masked)\n{shown}")
    parts.append(summary(path, findings, machine=machine))
    if machine and root != Path("/"):
        parts.append(f"The machine is the one recorded in {root}; stores and parameters were not looked at")
    return Check("\n\n".join(parts), has_errors(findings))


def format_findings(path: str, findings: list[Finding]) -> str:
    """One line ``FILE:LINE:COL: error: path: message`` for each finding, the next step indented below."""
    return "\n".join(f"{path}:{finding}" for finding in findings)


def summary(path: str, findings: list[Finding], *, machine: bool) -> str:
    """How many errors and warnings there are, of the file and of the machine."""
    counts = {
        (level, kind): sum(1 for finding in findings if (finding.level, finding.kind) == (level, kind))
        for level in ("error", "warning")
        for kind in ("file", "machine")
    }
    if counts["error", "file"]:
        verdict = "the worker can't start with it"
    elif counts["error", "machine"]:
        verdict = "sectors can't be sealed with it while this machine is as it is"
    else:
        verdict = "the worker can start with it"
    text = f"{path}: {verdict}: {_counted(counts['error', 'file'], counts['warning', 'file'])} in the file"
    if not machine:
        return f"{text}; this machine was not looked at"
    return f"{text}, {_counted(counts['error', 'machine'], counts['warning', 'machine'])} about this machine"


def _counted(errors: int, warnings: int) -> str:
    plural = {True: "", False: "s"}
    return f"{errors} error{plural[errors == 1]} and {warnings} warning{plural[warnings == 1]}"
