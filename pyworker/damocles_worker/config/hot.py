"""The hot file of a sealing thread: ``config.toml`` in its store, read again before every sector.

It holds the keys of one ``[[sealing_thread]]`` at top level. They go over the thread's settings of
start-up, field by field, never over those of an earlier hot file: a key removed from the file, or the
file itself removed, restores what the main configuration says.
"""

from __future__ import annotations

import os

from msgspec import structs

from damocles_worker.config import crosscheck
from damocles_worker.config.document import read_document, walk
from damocles_worker.config.findings import Finding, Report, has_errors, in_order
from damocles_worker.config.load import thread_from
from damocles_worker.config.schema import HOT_FILE
from damocles_worker.config.settings import Thread
from damocles_worker.config.tables import read_table

#: Name of the hot file in a thread's location.
HOT_FILE_NAME = "config.toml"


def hot_thread(
    startup: Thread, hot_path: str, previous: Thread | None = None
) -> tuple[Thread, list[Finding]]:
    """The thread's settings with its hot file over them, and what there is to say about the file.

    ``startup`` is the thread as the main configuration has it, ``previous`` what is in force now (the
    same if None). A file with an error changes nothing: ``previous`` comes back with the findings. An
    unknown key and ``location`` are warned of and ignored. A policy that ``config check`` would warn of in
    the main configuration is warned of and followed.
    """
    if not os.path.lexists(hot_path):
        return startup, []
    report = Report()
    document = read_document(hot_path, report, may_be_empty=True)
    if document is None or not document.complete:
        return previous or startup, report.findings
    values = read_table(document.root, HOT_FILE, "", report, unknown="warning")
    if has_errors(report.findings):
        return previous or startup, in_order(report.findings)
    given = document.root.get("location")
    if values.pop("location", None) is not None and given is not None:
        report.warning(
            "location", given.position, "a hot file can't move a store: location is ignored", "remove it"
        )
    values.setdefault("plan", startup.plan)
    hot = structs.replace(thread_from(startup.index, values, startup.sealing), location=startup.location)
    crosscheck.check_hot(hot, dict(walk(document.root)), report)
    return hot, in_order(report.findings)
