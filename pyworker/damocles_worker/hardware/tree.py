"""The topology as a drawn tree."""

from __future__ import annotations

from damocles_worker.hardware.boxtable import byte_text
from damocles_worker.hardware.cpulist import format_cpu_list
from damocles_worker.hardware.topology import TopologyNode

#: More cpus than this below one cache are shortened to the first and the last of them.
_SHOWN_CPUS = 8
_SHOWN_AT_ENDS = 3


def tree_lines(machine: TopologyNode, *, full: bool) -> list[str]:
    """The tree, a line per object.

    Without ``full`` a cache (the outermost one on each path) has a single line with its cpus; where
    their numbers in the kernel are others than those in the tree, a second line gives them.
    """
    return [_title(machine), *_below(machine, full=full, under_cache=False)]


def _below(node: TopologyNode, *, full: bool, under_cache: bool) -> list[str]:
    """The lines below an object, drawn with their branches."""
    under_cache = under_cache or node.is_cache
    blocks = [[_title(memory)] for memory in node.memory]
    # NUMA nodes below a shared cache (sub-NUMA clustering) must stay visible.
    if under_cache and not full and not any(child.of_kind("NUMANode") for child in node.children):
        blocks += [[line] for line in _cpu_lines(node)]
    else:
        blocks += [
            [_title(child), *_below(child, full=full, under_cache=under_cache)] for child in node.children
        ]
    return [line for index, block in enumerate(blocks) for line in _branch(block, index == len(blocks) - 1)]


def _branch(block: list[str], last: bool) -> list[str]:
    first, deeper = ("└── ", "    ") if last else ("├── ", "│   ")
    return [first + block[0], *(deeper + line for line in block[1:])]


def _cpu_lines(node: TopologyNode) -> list[str]:
    cpus = node.of_kind("PU")
    names = [f"PU #{cpu.index}" for cpu in cpus]
    if len(names) > _SHOWN_CPUS:
        names = [*names[:_SHOWN_AT_ENDS], "...", *names[-_SHOWN_AT_ENDS:]]
    lines = [" + ".join(names)]
    if any(cpu.index != cpu.os_index for cpu in cpus):
        lines.append(f"cpus {format_cpu_list(node.cpus)}")
    return lines


def _title(node: TopologyNode) -> str:
    match node.kind:
        case "Machine" | "Package":
            text = node.kind + (f" ({byte_text(node.size)})" if node.size is not None else "")
            return text + (f" ({node.model})" if node.model else "")
        case "NUMANode":
            return f"NUMANode (#{_numbered(node, 2)}){_kernel_number(node, 'node')}"
        case "L1" | "L2" | "L3" | "L4":
            return f"{node.kind} (#{_numbered(node, 0)})"
        case "PU":
            return f"PU #{node.index}{_kernel_number(node, 'cpu')}"
        case _:
            return f"{node.kind} #{node.index}"


def _numbered(node: TopologyNode, decimals: int) -> str:
    return f"{node.index} {'size unknown' if node.size is None else byte_text(node.size, decimals)}"


def _kernel_number(node: TopologyNode, what: str) -> str:
    """The kernel's number where it is another: configurations take that one."""
    return "" if node.os_index in (None, node.index) else f" ({what} {node.os_index})"
