"""How much memory and swap a machine has, and how much of it is in use."""

from __future__ import annotations

import re

from msgspec import Struct

from damocles_worker.hardware.reader import Reader


class MemoryUse(Struct, frozen=True):
    """Bytes. Used memory is what programs and the kernel hold: caches that give way don't count."""

    total: int
    used: int
    swap_total: int
    swap_used: int


def read_memory_use(reader: Reader) -> MemoryUse | None:
    """Memory of the machine; None if ``/proc/meminfo`` can't be read.

    The kernel's kB are 1024 bytes (proc(5)).
    """
    fields = {
        name: int(value) << 10
        for name, value in re.findall(
            r"^(\w+):\s+([0-9]{1,15}) kB$", reader.text("proc/meminfo") or "", re.MULTILINE
        )
    }
    missing = [name for name in ("MemTotal", "MemFree") if name not in fields]
    if missing:
        reader.problem(f"/proc/meminfo: {' and '.join(missing)} can't be read, memory is unknown")
        return None
    give_way = sum(fields.get(name, 0) for name in ("MemFree", "Buffers", "Cached", "SReclaimable"))
    return MemoryUse(
        total=fields["MemTotal"],
        used=max(0, fields["MemTotal"] - give_way),
        swap_total=fields.get("SwapTotal", 0),
        swap_used=max(0, fields.get("SwapTotal", 0) - fields.get("SwapFree", 0)),
    )
