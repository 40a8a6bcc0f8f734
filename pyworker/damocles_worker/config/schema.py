"""Every key of the configuration: its reader, and one line on what it does.

The types, units and limits are those of the readers in :mod:`.values`, the defaults those of
:mod:`.settings`. Keys of older releases are here too, with what happens to them now.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from msgspec import Struct

from damocles_worker.config import values
from damocles_worker.config.document import join
from damocles_worker.config.findings import suggestion
from damocles_worker.config.settings import LIMIT_STAGES, PLANS, PROCESSOR_STAGES
from damocles_worker.config.values import Place, Reader, RefusedError
from damocles_worker.sectors import SECTOR_SIZES
from damocles_worker.units import format_size, parse_size_a


class Key(Struct, frozen=True):
    """A key with a value."""

    read: Reader
    doc: str
    #: Its value is not shown in messages.
    secret: bool = False
    #: The Rust worker does not know it.
    ours: bool = False


class Table(Struct, frozen=True):
    """A table, or with ``many`` an array of tables, ``[[...]]``."""

    entries: dict[str, Entry]
    doc: str
    many: bool = False


class Alias(Struct, frozen=True):
    """Another spelling of a sibling key. ``clash``: what to say if both are given, and how loudly."""

    of: str
    warning: str = ""
    clash_is_error: bool = False


class Ignored(Struct, frozen=True):
    """A key of an older release that does nothing: accepted with a warning."""

    warning: str
    next_step: str


Entry = Key | Table | Alias | Ignored


# ---- readers that need names of this program -------------------------------------------------------

_NIPOREP = {
    "niporep": (
        'the plan "niporep" can\'t run: the manager hands out no sector of a non-interactive proof type',
        'write plan = "sealer"',
    )
}


def sector_size_of(text: str) -> int:
    """The sector size in bytes of a size as written; refuses sizes that no sector has."""
    try:
        size = parse_size_a(text)
    except ValueError as error:
        raise RefusedError(str(error), f"sector sizes: {', '.join(SECTOR_SIZES)}") from None
    if size in SECTOR_SIZES.values():
        return size
    binary = re.sub(r"(?i)(?<=[kmgt])b?$", "iB", text.strip())
    meant = next((name for name in SECTOR_SIZES if name.lower() == binary.lower().replace(" ", "")), None)
    if meant is not None:
        raise RefusedError(
            f'"{text}" is {size} bytes (powers of 1000), which is not a sector size',
            f'did you mean "{meant}"?',
        )
    raise RefusedError(
        f'"{text}" ({format_size(size)}) is not a sector size', f"sector sizes: {', '.join(SECTOR_SIZES)}"
    )


@values.written_as("sector size")
def _sector_size(place: Place) -> int:
    written = place.expect("string", 'a sector size as a string, such as "32GiB"', '["32GiB"]')
    return sector_size_of(written)


@values.written_as("actor id")
def _miner(place: Place) -> int:
    found = place.node.value
    if place.node.kind == "string" and re.fullmatch(r"[tf]0[0-9]+", found):
        raise RefusedError(
            f'found the address "{found}", expected an actor id', f"write {int(found[2:])}, no quotes"
        )
    if place.node.kind == "string" and re.fullmatch(r"[0-9]+", found):
        raise RefusedError(
            f'found the string "{found}", expected an actor id', f"write {int(found)} without quotes"
        )
    return int(values.count(place))


def _stage_of_limit(name: str) -> str:
    if name not in LIMIT_STAGES:
        raise RefusedError(f'unknown stage "{name}"', suggestion(name, LIMIT_STAGES))
    return name


def _lock_name(name: str) -> str:
    if not name.strip():
        raise RefusedError("a lock needs a name", "write name = number of tasks at once")
    return name


def _env_name(name: str) -> str:
    if not name or "=" in name or "\0" in name:
        raise RefusedError(
            f'"{name}" can\'t be the name of an environment variable', "use letters, digits and _"
        )
    return name


def _env_value(place: Place) -> str:
    value = str(place.expect("string", "a string (environment variables are text)", _quoted(place)))
    if "\0" in value:
        raise RefusedError("an environment variable can't have a zero byte", "remove it")
    return value


def _quoted(place: Place) -> str:
    plain = place.node.kind in ("integer", "float", "boolean") and not place.secret
    shown = str(place.node.value).lower() if plain else "..."
    return f'"{shown}" with quotes'


@values.written_as("table of strings")
def _envs(place: Place) -> dict[str, str]:
    """A table of strings; values of variables that look like secrets stay out of messages."""
    place.expect("table", "a table", '{ RUST_LOG = "info" }')
    variables: dict[str, str] = {}
    for entry, item in place.entries():
        item.secret = is_secret_name(entry.key)
        try:
            name = _env_name(entry.key)
        except RefusedError as refusal:
            place.report.error(item.path, entry.position, refusal.message, refusal.next_step)
            continue
        for value in item.read(_env_value):
            variables[name] = value
    return variables


def _header_name(name: str) -> str:
    if not re.fullmatch(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+", name):
        raise RefusedError(f'"{name}" can\'t be the name of an HTTP header', "use letters, digits and -")
    return name


@values.written_as("string")
def _header_value(place: Place) -> str:
    value = values.text(place)
    if not value.isprintable():
        raise RefusedError(
            "an HTTP header can't have a line break or control character", "write one line of text"
        )
    return value


def is_secret_name(name: str) -> bool:
    """Whether a variable or header of this name holds a secret."""
    words = ("TOKEN", "SECRET", "KEY", "PASSWORD", "PASSWD", "PWD", "AUTH", "COOKIE", "CREDENTIAL", "DSN")
    return any(word in name.upper() for word in words)


# ---- tables --------------------------------------------------------------------------------------

SEALING = Table(
    {
        "allowed_miners": Key(values.array(_miner), "actor ids of the miners to seal for"),
        "allowed_sizes": Key(values.array(_sector_size), "sector sizes to seal"),
        "enable_deals": Key(values.boolean, "ask the manager for deals"),
        "disable_cc": Key(values.boolean, "wait for deals rather than seal a sector without any"),
        "max_deals": Key(values.count, "most deals in a sector"),
        "min_deal_space": Key(values.size, "least space in a sector that deals fill"),
        "max_retries": Key(values.count_u32, "retries of temporary failures"),
        "seal_interval": Key(values.interval, "pause between two sectors of a thread"),
        "recover_interval": Key(values.interval, "pause before a retry"),
        "rpc_polling_interval": Key(values.interval, "pause between two questions about the chain"),
        "ignore_proof_check": Key(values.boolean, "skip verifying a proof and waiting for it on chain"),
        "request_task_max_retries": Key(values.count_u32, "vain requests for a sector before a longer pause"),
        "verify_after_pc2": Key(values.boolean, "check the replica with a trial C1 after PC2"),
        "verify_persist": Key(values.boolean, "read persisted files back and compare checksums", ours=True),
        "ticket_max_age": Key(values.positive_duration, "age at which a ticket is asked for anew", ours=True),
    },
    "policy of all sealing threads",
)

_THREAD_ENTRIES: dict[str, Entry] = {
    "location": Key(values.path_text, "directory of the sealing store"),
    "plan": Key(values.one_of(PLANS, _NIPOREP), "what the thread does"),
    "sealing": Table(SEALING.entries, "policy of this thread, over [sealing]"),
}

THREAD = Table(_THREAD_ENTRIES, "a sealing thread with its store", many=True)

#: A hot file holds the entries of one thread at top level.
HOT_FILE = Table(_THREAD_ENTRIES, "a sealing thread")

_STORE_ENTRIES: dict[str, Entry] = {
    "name": Key(values.filled_text, "name the manager knows the store by"),
    "location": Key(values.path_text, "directory of the store"),
    "readonly": Key(values.boolean, "never persist a sector there"),
}

PROCESSOR = Table(
    {
        "bin": Key(values.path_text, "program to start instead of this one"),
        "args": Key(values.array(values.text), "arguments of the program"),
        "stable_wait": Key(values.positive_duration, "longest wait for the ready line"),
        "cgroup": Table(
            {
                "cpuset": Key(values.cpu_list, "cpus the processor may use"),
                "group_name": Key(values.control_group, "parent control group"),
            },
            "binding to cpus",
        ),
        "envs": Key(_envs, "additional environment variables"),
        "inherit_envs": Key(values.boolean, "pass on the worker's own environment"),
        "numa_preferred": Key(values.node_number, "NUMA node to take memory from"),
        "concurrent": Key(values.permits, "tasks at once in this processor"),
        "locks": Key(values.array(values.filled_text), "names of ext_locks to hold while working"),
        "auto_restart": Key(values.boolean, "start the processor again when it exits"),
        "answer_timeout": Key(values.positive_duration, "longest wait for an answer", ours=True),
        "weight": Ignored("weights are not used any more: tasks go to the least busy processor", "remove it"),
    },
    "an external processor of a stage",
    many=True,
)

_IN_DAEMON = Ignored("this stage always runs inside the worker: no processor is started", "remove the table")

PROCESSORS = Table(
    {
        "limit": Key(
            values.mapping(values.permits, _stage_of_limit, "pc1 = 3"),
            "tasks at once by stage (before 0.3), where there is no limitation.concurrent",
        ),
        "limitation": Table(
            {
                "concurrent": Key(
                    values.mapping(values.permits, _stage_of_limit, "pc1 = 3"), "tasks at once by stage"
                ),
                "staggered": Key(
                    values.mapping(values.stagger, _stage_of_limit, 'pc1 = "5min"'),
                    "time between two starts by stage",
                ),
            },
            "limits by stage",
        ),
        "ext_locks": Key(
            values.mapping(values.permits, _lock_name, "gpu = 1"), "locks that processors can share"
        ),
        "static_tree_d": Key(
            values.mapping(values.path_text, sector_size_of, '32GiB = "/path"'),
            "pre-built trees of all-zero data by sector size",
        ),
        **dict.fromkeys(PROCESSOR_STAGES, PROCESSOR),
        "c1": _IN_DAEMON,
    },
    "limits, locks and external processors",
)

ROOT = Table(
    {
        "worker": Table(
            {
                "name": Key(values.filled_text, "name of this worker"),
                "rpc_server": Table(
                    {
                        "host": Key(values.ip_literal, "address the control server listens on"),
                        "port": Key(values.port, "port the control server listens on"),
                    },
                    "control server",
                ),
                "ping_interval": Key(values.interval, "time between two reports of being alive"),
                "local_pieces_dirs": Key(values.array(values.path_text), "directories searched for pieces"),
                "local_pieces_dir": Key(values.path_text, "one directory searched for pieces (before 0.7)"),
                "scan_persist_stores": Key(
                    values.array(values.path_text), "patterns of directories with a sectorstore.json"
                ),
                "ScanPersistStores": Alias("scan_persist_stores", clash_is_error=True),
            },
            "this worker",
        ),
        "metrics": Table(
            {
                "enable": Key(values.boolean, "serve Prometheus metrics"),
                "http_listen": Key(values.socket_address, "address and port of the metrics"),
            },
            "Prometheus metrics",
        ),
        "sector_manager": Table(
            {
                "rpc_client": Table(
                    {
                        "addr": Key(values.filled_text, "address of the manager"),
                        "headers": Key(
                            values.mapping(_header_value, _header_name, 'Name = "value"'),
                            "HTTP headers of every request",
                            secret=True,
                        ),
                    },
                    "connection to the manager",
                ),
                "piece_token": Key(values.filled_text, "token for downloading pieces", secret=True),
            },
            "the manager",
        ),
        "sealing": SEALING,
        "sealing_thread": THREAD,
        "attached": Table(_STORE_ENTRIES, "a persistent store", many=True),
        "Attached": Alias("attached", "keys are case-sensitive: this is read as [[attached]]"),
        "remote_store": Table(_STORE_ENTRIES, "a persistent store, in the words of releases up to 0.8"),
        "processors": PROCESSORS,
        "attached_selection": Ignored("the manager chooses the store: this table does nothing", "remove it"),
        "store": Ignored(
            "the name of sealing threads before release 0.1: ignored", "write [[sealing_thread]]"
        ),
    },
    "configuration",
)


def known_paths(name: str, table: Table = ROOT, path: str = "") -> Iterator[str]:
    """Where a key of this name is known, ``sealing.max_retries``: for a key in the wrong table."""
    for key, entry in table.entries.items():
        below = join(path, key)
        if key == name and not isinstance(entry, Ignored):
            yield f"[[{below}]]" if isinstance(entry, Table) and entry.many else below
        if isinstance(entry, Table):
            yield from known_paths(name, entry, below)
