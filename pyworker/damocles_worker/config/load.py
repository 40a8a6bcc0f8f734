"""From a configuration file to :class:`Settings` and the findings of the file."""

from __future__ import annotations

import os
from typing import Any

from msgspec import Struct, structs

from damocles_worker.config import concurrency, crosscheck, gpu
from damocles_worker.config.document import Document, Node, read_document, walk
from damocles_worker.config.findings import Finding, Report, has_errors, in_order
from damocles_worker.config.schema import ROOT
from damocles_worker.config.settings import (
    PROCESSOR_STAGES,
    Attached,
    Manager,
    Metrics,
    Processor,
    Processors,
    Sealing,
    Settings,
    Thread,
    Worker,
)
from damocles_worker.config.tables import read_table


class Inspection(Struct, frozen=True):
    """Everything a check knows about a file.

    ``settings`` is None if the file could not be parsed; otherwise it is there even if there are
    errors: values in error have their default, and their paths are in ``error_paths``.
    """

    settings: Settings | None
    findings: list[Finding]
    error_paths: frozenset[str] = frozenset()


def load(path: str) -> tuple[Settings | None, list[Finding]]:
    """The settings of the file, None if there is any error, and all findings in the order of the file."""
    inspection = inspect(path)
    settings = None if has_errors(inspection.findings) else inspection.settings
    return settings, inspection.findings


def inspect(path: str) -> Inspection:
    """All that can be said about the file without looking at this machine."""
    report = Report()
    document = read_document(path, report)
    if document is None:
        return Inspection(None, report.findings)
    semantic = Report()
    settings = _settings(document, path, semantic)
    findings = report.findings + [finding for finding in semantic.findings if document.trusts(finding)]
    return Inspection(
        settings if document.complete else None,
        in_order(findings),
        semantic.error_paths,
    )


def _settings(document: Document, path: str, report: Report) -> Settings:
    values = read_table(document.root, ROOT, "", report)
    nodes = {"": document.root, **dict(walk(document.root))}
    sealing = Sealing(**values.get("sealing", {}))
    settings = Settings(
        worker=_worker(values.get("worker", {}), nodes, report),
        metrics=Metrics(**values.get("metrics", {})),
        manager=_manager(values.get("sector_manager", {})),
        sealing=sealing,
        threads=tuple(
            thread_from(index, thread, sealing)
            for index, thread in enumerate(values.get("sealing_thread", ()))
        ),
        attached=_attached(values, nodes, report),
        processors=_processors(values.get("processors", {}), nodes, report),
        path=path,
        positions={place: node.position for place, node in nodes.items()},
    )
    if document.complete:
        crosscheck.check_required(settings, nodes, report)
    crosscheck.check(settings, nodes, report)
    concurrency.check(settings, report)
    gpu.check(settings, report)
    return settings


def thread_from(index: int, values: dict[str, Any], sealing: Sealing) -> Thread:
    """A sealing thread from its own keys over the common policy."""
    merged = structs.replace(sealing, **values.get("sealing", {}))
    return Thread(index, values.get("location"), values.get("plan", "sealer"), merged)


def _worker(values: dict[str, Any], nodes: dict[str, Node], report: Report) -> Worker:
    server = values.pop("rpc_server", {})
    single = values.pop("local_pieces_dir", None)
    if "worker.local_pieces_dirs" in nodes and single is not None:
        position = nodes["worker.local_pieces_dir"].position
        report.warning(
            "worker.local_pieces_dir",
            position,
            "ignored, because local_pieces_dirs is there too",
            "move the directory to local_pieces_dirs",
        )
    elif single is not None:
        values["local_pieces_dirs"] = (single,)
    return Worker(**{f"rpc_{key}": value for key, value in server.items()}, **values)


def _manager(values: dict[str, Any]) -> Manager:
    client = values.pop("rpc_client", {})
    return Manager(**client, **values)


def _attached(values: dict[str, Any], nodes: dict[str, Node], report: Report) -> tuple[Attached, ...]:
    """The stores of ``[[attached]]``, and that of a ``[remote_store]`` of an old configuration."""
    array = "attached" if "attached" in nodes else "Attached"
    tables = [(f"{array}[{index}]", table) for index, table in enumerate(values.get("attached", ()))]
    if "remote_store" in values:
        report.warning(
            "remote_store",
            nodes["remote_store"].position,
            "[remote_store] is the old name of a persistent store: it is used as one more [[attached]]",
            "write [[attached]] in its place",
        )
        tables.append(("remote_store", values["remote_store"]))
    return tuple(
        Attached(
            name=table.get("name", os.path.realpath(table["location"])),
            location=table["location"],
            readonly=table.get("readonly", False),
            path=path,
        )
        for path, table in tables
        if "location" in table
    )


def _processors(values: dict[str, Any], nodes: dict[str, Node], report: Report) -> Processors:
    limitation = values.get("limitation", {})
    concurrent = limitation.get("concurrent", {})
    if "limit" in values:
        place, position = "processors.limit", nodes["processors.limit"].position
        rename = "write [processors.limitation.concurrent]"
        if "processors.limitation.concurrent" in nodes:
            message = "ignored, because processors.limitation.concurrent is there too"
            report.warning(place, position, message, "move its limits there")
        else:
            report.warning(place, position, "[processors.limit] is an old name; it is used", rename)
            concurrent = values["limit"]
    return Processors(
        concurrent=concurrent,
        staggered={stage: gap for stage, gap in limitation.get("staggered", {}).items() if gap >= 1},
        ext_locks=values.get("ext_locks", {}),
        static_tree_d=values.get("static_tree_d", {}),
        stages={
            stage: tuple(_processor(entry) for entry in values[stage])
            for stage in PROCESSOR_STAGES
            if values.get(stage)
        },
    )


def _processor(values: dict[str, Any]) -> Processor:
    cgroup = values.pop("cgroup", {})
    names = {"cpuset": "cpuset", "group_name": "cgroup_group_name"}
    return Processor(**{names[key]: value for key, value in cgroup.items()}, **values)
