"""Limits of stages beside those of their processors: where the smaller one is, tasks wait."""

from __future__ import annotations

from damocles_worker.config.findings import Report
from damocles_worker.config.settings import Settings

_START = (1, 1)


def check(settings: Settings, report: Report) -> None:
    """Warn of processors that can never be filled, and of limits that their processors don't reach."""
    limits = settings.processors.concurrent
    for stage, entries in settings.processors.stages.items():
        limit = limits.get(stage)
        counts = [entry.concurrent for entry in entries]
        if limit is None or not counts:
            continue
        path = _path_of_limit(settings, stage)
        position = settings.positions.get(path, _START)
        known = [count for count in counts if count is not None]
        if len(known) < len(counts):
            if limit < len(counts):
                report.warning(
                    path,
                    position,
                    f"at most {limit} of the {len(counts)} processors of {stage} work at the same time",
                    f"write at least {len(counts)}, if all of them are to have work",
                )
            continue
        total = sum(known)
        each = " + ".join(str(count) for count in known)
        sums = f"{each} = {total}" if len(known) > 1 else str(total)
        if limit < total:
            report.warning(
                path,
                position,
                f"the limit of {limit} is below what the processors of {stage} take at once ({sums})",
                f"write {total} to fill them; {total - limit} places stay empty otherwise",
            )
        elif limit > total:
            report.warning(
                path,
                position,
                f"the limit of {limit} is above what the processors of {stage} take at once ({sums}): "
                "the rest waits for a processor",
                f"write {total}, or raise concurrent of the processors",
            )


def _path_of_limit(settings: Settings, stage: str) -> str:
    path = f"processors.limitation.concurrent.{stage}"
    return path if path in settings.positions else f"processors.limit.{stage}"
