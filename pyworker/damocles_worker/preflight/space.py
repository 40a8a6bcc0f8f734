"""Free space: for as many sectors at once as there are threads, by file system."""

from __future__ import annotations

from pathlib import Path

from damocles_worker.config.settings import Settings
from damocles_worker.filesystem import disk_usage, free_bytes, mount_point
from damocles_worker.preflight.lines import Line
from damocles_worker.preflight.work import attached_stores, sector_sizes
from damocles_worker.sectors import size_name
from damocles_worker.stores.space import plan_bytes
from damocles_worker.units import format_size

_AREA = "space"


def look(settings: Settings) -> list[Line]:
    """A line per file system with sealing stores, and one per attached store that is written to."""
    return _sealing(settings) + _attached(settings)


def _sealing(settings: Settings) -> list[Line]:
    sizes = sector_sizes(settings)
    # As the daemon reserves it: a transfer processor may copy an old replica that is linked to otherwise.
    copied = bool(settings.processors.stages.get("transfer"))
    stores: dict[int, list[tuple[Path, int]]] = {}
    for thread in settings.threads:
        if thread.location is None or thread.plan == "wdpost" or not sizes:
            continue
        largest = max(thread.sealing.allowed_sizes or sizes)
        location = Path(thread.location).absolute()
        try:
            device = _existing(location).stat().st_dev
        except OSError:
            continue  # Stores that can't be looked at are said with the stores.
        needed = plan_bytes(thread.plan, largest, synthetic=True, copied=copied)
        stores.setdefault(device, []).append((location, needed))
    return [_line_of_file_system(found) for found in stores.values()]


def _line_of_file_system(stores: list[tuple[Path, int]]) -> Line:
    where = _existing(stores[0][0])
    free = free_bytes(where)
    # What sectors under way have written already is part of what they need.
    written = sum(disk_usage(location / "data") for location, _ in stores)
    needed = sum(size for _, size in stores)
    subject = str(mount_point(where))
    found = f"{format_size(free)} free" + (f", {format_size(written)} in sectors" if written else "")
    count = len(stores)
    wanted = f"{format_size(needed)} for {count} sector(s) at once"
    if free + written >= needed:
        return Line("ok", _AREA, subject, found, wanted)
    fitting = (free + written) * count // needed
    command = f"free space on {subject}, or give it {max(1, fitting)} sealing thread(s) in place of {count}"
    if fitting:
        return Line(
            "warning", _AREA, subject, f"{found}: room for {fitting}, the others wait", wanted, command
        )
    return Line("problem", _AREA, subject, f"{found}: no room for a single sector", wanted, command)


def _attached(settings: Settings) -> list[Line]:
    sizes = sector_sizes(settings)
    lines = []
    for store in attached_stores(settings):
        if store.readonly or not sizes:
            continue
        try:
            free = free_bytes(store.location)
        except OSError:
            continue
        # The replica, and its tree_r_last and proofs.
        needed = max(sizes) + max(sizes) // 64
        found, wanted = (
            f"{format_size(free)} free",
            f"{format_size(needed)} for one {size_name(max(sizes))} sector",
        )
        if free >= needed:
            lines.append(Line("ok", _AREA, store.name, found, wanted))
        else:
            command = f"free space in {store.location}, or attach another store"
            lines.append(
                Line("warning", _AREA, store.name, f"{found}: finished sectors wait", wanted, command)
            )
    return lines


def _existing(path: Path) -> Path:
    """The path, or the directory above that is there."""
    while not path.exists() and path != path.parent:
        path = path.parent
    return path
