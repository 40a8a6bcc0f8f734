"""GPUs that can compute proofs: NVIDIA and AMD, found on the PCI bus, described by their drivers."""

from __future__ import annotations

import re

import msgspec
from msgspec import Struct, structs

from damocles_worker.hardware.nvml import NvidiaGpu, nvidia_gpus
from damocles_worker.hardware.reader import Reader

_PCI = "sys/bus/pci/devices"
_VENDORS = {"0x10de": "NVIDIA", "0x1002": "AMD"}
#: PCI base class 03, display controllers; 12, processing accelerators (AMD Instinct).
_CLASSES = re.compile(r"0x(03|12)[0-9a-f]{4}")


class Gpu(Struct, frozen=True):
    """A GPU; memory in bytes, None where no driver tells it."""

    name: str
    vendor: str
    memory: int | None
    #: Address as in sysfs; empty if the bus is not visible (some containers).
    pci: str
    #: The NUMA node it is attached to, if the kernel says.
    numa_node: int | None


def read_gpus(reader: Reader) -> list[Gpu]:
    """All NVIDIA and AMD GPUs, by PCI address."""
    gpus = {gpu.pci: gpu for gpu in _on_bus(reader)}
    for found in _from_driver(reader, list(gpus.values())):
        known = gpus.get(found.pci, Gpu(found.name, "NVIDIA", None, found.pci, None))
        gpus[found.pci] = structs.replace(known, name=found.name, memory=found.memory)
    return [gpus[pci] for pci in sorted(gpus)]


def _on_bus(reader: Reader) -> list[Gpu]:
    gpus = []
    for pci in reader.names(_PCI):
        device = f"{_PCI}/{pci}"
        vendor = _VENDORS.get(reader.text(f"{device}/vendor") or "")
        if vendor is None or not _CLASSES.fullmatch(reader.text(f"{device}/class") or ""):
            continue
        memory = reader.number(f"{device}/mem_info_vram_total")
        node = reader.number(f"{device}/numa_node")
        gpus.append(
            Gpu(_name(reader, pci), vendor, memory, pci, node if node is not None and node >= 0 else None)
        )
    return gpus


def _name(reader: Reader, pci: str) -> str:
    """What the driver calls it, else its PCI device number."""
    for line in (reader.text(f"proc/driver/nvidia/gpus/{pci}/information") or "").splitlines():
        key, _, value = line.partition(":")
        if key == "Model":
            return value.strip()
    product = reader.text(f"{_PCI}/{pci}/product_name")
    if product:
        return product
    return f"PCI device {(reader.text(f'{_PCI}/{pci}/device') or '?').removeprefix('0x')}"


def _from_driver(reader: Reader, on_bus: list[Gpu]) -> list[NvidiaGpu]:
    """What the NVIDIA driver says, or said; a missing one is worth a line only where there is such a GPU."""

    def ask() -> list[dict[str, str | int]]:
        try:
            return [structs.asdict(gpu) for gpu in nvidia_gpus()]
        except OSError as error:
            if any(gpu.vendor == "NVIDIA" for gpu in on_bus):
                reader.problem(f"names and memory of NVIDIA GPUs: {error}")
            return []

    nothing: list[dict[str, str | int]] = []
    told = reader.answer("nvidia gpus", ask, nothing)
    try:
        return msgspec.convert(told, list[NvidiaGpu])
    except msgspec.ValidationError as error:
        reader.problem(f"recorded NVIDIA GPUs: {error}")
        return []
