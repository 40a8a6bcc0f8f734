"""Checks of the file that need more than one value: names, duplicates, what must be there."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence

from damocles_worker.config.document import Node, join
from damocles_worker.config.findings import Report, suggestion
from damocles_worker.config.settings import (
    PROCESSOR_STAGES,
    STORING_PLANS,
    Attached,
    Processor,
    Sealing,
    Settings,
    Thread,
)
from damocles_worker.logs.secrets import without_secrets
from damocles_worker.manager.address import AddressError, parse_address
from damocles_worker.processors.spec import HUGE_PAGE_VARIABLES

Nodes = dict[str, Node]

_START = (1, 1)


def check_required(settings: Settings, nodes: Nodes, report: Report) -> None:
    """What a worker can't do without. Only meaningful if all of the file was understood."""
    if "sector_manager" not in nodes:
        report.error(
            "sector_manager",
            _START,
            "[sector_manager] is missing: the worker has no manager to work for",
            'write [sector_manager] and below it rpc_client.addr = "/ip4/10.0.0.5/tcp/1789"',
        )
    elif "sector_manager.rpc_client.addr" not in nodes:
        report.error(
            "sector_manager.rpc_client.addr",
            nodes["sector_manager"].position,
            "the address of the manager is missing",
            'write rpc_client.addr = "/ip4/10.0.0.5/tcp/1789"',
        )
    if "sealing_thread" not in nodes:
        report.error(
            "sealing_thread",
            _START,
            "there is no [[sealing_thread]]: nothing would be sealed",
            'write [[sealing_thread]] and below it location = "/path/to/store"',
        )
    elif not settings.threads and nodes["sealing_thread"].kind == "array":
        position = nodes["sealing_thread"].position
        report.warning("sealing_thread", position, "the list is empty: nothing is sealed", "add a thread")
    _check_locations(settings, nodes, report)
    if not _store_paths(nodes) and not settings.worker.scan_persist_stores:
        report.error(
            "attached",
            nodes["attached"].position if "attached" in nodes else _START,
            "there is no [[attached]] store: a finished sector has nowhere to go",
            'write [[attached]] and below it location = "/path/to/store"',
        )


def _check_locations(settings: Settings, nodes: Nodes, report: Report) -> None:
    for thread in settings.threads:
        path = f"sealing_thread[{thread.index}]"
        if thread.plan != "wdpost" and f"{path}.location" not in nodes:
            report.error(
                f"{path}.location",
                nodes[path].position,
                f"location is missing: a thread of the plan {thread.plan} needs a sealing store",
                'write location = "/path/to/store" (only plan = "wdpost" works without)',
            )
    for path in _store_paths(nodes):
        if nodes[path].kind == "table" and f"{path}.location" not in nodes:
            report.error(
                f"{path}.location",
                nodes[path].position,
                "location is missing: the directory of the store",
                'write location = "/path/to/store"',
            )


def check(settings: Settings, nodes: Nodes, report: Report) -> None:
    """Everything else that concerns more than one value."""
    _check_address(settings, nodes, report)
    _check_policies(settings, nodes, report)
    _check_duplicate_locations(settings, nodes, report)
    _check_duplicate_stores(nodes, report)
    if settings.attached and not settings.worker.scan_persist_stores:
        check_writable(settings, settings.attached, report)
    _check_locks(settings, nodes, report)
    _check_shared_memory_files(settings, nodes, report)
    _check_processors(settings, nodes, report)


def _check_processors(settings: Settings, nodes: Nodes, report: Report) -> None:
    for index, processor in enumerate(settings.processors.stages.get("sealing_daemons", ())):
        if processor.bin is None:
            path = f"processors.sealing_daemons[{index}]"
            report.error(
                f"{path}.bin",
                nodes[path].position,
                "bin is missing: this program has no sealing daemon of its own",
                'write bin = "/path/to/program"',
            )
    for stage in PROCESSOR_STAGES:
        node = nodes.get(f"processors.{stage}")
        if node is not None and node.kind == "array" and not node.items:
            report.error(
                f"processors.{stage}",
                node.position,
                f"the list is empty: no processor would do the stage {stage}",
                "remove the key (the stage then runs inside the worker), or add a processor",
            )


