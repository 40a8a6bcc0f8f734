"""GPUs on the bus, and a driver library that answers, fails or is too old."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from damocles_worker.hardware.gpus import read_gpus
from damocles_worker.hardware.nvml import NvidiaGpu, nvidia_gpus
from damocles_worker.hardware.reader import Reader
from tests.unit.hardware.machines import write

PCI = "sys/bus/pci/devices"

#: A driver with two GPUs of 80 GiB.
DRIVER = r"""
#include <stdio.h>
#include <string.h>
typedef struct { unsigned long long total, free, used; } memory;
typedef struct { char legacy[16]; unsigned domain, bus, device, id, subsystem; char text[32]; } pci;
static int handles[2];
int nvmlInit_v2(void) { return STATUS; }
int nvmlShutdown(void) { return 0; }
int nvmlDeviceGetCount_v2(unsigned *count) { *count = 2; return 0; }
int nvmlDeviceGetHandleByIndex_v2(unsigned index, void **handle) { *handle = &handles[index]; return 0; }
int nvmlDeviceGetName(void *handle, char *name, unsigned length) {
    snprintf(name, length, "Test GPU %d", (int)((int *)handle - handles)); return 0; }
int nvmlDeviceGetMemoryInfo(void *handle, memory *found) { found->total = 80ULL << 30; return 0; }
#ifndef OLD
int nvmlDeviceGetPciInfo_v3(void *handle, pci *found) {
    memset(found, 0, sizeof *found); found->bus = 0x3b + ((int *)handle - handles); return 0; }
#endif
"""


def driver(directory: Path, *options: str) -> str:
    """Compile the driver; answers the library's path."""
    (directory / "driver.c").write_text(DRIVER)
    library = str(directory / "driver.so")
    subprocess.run(
        ["cc", "-shared", "-fPIC", *options, "-o", library, str(directory / "driver.c")], check=True
    )
    return library


def device(root: Path, address: str, **files: str) -> None:
    for name, text in files.items():
        write(root, f"{PCI}/{address}/{name}", text)


def test_driver_tells_name_memory_and_address(tmp_path: Path) -> None:
    assert nvidia_gpus(driver(tmp_path, "-DSTATUS=0")) == [
        NvidiaGpu("0000:3b:00.0", "Test GPU 0", 80 << 30),
        NvidiaGpu("0000:3c:00.0", "Test GPU 1", 80 << 30),
    ]


def test_driver_that_fails_or_is_old_or_missing_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(OSError, match=r"nvmlInit_v2 .* failed with status 9"):
        nvidia_gpus(driver(tmp_path, "-DSTATUS=9"))
    (tmp_path / "old").mkdir()
    with pytest.raises(OSError, match=r"has no nvmlDeviceGetPciInfo_v3: the driver is too old"):
        nvidia_gpus(driver(tmp_path / "old", "-DSTATUS=0", "-DOLD"))
    with pytest.raises(OSError, match=r"no-such-library"):
        nvidia_gpus("no-such-library.so.1")


def test_bus_lists_nvidia_and_amd_only(tmp_path: Path) -> None:
    nvidia, amd = "0000:3b:00.0", "0000:5e:00.0"
    device(tmp_path, nvidia, vendor="0x10de", **{"class": "0x030200"}, device="0x2235", numa_node="1")
    write(tmp_path, f"proc/driver/nvidia/gpus/{nvidia}/information", "Model: \t\t NVIDIA A40\nIRQ: 1")
    device(
        tmp_path,
        amd,
        vendor="0x1002",
        **{"class": "0x120000"},
        device="0x740f",
        numa_node="-1",
        mem_info_vram_total=str(64 << 30),
    )
    device(tmp_path, "0000:03:00.0", vendor="0x1a03", **{"class": "0x030000"}, device="0x2000")
    device(tmp_path, "0000:3b:00.1", vendor="0x10de", **{"class": "0x040300"}, device="0x1aef")
    gpus = read_gpus(Reader(tmp_path))
    assert [(gpu.name, gpu.vendor, gpu.memory, gpu.numa_node) for gpu in gpus] == [
        ("NVIDIA A40", "NVIDIA", None, 1),
        ("PCI device 740f", "AMD", 64 << 30, None),
    ]
