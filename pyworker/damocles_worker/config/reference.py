"""The reference of all keys, ``docs/configuration.md``, written from the schema and the defaults.

``python -m damocles_worker.config.reference > docs/configuration.md`` renews it; a test holds it up to date.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator

from damocles_worker.config.document import join
from damocles_worker.config.schema import PROCESSOR, ROOT, SEALING, Alias, Ignored, Key, Table
from damocles_worker.config.settings import (
    LIMIT_STAGES,
    PROCESSOR_STAGES,
    Attached,
    Processor,
    Processors,
    Settings,
    Thread,
)
from damocles_worker.config.show import effective
from damocles_worker.config.values import form_of
from damocles_worker.sectors import SECTOR_SIZES

#: Stands for any stage in the name of a table; its entry in the defaults is that of one of them.
_STAGE, _A_STAGE = "STAGE", "pc1"

_HEAD = f"""# Configuration

Every key of the one TOML file that the daemon reads (`--config FILE`, or `DAMOCLES_WORKER_CONFIG`). This page
is written by `make docs` from the code. `damocles-worker config check FILE` shows all findings with line and
next step, and the settings in force; [compatibility.md](compatibility.md) says where the Rust worker differs.
Keys marked **new** are unknown to the Rust worker.

| written as | means |
|---|---|
| duration | a string of numbers with units: `"30s"`, `"1h 30min"` (`ms` `s` `min` `h` `day`; `M`: a month) |
| size | a string, `"8GiB"`: `K M G T` are powers of 1000, `Ki Mi Gi Ti` of 1024; or a number of bytes |
| sector size | one of {", ".join(f'`"{name}"`' for name in SECTOR_SIZES)} |
| actor id | the miner's number: 1000 for `t01000` |
| cpu list | the kernel's cpu numbers, `"0-3,8"` |
| path | used as written; a relative one counts from the working directory |

The file is read once, at the start. What a thread does can be changed while it runs: `config.toml` in its
`location`, with the keys of `[[sealing_thread]]` at top level, is read before each sector. For each key of
`[sealing]` the last of these counts: default, `[sealing]`, `sealing` of the thread, that file.
"""


def reference() -> str:
    """The page as Markdown."""
    defaults = _defaults()
    parts = [_HEAD]
    for title, path, table in _tables(ROOT, ""):
        parts.append(_section(title, path, table, defaults))
    stages = ", ".join(f"`{stage}`" for stage in LIMIT_STAGES)
    parts.append(f"Stages of the limits: {stages}.\n")
    parts.append(_section(f"[[processors.{_STAGE}]]", f"processors.{_STAGE}", PROCESSOR, defaults))
    stages = ", ".join(f"`{stage}`" for stage in PROCESSOR_STAGES)
    parts.append(f"Stages of processors: {stages}.\n")
    parts.append(_older())
    return "\n".join(parts)


def _tables(table: Table, path: str) -> Iterator[tuple[str, str, Table]]:
    """The tables that have a section of their own, in the schema's order."""
    for name, entry in table.entries.items():
        if isinstance(entry, Table) and entry is not PROCESSOR:
            below = join(path, name)
            yield f"[[{below}]]" if entry.many else f"[{below}]", below, entry


def _section(title: str, path: str, table: Table, defaults: dict[str, str]) -> str:
    rows = [
        f"| `{name}` | {form_of(key.read)} | {defaults.get(f'{path}.{name}', '')} |"
        f" {'**new**: ' if key.ours else ''}{key.doc} |"
        for name, key in _keys(table, "")
    ]
    rows += [
        f"| `{name}.…` | as in `[sealing]` | those of `[sealing]` | {below.doc} |"
        for name, below in table.entries.items()
        if isinstance(below, Table) and below.entries is SEALING.entries and table is not ROOT
    ]
    head = [f"## `{title}`", "", f"{table.doc[0].upper()}{table.doc[1:]}.", ""]
    return "\n".join([*head, "| key | written as | default | meaning |", "|---|---|---|---|", *rows, ""])


def _keys(table: Table, path: str) -> Iterator[tuple[str, Key]]:
    """The keys of a table and of those below it; policy that a thread repeats is not repeated here."""
    for name, entry in table.entries.items():
        below = join(path, name)
        if isinstance(entry, Key):
            yield below, entry
        elif isinstance(entry, Table) and not entry.many and entry.entries is not SEALING.entries:
            yield from _keys(entry, below)


def _older() -> str:
    """Keys that are read in another way than written, or not at all."""
    rows = []
    tables = [*_tables(ROOT, ""), ("", "", ROOT), ("", f"processors.{_STAGE}", PROCESSOR)]
    for _, path, table in tables:
        for name, entry in table.entries.items():
            if isinstance(entry, Alias):
                rows.append(f"| `{join(path, name)}` | the same as `{join(path, entry.of)}` |")
            elif isinstance(entry, Ignored):
                rows.append(f"| `{join(path, name)}` | {entry.warning}; {entry.next_step} |")
    return "\n".join(["## Other names", "", "| key | what happens |", "|---|---|", *rows, ""])


def _defaults() -> dict[str, str]:
    """What ``config check`` shows of a file that sets nothing, by path, as Markdown."""
    nothing = Settings(
        threads=(Thread(0),),
        attached=(Attached("", ""),),
        processors=Processors(stages={_A_STAGE: (Processor(),)}),
    )
    defaults, table = {}, ""
    for line in effective(nothing).splitlines():
        if line.startswith("["):
            table = line.strip("[]").replace(f".{_A_STAGE}", f".{_STAGE}")
        elif line.startswith("# "):
            name, _, absent = line[2:].partition(": ")
            defaults[f"{table}.{name}"] = absent
        elif line:
            name, _, value = line.partition(" = ")
            defaults[f"{table}.{name}"] = f"`{value.replace(_A_STAGE, _STAGE)}`"
    # What has no value at first has to be given.
    required = ("sector_manager.rpc_client.addr", "attached.location")
    return {**defaults, **dict.fromkeys(required, "**required**"), "attached.name": "the absolute `location`"}


if __name__ == "__main__":
    sys.stdout.write(reference())
