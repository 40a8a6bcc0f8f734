"""The suggested configuration as commented TOML."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator

from damocles_worker.config.corehours import ENGINE_OF
from damocles_worker.config.gpu import LIBRARY
from damocles_worker.hardware.boxtable import byte_text
from damocles_worker.hardware.cpulist import format_cpu_list
from damocles_worker.hardware.gpus import Gpu
from damocles_worker.hardware.hugepages import GIB_PAGE, MIB2_PAGE, pages_per_sector, reserve_command
from damocles_worker.sectors import size_name
from damocles_worker.suggest import explain
from damocles_worker.suggest.durations import PROOF_STAGES, durations_of
from damocles_worker.suggest.forecast import Forecast
from damocles_worker.suggest.host import Core, Host
from damocles_worker.suggest.layout import Labelling, Layout, Proving, sector_bytes, sectors_in
from damocles_worker.suggest.wishes import Wishes
from damocles_worker.units import format_size


def configuration(
    host: Host, wishes: Wishes, layout: Layout, expected: Forecast, notes: Iterable[str] = ()
) -> str:
    """The file, with what it was made from and what it assumes; ``notes`` are further comment lines."""
    sections = [
        explain.head(host, wishes, layout, expected, notes),
        _first(host, wishes, layout),
        _manager(wishes),
        _sealing(wishes),
        *_threads(host, wishes, layout),
        _attached(host),
        _limits(host, wishes, layout),
        _locks(wishes, layout),
        *_labelling(layout),
        *_proving(host, wishes, layout),
    ]
    return "\n\n".join(section for section in sections if section) + "\n"


def _quoted(text: str) -> str:
    """A TOML basic string; JSON's escapes are among TOML's."""
    return json.dumps(text, ensure_ascii=False)


def _first(host: Host, wishes: Wishes, layout: Layout) -> str:
    """Commands to run before the first start."""
    commands = [f"mkdir -p {directory}" for directory in host.directories_to_make]
    commands += huge_page_commands(wishes, layout)
    if not commands:
        return ""
    return explain.comment(
        [
            "Before the first start, as root (huge pages: again after every boot; PC1 is slower without):",
            *(f"  {command}" for command in commands),
        ]
    )


def huge_page_commands(wishes: Wishes, layout: Layout) -> list[str]:
    """The commands that reserve the label memory of all of PC1's sectors, a node each."""
    sectors: dict[int, int] = {}
    for labelling in layout.labellings:
        sectors[labelling.node or 0] = sectors.get(labelling.node or 0, 0) + labelling.sectors
    page = next((page for page in (GIB_PAGE, MIB2_PAGE) if pages_per_sector(wishes.sector_size, page)), None)
    if page is None:
        return []
    each = pages_per_sector(wishes.sector_size, page)
    return [reserve_command(node, page, count * each) for node, count in sorted(sectors.items())]


def _manager(wishes: Wishes) -> str:
    lines = ["[sector_manager]", f"rpc_client.addr = {_quoted(wishes.manager)}"]
    if wishes.goal != "cc":
        lines += [
            "# The market's token, for deal data that comes over HTTP:",
            '# piece_token = "..."',
        ]
    return "\n".join(lines)


def _sealing(wishes: Wishes) -> str:
    deals = wishes.goal != "cc"
    return "\n".join(
        [
            "[sealing]",
            "# Without allowed_miners sectors of every miner of the manager are taken.",
            "# allowed_miners = [1000]",
            f"allowed_sizes = [{_quoted(size_name(wishes.sector_size))}]",
            f"enable_deals = {'true' if deals else 'false'}",
        ]
    )


def _threads(host: Host, wishes: Wishes, layout: Layout) -> Iterator[str]:
    """One table per sealing thread, shared out over the places by their room."""
    counts = _spread(host, wishes, layout.division.threads)
    room = format_size(sector_bytes(wishes))
    lines = [f"A sealing thread is a sector under way, from first byte to last proof; it takes up to {room}."]
    if wishes.plan == "snapup":
        more = format_size(sector_bytes(wishes, copied=True))
        lines.append(
            f"With [[processors.transfer]] it is up to {more}, since that may copy the old replica in place"
            " of linking to it: leave threads out where there is no room for that."
        )
    yield explain.comment(lines)
    for place, count in zip(host.sealing, counts, strict=True):
        for number in range(1, count + 1):
            location = f"{place.directory.rstrip('/')}/store{number}"
            lines = ["[[sealing_thread]]", f"location = {_quoted(location)}"]
            lines += [f"plan = {_quoted(wishes.plan)}"] if wishes.plan != "sealer" else []
            yield "\n".join(lines)


def _spread(host: Host, wishes: Wishes, threads: int) -> list[int]:
    """Threads by place: each goes where most room is left; where none is known, in turn."""
    counts = [0] * len(host.sealing)
    for _ in range(threads):
        left = []
        for place, count in zip(host.sealing, counts, strict=True):
            room = sectors_in(place.free, wishes)
            left.append(-count if room is None else room - count)
        counts[left.index(max(left))] += 1
    return counts


