"""The comments at the head of a suggestion: the machine, what to expect, what was assumed."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable

from damocles_worker.config import corehours
from damocles_worker.hardware.cpulist import format_cpu_list
from damocles_worker.sectors import size_name
from damocles_worker.suggest.durations import (
    GPU_SOURCES,
    MEMORY_SOURCES,
    PROOF_STAGES,
    SEED_MINUTES,
    durations_of,
)
from damocles_worker.suggest.forecast import Forecast
from damocles_worker.suggest.host import Host
from damocles_worker.suggest.layout import Layout, proving_memory, system_memory
from damocles_worker.suggest.wishes import Wishes
from damocles_worker.units import format_size

#: Columns of prose in comments.
_WIDTH = 100
_GOALS = {
    "cc": "sectors without deals",
    "deals": "sectors with deals",
    "snapup": "sectors to upgrade",
}


def head(host: Host, wishes: Wishes, layout: Layout, expected: Forecast, notes: Iterable[str]) -> str:
    """The comment lines before the first table."""
    paragraphs = [
        [
            "Suggested by `damocles-worker config suggest` for"
            f" {size_name(wishes.sector_size)} {_GOALS[wishes.goal]}.",
            "Look through it, then run `damocles-worker config check` and `damocles-worker preflight` on it.",
        ],
        _machine(host),
        _expectation(expected),
        _memory(host, wishes, layout),
        _assumptions(host, wishes, layout, expected),
        list(notes),
    ]
    lines = [line for paragraph in paragraphs if paragraph for line in ("", *paragraph)][1:]
    return comment(lines)


def comment(lines: Iterable[str]) -> str:
    """Lines as comments: prose is wrapped, what is indented (tables, commands) stays as it is."""
    shown = [
        part
        for line in lines
        for part in ([line] if line.startswith(" ") else textwrap.wrap(line, _WIDTH) or [""])
    ]
    return "\n".join(f"# {line}".rstrip() for line in shown)


def _machine(host: Host) -> list[str]:
    caches = sum(len(node.caches) for node in host.nodes)
    gpus = ", ".join(gpu.name for gpu in host.gpus) or "no GPU"
    sha = "with" if host.sha else "WITHOUT"
    ifma = "with" if host.ifma else "without"
    return [
        f"Machine: {host.cores} cores {sha} SHA instructions and {ifma} AVX-512 IFMA in {caches} L3 cache(s)"
        f" on {len(host.nodes)} NUMA node(s), {format_size(host.memory)} of memory, {gpus}."
    ]


def _expectation(expected: Forecast) -> list[str]:
    lines = [
        f"Expected: about {_number(expected.per_day)} sectors a day. The bottleneck: {expected.parts[0][0]}.",
        "Sectors a day that each part alone could do:",
    ]
    return lines + [f"  {_number(rate):>6}  {name}" for name, rate in expected.parts]


def _memory(host: Host, wishes: Wishes, layout: Layout) -> list[str]:
    durations = durations_of(host, wishes)
    sectors, provings = sum(layout.division.sectors), layout.division.provings
    rows = [
        (
            sectors * durations.label_memory,
            f"labels of {sectors} in PC1 ({format_size(durations.label_memory)} each)",
        ),
        (
            provings * proving_memory(wishes, durations),
            f"{' or '.join(PROOF_STAGES[wishes.plan])}, {provings} at a time",
        ),
        (system_memory(host), "the system and the daemon"),
    ]
    if layout.division.parents_in_memory:
        rows.insert(1, (durations.parents_cache, "parents cache, in the page cache"))
    lines = [f"  {format_size(size):>10}  {what}" for size, what in rows if size]
    if sectors and not layout.division.parents_in_memory:
        lines.append(
            "The parents cache does not fit beside these: PC1 reads it from its disk in every layer."
        )
    spare = format_cpu_list(cpu for core in layout.spare for cpu in core)
    if spare:
        lines.append(f"Cpus {spare} are left to the daemon, its copies and the kernel.")
    return ["Memory as planned:", *lines]


def _assumptions(host: Host, wishes: Wishes, layout: Layout, expected: Forecast) -> list[str]:
    durations = durations_of(host, wishes)
    lanes = layout.division.lanes
    lines = ["Assumptions (none was measured on this machine; `worker list` shows the real durations later):"]
    if layout.labellings:
        rate = durations.labels_per_second(lanes) / 1e6
        lines.append(
            f"  PC1 {_hours(durations.pc1_hours(lanes))}: {rate:.2f} M labels/s per sector, {lanes} on a core"
            " (docs/benchmarks.md)"
        )
    cores = layout.division.proving_cores / layout.division.provings
    for stage in PROOF_STAGES[wishes.plan]:
        if wishes.on_gpus:
            minutes = _hours(durations.proof_hours(stage, cores, gpu=True))
            lines.append(f"  {stage} {minutes} on a GPU: {GPU_SOURCES[stage]}")
        else:
            hours = durations.core_hours(stage)
            took = _hours(durations.proof_hours(stage, cores, gpu=False))
            on = f"{_number(hours)} core-hours on {cores:g} core(s), if it scales so far"
            lines.append(f"  {stage} {took}: {on}; {corehours.source(stage, ifma=host.ifma)}")
    if layout.labellings:
        lines.append(f"  wait for the seed {SEED_MINUTES} min (150 epochs)")
    plan = expected.plan
    lines.append(f"  tree_d {plan.tree_d_mins} min; space with synthetic proofs")
    lines.append(f"  {MEMORY_SOURCES[wishes.on_gpus]}")
    if wishes.goal != "snapup":
        lines += ["The same with other durations, minute by minute:", f"  {_sealcalc(expected)}"]
    return lines


def _sealcalc(expected: Forecast) -> str:
    """The command line that repeats the simulation."""
    plan = expected.plan
    numbers = [
        f"--{name} {getattr(plan, name)}"
        for stage in ("tree_d", "pc1", "pc2", "c2")
        for name in (f"{stage}_mins", f"{stage}_concurrent")
    ]
    rest = f"--sealing_threads {plan.sealing_threads} --seed_mins {plan.seed_mins}"
    return f"damocles-worker-util sealcalc {' '.join(numbers)} {rest}"


def _hours(hours: float) -> str:
    return f"{60 * hours:.0f} min"


def _number(number: float) -> str:
    return f"{number:.0f}" if number >= 20 else f"{number:.1f}" if number >= 0.1 else f"{number:.2f}"
