"""The effective configuration as TOML-like text, with secrets masked."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from msgspec import structs

from damocles_worker.config.document import join
from damocles_worker.config.schema import is_secret_name
from damocles_worker.config.settings import Processor, Sealing, Settings, Thread
from damocles_worker.logs.secrets import without_secrets
from damocles_worker.sectors import SECTOR_SIZES, size_name
from damocles_worker.units import format_duration, format_size

_MASKED = "********"
_DURATIONS = ("seal_interval", "recover_interval", "rpc_polling_interval", "ticket_max_age")


def effective(settings: Settings, error_paths: frozenset[str] = frozenset()) -> str:
    """All settings as they are in force, defaults included, one key per line.

    A value that could not be read (its path is in ``error_paths``) is shown as a comment. Keys that
    are not set and have no default are shown as comments too.
    """
    writer = _Writer(settings.positions, error_paths)
    worker, manager = settings.worker, settings.manager
    writer.table("worker")
    writer.optional("name", worker.name, "the local IP address that reaches the manager")
    writer.key("rpc_server.host", worker.rpc_host)
    writer.key("rpc_server.port", worker.rpc_port)
    writer.key("ping_interval", format_duration(worker.ping_interval))
    writer.key("local_pieces_dirs", worker.local_pieces_dirs)
    writer.key("scan_persist_stores", worker.scan_persist_stores)
    writer.table("metrics")
    writer.key("enable", settings.metrics.enable)
    writer.key("http_listen", settings.metrics.http_listen)
    writer.table("sector_manager")
    writer.key("rpc_client.addr", without_secrets(manager.addr))
    # Any header may be a credential, whatever its name.
    writer.key("rpc_client.headers", dict.fromkeys(manager.headers, _MASKED))
    writer.optional("piece_token", manager.piece_token and _MASKED, "none")
    writer.table("sealing")
    for name, value in structs.asdict(settings.sealing).items():
        _policy(writer, name, value)
    for thread in settings.threads:
        _thread(writer, thread, settings.sealing)
    for index, store in enumerate(settings.attached):
        writer.table(f"attached[{index}]", header="[attached]")
        writer.key("name", store.name)
        writer.key("location", store.location)
        writer.key("readonly", store.readonly)
    _processors(writer, settings)
    return "\n".join(writer.lines)


def _thread(writer: _Writer, thread: Thread, common: Sealing) -> None:
    """A thread with what it has different from ``[sealing]``."""
    writer.table(f"sealing_thread[{thread.index}]", header="[sealing_thread]")
    writer.optional("location", thread.location, "none")
    writer.key("plan", thread.plan)
    for name, value in structs.asdict(thread.sealing).items():
        if value != getattr(common, name) or writer.is_written(f"sealing.{name}"):
            _policy(writer, name, value, prefix="sealing.")


def _policy(writer: _Writer, name: str, value: Any, prefix: str = "") -> None:
    if name in ("allowed_miners", "allowed_sizes") and not value:
        writer.optional(prefix + name, None, "any")
    elif name == "allowed_sizes":
        writer.key(prefix + name, [size_name(size) for size in value])
    elif name == "min_deal_space" and value is not None:
        writer.key(prefix + name, format_size(value))
    elif name in _DURATIONS:
        writer.key(prefix + name, format_duration(value))
    else:
        writer.optional(prefix + name, value, "no limit")


def _processors(writer: _Writer, settings: Settings) -> None:
    processors = settings.processors
    gaps = {stage: format_duration(gap) for stage, gap in processors.staggered.items()}
    sizes = {size: name for name, size in SECTOR_SIZES.items()}
    trees = {sizes[size]: path for size, path in processors.static_tree_d.items()}
    writer.mapping("processors.limitation.concurrent", processors.concurrent)
    writer.mapping("processors.limitation.staggered", gaps)
    writer.mapping("processors.ext_locks", processors.ext_locks)
    writer.mapping("processors.static_tree_d", trees)
    for stage, entries in processors.stages.items():
        for index, processor in enumerate(entries):
            writer.table(f"processors.{stage}[{index}]", header=f"[processors.{stage}]")
            _processor(writer, stage, processor)


def _processor(writer: _Writer, stage: str, processor: Processor) -> None:
    writer.optional("bin", processor.bin, "this program")
    args = ("processor", stage) if processor.args is None else _masked_args(processor.args)
    writer.key("args", args)
    writer.key("stable_wait", format_duration(processor.stable_wait))
    writer.optional("cgroup.cpuset", processor.cpuset, "all cpus")
    writer.key("cgroup.group_name", processor.cgroup_group_name)
    writer.key("envs", _masked(processor.envs))
    writer.key("inherit_envs", processor.inherit_envs)
    writer.optional("numa_preferred", processor.numa_preferred, "none")
    writer.optional("concurrent", processor.concurrent, "no limit")
    writer.key("locks", processor.locks)
    writer.key("auto_restart", processor.auto_restart)
    timeout = processor.answer_timeout
    writer.optional("answer_timeout", None if timeout is None else format_duration(timeout), "no limit")


def _masked(values: Mapping[str, str]) -> dict[str, str]:
    return {
        name: _MASKED if is_secret_name(name) else without_secrets(value) for name, value in values.items()
    }


def _masked_args(args: Iterable[str]) -> list[str]:
    """Arguments with the value of ``--token X`` and ``--token=X`` masked."""
    shown: list[str] = []
    mask_next = False
    for arg in args:
        flag, equals, _ = arg.partition("=")
        is_secret = arg.startswith("-") and is_secret_name(flag)
        if mask_next and not arg.startswith("-"):
            shown.append(_MASKED)
        else:
            shown.append(f"{flag}={_MASKED}" if is_secret and equals else without_secrets(arg))
        mask_next = is_secret and not equals
    return shown


class _Writer:
    """Collects lines; knows which values were in error."""

    def __init__(self, positions: Mapping[str, tuple[int, int]], error_paths: frozenset[str]) -> None:
        self.lines: list[str] = []
        self._positions = positions
        self._errors = error_paths
        self._path = ""

    def table(self, path: str, header: str | None = None) -> None:
        """Start a table; ``header`` is what stands between the brackets if it is not the path."""
        self._path = path
        self.lines += [""] if self.lines else []
        self.lines.append(f"[{header or path}]")

    def mapping(self, path: str, values: Mapping[str, Any]) -> None:
        """A table of free names; left out if there is nothing in it."""
        errors = [error for error in sorted(self._errors) if error.startswith(f"{path}.")]
        if not values and not errors:
            return
        self.table(path)
        self.lines += [f"{join('', name)} = {_toml(value)}" for name, value in values.items()]
        self.lines += [f"# {error.removeprefix(path + '.')}: {self._remark(error)}" for error in errors]

    def key(self, name: str, value: Any) -> None:
        self.optional(name, value, "")

    def optional(self, name: str, value: Any, absent: str) -> None:
        """A key, or a comment that says what its absence means."""
        error = self._error_at(f"{self._path}.{name}")
        if error is not None:
            self.lines.append(f"# {name}: {self._remark(error)}")
        elif value is None:
            self.lines.append(f"# {name}: {absent}")
        else:
            self.lines.append(f"{name} = {_toml(value)}")

    def is_written(self, name: str) -> bool:
        """Whether the file gives this key of the current table."""
        return f"{self._path}.{name}" in self._positions

    def _error_at(self, path: str) -> str | None:
        """The path in error at or below ``path``, if any."""
        below = (f"{path}.", f"{path}[")
        return next(
            (error for error in sorted(self._errors) if error == path or error.startswith(below)), None
        )

    def _remark(self, path: str) -> str:
        line = self._positions.get(path, (0, 0))[0]
        return f"in error, see line {line}" if line else "in error"


def _toml(value: Any) -> str:
    if isinstance(value, Mapping):
        inside = ", ".join(f"{join('', name)} = {_toml(item)}" for name, item in value.items())
        return f"{{ {inside} }}" if inside else "{}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(_toml(item) for item in value)}]"
    return json.dumps(value, ensure_ascii=False)