def _attached(host: Host) -> str:
    return "\n".join(
        [
            "# Finished sectors. The manager must know this store by its name (name = ..., else the path).",
            "[[attached]]",
            f"location = {_quoted(host.attached)}",
        ]
    )


def _limits(host: Host, wishes: Wishes, layout: Layout) -> str:
    division = layout.division
    sectors = sum(division.sectors)
    lines = ["[processors.limitation.concurrent]"]
    lines += ["add_pieces = 2"] if wishes.goal != "cc" else []
    lines += ["tree_d = 1"]
    lines += [f"pc1 = {sectors}"] if sectors else []
    lines += [f"{stage} = {division.provings}" for stage in PROOF_STAGES[wishes.plan]]
    if sectors > 1:
        minutes = durations_of(host, wishes).pc1_hours(division.lanes) * 60 / sectors
        if minutes / 2 >= 1:
            lines += [
                "",
                "# So that sectors come to PC2 one by one: half the time between two, so that none is kept.",
                "[processors.limitation.staggered]",
                f'pc1 = "{int(minutes / 2)}min"',
            ]
    if wishes.goal == "cc":
        lines += [
            "",
            "# Sectors without deals all have the same tree_d. Made once, it saves its time and space:",
            f"#   damocles-worker generator tree-d -s {size_name(wishes.sector_size)} -p DIR",
            "# [processors.static_tree_d]",
            f'# {size_name(wishes.sector_size)} = "DIR/sc-02-data-tree-d.dat"',
        ]
    return "\n".join(lines)


def _locks(wishes: Wishes, layout: Layout) -> str:
    first, second = PROOF_STAGES[wishes.plan]
    what = "GPU" if wishes.on_gpus else "cores"
    return "\n".join(
        [
            f"# {first} and {second} take turns on the same {what}, so their memory is needed once.",
            "[processors.ext_locks]",
            *(f"{name} = 1" for name in lock_names(layout)),
        ]
    )


def lock_names(layout: Layout) -> list[str]:
    """The lock of each proving: ``gpu0`` or ``cores0`` and so on."""
    return [f"{'gpu' if proving.gpu else 'cores'}{index}" for index, proving in enumerate(layout.provings)]


def _labelling(layout: Layout) -> Iterator[str]:
    for index, labelling in enumerate(layout.labellings):
        lines = ["[[processors.pc1]]", *_binding(labelling), f"concurrent = {labelling.sectors}"]
        if index == 0:
            lanes = layout.division.lanes
            each = "one sector to a core" if lanes == 1 else f"up to {lanes} sectors to a core"
            lines.insert(0, f"# PC1: a processor per L3 cache, {each}, labels in the memory of its node.")
        yield "\n".join(lines)


def _proving(host: Host, wishes: Wishes, layout: Layout) -> Iterator[str]:
    for stage in PROOF_STAGES[wishes.plan]:
        for proving, lock in zip(layout.provings, lock_names(layout), strict=True):
            lines = [f"[[processors.{stage}]]", *_binding(proving), "concurrent = 1", f'locks = ["{lock}"]']
            if wishes.gpu_program:
                lines.insert(1, f"bin = {_quoted(wishes.gpu_program)}")
            if proving.gpu:
                lines += _gpu_environment(host, wishes, proving.gpu, stage)
            yield "\n".join(lines)


def _gpu_environment(host: Host, wishes: Wishes, gpu: Gpu, stage: str) -> list[str]:
    """What makes a stage compute on this GPU: the device, by its place among the driver's GPUs on the PCI
    bus, the library's switches, and for this program the library itself, for only its code uses GPUs.
    """
    variables = {}
    if gpu.vendor == "NVIDIA":
        on_bus = sorted((other for other in host.gpus if other.vendor == "NVIDIA"), key=lambda one: one.pci)
        variables = {"CUDA_DEVICE_ORDER": "PCI_BUS_ID", "CUDA_VISIBLE_DEVICES": str(on_bus.index(gpu))}
    if stage in ("pc2", "snap_encode"):
        variables |= {"FIL_PROOFS_USE_GPU_COLUMN_BUILDER": "1", "FIL_PROOFS_USE_GPU_TREE_BUILDER": "1"}
    if wishes.gpu_program is None and stage in ENGINE_OF:
        variables[ENGINE_OF[stage]] = LIBRARY
    text = ", ".join(f"{name} = {_quoted(value)}" for name, value in variables.items())
    memory = f" ({byte_text(gpu.memory)})" if gpu.memory else ""
    return [f"# {gpu.name}{memory}", *([f"envs = {{ {text} }}"] if text else [])]


def _binding(part: Labelling | Proving) -> list[str]:
    node = [] if part.node is None else [f"numa_preferred = {part.node}"]
    return [*node, f'cgroup.cpuset = "{_cpus(part.cores)}"']


def _cpus(cores: Iterable[Core]) -> str:
    """All hardware threads of these cores in the kernel's numbers."""
    return format_cpu_list(cpu for core in cores for cpu in core)
