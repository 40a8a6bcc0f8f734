"""NVIDIA GPUs by way of ``libnvidia-ml.so.1``, which comes with the driver and is loaded when there."""

from __future__ import annotations

import ctypes

from msgspec import Struct

_LIBRARY = "libnvidia-ml.so.1"
_SUCCESS = 0
_NAME_LENGTH = 96


class NvidiaGpu(Struct, frozen=True):
    """A GPU as the driver knows it; memory in bytes, ``pci`` as in sysfs (``0000:3b:00.0``)."""

    pci: str
    name: str
    memory: int


class _Memory(ctypes.Structure):
    """``nvmlMemory_t``, bytes."""

    _fields_ = (("total", ctypes.c_ulonglong), ("free", ctypes.c_ulonglong), ("used", ctypes.c_ulonglong))


class _Pci(ctypes.Structure):
    """``nvmlPciInfo_t`` of NVML 9.2 and later (``nvmlDeviceGetPciInfo_v3``)."""

    _fields_ = (
        ("bus_id_legacy", ctypes.c_char * 16),
        ("domain", ctypes.c_uint),
        ("bus", ctypes.c_uint),
        ("device", ctypes.c_uint),
        ("device_id", ctypes.c_uint),
        ("subsystem_id", ctypes.c_uint),
        ("bus_id", ctypes.c_char * 32),
    )


def nvidia_gpus(library: str = _LIBRARY) -> list[NvidiaGpu]:
    """The GPUs that the driver lists, in its order (that of ``nvidia-smi``).

    Raises ``OSError`` with one sentence when the library can't be loaded or doesn't answer.
    """
    nvml = ctypes.CDLL(library)
    _call(nvml, "nvmlInit_v2")
    try:
        count = ctypes.c_uint()
        _call(nvml, "nvmlDeviceGetCount_v2", ctypes.byref(count))
        return [_gpu(nvml, index) for index in range(count.value)]
    finally:
        _call(nvml, "nvmlShutdown")


def _gpu(nvml: ctypes.CDLL, index: int) -> NvidiaGpu:
    handle = ctypes.c_void_p()
    name = ctypes.create_string_buffer(_NAME_LENGTH)
    memory, pci = _Memory(), _Pci()
    _call(nvml, "nvmlDeviceGetHandleByIndex_v2", ctypes.c_uint(index), ctypes.byref(handle))
    _call(nvml, "nvmlDeviceGetName", handle, name, ctypes.c_uint(_NAME_LENGTH))
    _call(nvml, "nvmlDeviceGetMemoryInfo", handle, ctypes.byref(memory))
    _call(nvml, "nvmlDeviceGetPciInfo_v3", handle, ctypes.byref(pci))
    return NvidiaGpu(
        pci=f"{pci.domain:04x}:{pci.bus:02x}:{pci.device:02x}.0",
        name=name.value.decode(errors="replace"),
        memory=memory.total,
    )


def _call(nvml: ctypes.CDLL, function: str, *arguments: object) -> None:
    try:
        status = getattr(nvml, function)(*arguments)
    except AttributeError:
        raise OSError(f"{_LIBRARY} has no {function}: the driver is too old") from None
    if status != _SUCCESS:
        raise OSError(f"{function} of {_LIBRARY} failed with status {status}")
