"""The processor: model, the instructions that sealing lives on, clock governor, kinds of cores."""

from __future__ import annotations

from msgspec import Struct

from damocles_worker.hardware.reader import Reader

_CPUS = "sys/devices/system/cpu"

#: Names of the flag in ``/proc/cpuinfo`` for SHA-256 instructions: x86, and Arm.
_SHA_FLAGS = ("sha_ni", "sha2")
_AVX512_FLAG = "avx512f"
_AVX512_IFMA_FLAG = "avx512ifma"
#: Where the kernel lists the kinds of cores of a hybrid processor.
_CORE_KINDS = {"performance": "sys/devices/cpu_core/cpus", "efficiency": "sys/devices/cpu_atom/cpus"}


class Processor(Struct, frozen=True):
    """What all cpus of the machine offer; None where it can't be read."""

    models: tuple[str, ...]
    #: SHA-256 instructions: PC1 is that and little else.
    sha_extensions: bool | None
    avx512: bool | None
    avx512_ifma: bool | None
    #: Clock governor to the cpus it governs; empty where the kernel scales no clocks (many guests).
    governors: dict[str, frozenset[int]]
    #: ``performance`` and ``efficiency`` to the cpus of that kind; empty unless there are both.
    core_kinds: dict[str, frozenset[int]]


def read_processor(reader: Reader, cpus: frozenset[int]) -> Processor:
    """The processor below the reader's root, as far as ``cpus`` go."""
    flags = _common_flags(reader)
    if flags is None:
        reader.problem("/proc/cpuinfo: the instructions of the processor can't be read")
    return Processor(
        models=tuple(dict.fromkeys(model for _, model in sorted(cpu_models(reader).items()))),
        sha_extensions=None if flags is None else any(flag in flags for flag in _SHA_FLAGS),
        avx512=None if flags is None else _AVX512_FLAG in flags,
        avx512_ifma=None if flags is None else _AVX512_IFMA_FLAG in flags,
        governors=_governors(reader, cpus),
        core_kinds=_core_kinds(reader, cpus),
    )


def cpu_models(reader: Reader) -> dict[int, str]:
    """For each cpu the processor's name; empty where the kernel has none (Arm)."""
    models = {}
    for fields in _cpuinfo(reader):
        number, model = fields.get("processor", ""), fields.get("model name", "")
        if number.isdecimal() and model:
            models[int(number)] = model
    return models


def _cpuinfo(reader: Reader) -> list[dict[str, str]]:
    """The blocks of ``/proc/cpuinfo``, one per switched-on cpu."""
    blocks = []
    for block in (reader.text("proc/cpuinfo") or "").split("\n\n"):
        pairs = (line.partition(":") for line in block.splitlines())
        fields = {key.strip(): value.strip() for key, colon, value in pairs if colon}
        if fields:
            blocks.append(fields)
    return blocks


def _common_flags(reader: Reader) -> frozenset[str] | None:
    """Flags that every cpu has; None if there are none to read."""
    sets = [
        frozenset((fields.get("flags") or fields.get("Features") or "").split())
        for fields in _cpuinfo(reader)
        if "flags" in fields or "Features" in fields
    ]
    return frozenset.intersection(*sets) if sets else None


def _governors(reader: Reader, cpus: frozenset[int]) -> dict[str, frozenset[int]]:
    found: dict[str, set[int]] = {}
    for cpu in sorted(cpus):
        governor = reader.text(f"{_CPUS}/cpu{cpu}/cpufreq/scaling_governor")
        if governor:
            found.setdefault(governor, set()).add(cpu)
    return {name: frozenset(members) for name, members in found.items()}


def _core_kinds(reader: Reader, cpus: frozenset[int]) -> dict[str, frozenset[int]]:
    kinds = {name: (reader.cpus(path) or frozenset()) & cpus for name, path in _CORE_KINDS.items()}
    return kinds if all(kinds.values()) else {}