def processors_of(settings: Settings) -> Iterator[tuple[str, str, Processor]]:
    """Path, stage and settings of every external processor."""
    for stage, entries in settings.processors.stages.items():
        for index, processor in enumerate(entries):
            yield f"processors.{stage}[{index}]", stage, processor


def exclude_each_other(one: Processor, other: Processor, locks: Mapping[str, int]) -> bool:
    """Whether a lock with one permit lets only one of two processors work at a time."""
    return any(locks.get(name) == 1 for name in set(one.locks) & set(other.locks))


def _check_address(settings: Settings, nodes: Nodes, report: Report) -> None:
    path = "sector_manager.rpc_client.addr"
    if not settings.manager.addr or path not in nodes:
        return
    position = nodes[path].position
    try:
        address = parse_address(settings.manager.addr)
    except AddressError as error:
        report.error(path, position, without_secrets(error.cause), error.next_step)
        return
    if address.note:
        report.warning(path, position, address.note, f"requests go to {address.url}")


def _check_policies(settings: Settings, nodes: Nodes, report: Report) -> None:
    prefixes = ["sealing", *(f"sealing_thread[{thread.index}].sealing" for thread in settings.threads)]
    policies = [settings.sealing, *(thread.sealing for thread in settings.threads)]
    for prefix, policy in zip(prefixes, policies, strict=True):
        _check_proofs(policy, f"{prefix}.ignore_proof_check", nodes, report)
    for prefix, thread in zip(prefixes[1:], settings.threads, strict=True):
        _check_deals(thread, [f"{prefix}.disable_cc", "sealing.disable_cc"], nodes, report)


def check_hot(thread: Thread, nodes: Nodes, report: Report) -> None:
    """The same of a thread with its hot file over it; ``nodes`` are those of the hot file.

    What the main configuration alone says was told at the start.
    """
    _check_proofs(thread.sealing, "sealing.ignore_proof_check", nodes, report)
    _check_deals(thread, ["sealing.disable_cc", "sealing.enable_deals", "plan"], nodes, report)


def _check_proofs(policy: Sealing, path: str, nodes: Nodes, report: Report) -> None:
    if path in nodes and policy.ignore_proof_check:
        report.warning(
            path,
            nodes[path].position,
            "proofs are neither verified here nor waited for on chain: a bad proof or a failed message "
            "goes unnoticed",
            "use it on test networks only",
        )


def _check_deals(thread: Thread, paths: list[str], nodes: Nodes, report: Report) -> None:
    """``paths`` are the keys that may have brought it about: the first one that is there is named."""
    path = next((path for path in paths if path in nodes), None)
    if path is None or thread.plan != "sealer":
        return
    if thread.sealing.disable_cc and not thread.sealing.enable_deals:
        report.warning(
            path,
            nodes[path].position,
            f"sealing_thread[{thread.index}] waits for ever: disable_cc refuses sectors without deals, "
            "and enable_deals = false asks for none",
            "write enable_deals = true, or remove disable_cc",
        )


def _check_duplicate_locations(settings: Settings, nodes: Nodes, report: Report) -> None:
    seen: dict[str, str] = {}
    for thread in settings.threads:
        path = f"sealing_thread[{thread.index}].location"
        if thread.location is None or path not in nodes:
            continue
        first = seen.setdefault(os.path.abspath(thread.location), path)  # noqa: PTH100
        if first != path:
            report.error(
                path,
                nodes[path].position,
                f'"{thread.location}" is the store of {first} (line {nodes[first].position[0]}) already: '
                "a store serves one thread",
                "give each thread a directory of its own",
            )


def _store_paths(nodes: Nodes) -> list[str]:
    """Paths of the tables that describe persistent stores."""
    tables = [path for path in nodes if re.fullmatch(r"attached\[\d+\]", path)]
    if "attached" not in nodes:
        tables = [path for path in nodes if re.fullmatch(r"Attached\[\d+\]", path)]
    return [*tables, "remote_store"] if "remote_store" in nodes else tables


def _check_duplicate_stores(nodes: Nodes, report: Report) -> None:
    names: dict[str, str] = {}
    places: dict[str, str] = {}
    for path in _store_paths(nodes):
        location = _string(nodes, f"{path}.location")
        if location is None:
            continue
        real = os.path.realpath(location) if "\0" not in location else location
        name = _string(nodes, f"{path}.name") or real
        place = f"{path}.name" if f"{path}.name" in nodes else f"{path}.location"
        first = names.setdefault(name, path)
        if first != path:
            report.error(
                place,
                nodes[place].position,
                f'the name "{name}" is that of {first} (line {nodes[first].position[0]}) already',
                "give each store the name that the manager knows it by, and write it once",
            )
            continue
        first = places.setdefault(os.path.abspath(location), path)  # noqa: PTH100
        if first != path:
            report.warning(
                path,
                nodes[f"{path}.location"].position,
                f'"{location}" is the directory of {first} too: one store under two names',
                "write it once",
            )


def check_writable(settings: Settings, stores: Sequence[Attached], report: Report) -> None:
    """Warn when all ``stores`` are for reading only and a thread's plan brings files into one."""
    storing = [thread for thread in settings.threads if thread.plan in STORING_PLANS]
    if not storing or not all(store.readonly for store in stores):
        return
    path = next((f"{store.path}.readonly" for store in stores if store.path), "worker.scan_persist_stores")
    report.warning(
        path,
        settings.positions.get(path, _START),
        f"all attached stores are read-only: a sector of sealing_thread[{storing[0].index}] (plan"
        f" {storing[0].plan}) has nowhere to go when it is done",
        "attach a store without readonly = true",
    )


def _string(nodes: Nodes, path: str) -> str | None:
    node = nodes.get(path)
    return str(node.value) if node is not None and node.kind == "string" else None


def _check_locks(settings: Settings, nodes: Nodes, report: Report) -> None:
    declared = nodes.get("processors.ext_locks")
    names = [entry.key for entry in declared.entries] if declared and declared.kind == "table" else []
    used = set()
    for path, _, _ in processors_of(settings):
        locks = nodes.get(f"{path}.locks")
        if locks is None or locks.kind != "array":
            continue
        here = set()
        for index, item in enumerate(locks.items):
            if item.kind != "string" or not item.value.strip():
                continue
            if item.value not in names:
                report.error(
                    f"{path}.locks[{index}]",
                    item.position,
                    f'unknown lock "{item.value}": it is not in processors.ext_locks and would lock nothing',
                    suggestion(item.value, names) or f"write {item.value} = 1 below [processors.ext_locks]",
                )
            elif item.value in here:
                message = f'"{item.value}" is taken twice by one processor, which then waits for itself'
                report.error(f"{path}.locks[{index}]", item.position, message, "name each lock once")
            here.add(item.value)
        used |= here
    for name, permits in settings.processors.ext_locks.items():
        path = join("processors.ext_locks", name)
        position = nodes[path].position if path in nodes else _START
        if name not in used:
            message = f'no processor has "{name}" in its locks: alone it does nothing'
            report.warning(
                path, position, message, f'write locks = ["{name}"] in the processors that share it'
            )
        elif permits > 1 and re.fullmatch(r"(?i)gpu_?-?\d*", name):
            report.warning(
                path,
                position,
                f"{permits} tasks can hold this lock at once (the number is not that of a device)",
                "write 1 if one task at a time is meant",
            )


def _check_shared_memory_files(settings: Settings, nodes: Nodes, report: Report) -> None:
    """This program locks the huge-page files it uses, so its processors may share them; others don't."""
    seen: dict[tuple[str, str], tuple[str, Processor]] = {}
    for path, stage, processor in processors_of(settings):
        for variable in HUGE_PAGE_VARIABLES:
            value = processor.envs.get(variable)
            if stage != "pc1" or value is None:
                continue
            first, other = seen.setdefault((variable, value.rstrip("/")), (path, processor))
            if first != path and (processor.bin is not None or other.bin is not None):
                place = f"{path}.envs.{variable}"
                report.warning(
                    place,
                    nodes[place].position,
                    f"{first} has the same huge-page files, and a program that does not lock them (one of the"
                    " two has a bin) overwrites labels of the other",
                    "give each pc1 processor a directory of its own, or bind them to different nodes",
                )
