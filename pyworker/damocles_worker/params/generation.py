"""Making a local, insecure parameter set where none is.

A set's files appear in an order that tells, whenever the process is killed, what is to be done: first
the sidecar with the digests of all files, then the ``.vk`` and ``.meta`` file, the ``.params`` file
last. A set without its ``.params`` file whose other files the sidecar describes is finished by the
next run, which makes the same bytes; one without a sidecar is somebody else's and is not touched.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable
from pathlib import Path

import msgspec
from msgspec import Struct

from damocles_worker import __version__, _native
from damocles_worker.errors import WorkerError
from damocles_worker.filesystem import file_error, free_bytes, fsync_directory, mount_point, no_space
from damocles_worker.params.local_record import FileRecord, LocalRecord, read_local_record, record_of
from damocles_worker.params.publish import exclusive, publish, temporary_name, write_small
from damocles_worker.params.sets import ParameterSet, cache_directory, circuit
from damocles_worker.params.status import State, check, fetch_command
from damocles_worker.units import format_duration

WARNING = (
    "Local and insecure: derived from a public seed, so anyone can forge proofs for these parameters."
    " For local networks and tests only."
)

#: CPU seconds per byte of a ``.params`` file (`cargo run --release -p params --example bench_generator`).
_CPU_SECONDS_PER_BYTE = 80e-9
#: The key files and the sidecar, generously.
_SMALL_FILES = 1 << 20

#: Called with (done, total); the total is 0 while it is not known. May raise to stop.
Progress = Callable[[int, int], object]


class Outcome(Struct, frozen=True):
    """What :func:`generate` did: ``generated`` is False if the set was there already, in ``state``."""

    wanted: ParameterSet
    directory: Path
    generated: bool
    state: State
    files: tuple[str, ...]


def expected_seconds(wanted: ParameterSet) -> float:
    """About how long a generation takes on this machine's cores."""
    size = circuit(wanted.kind, wanted.sector_size).params_bytes
    if size is None:
        raise _not_local(wanted)
    return 2 + size * _CPU_SECONDS_PER_BYTE / len(os.sched_getaffinity(0))


def generate(
    wanted: ParameterSet,
    directory: Path,
    *,
    progress: Progress | None = None,
    waiting: Callable[[str], object] = lambda _text: None,
    cancel: _native.Cancel | None = None,
) -> Outcome:
    """Make the set's files in ``directory``, which is created if need be.

    A set that is whole is left alone. A set of which some file is there that this program did not
    generate is refused, as are sector sizes of public networks; the error names file and reason.
    ``progress`` is called on this thread; ``waiting`` gets a line if another process generates.
    """
    size = circuit(wanted.kind, wanted.sector_size).params_bytes
    if size is None:
        raise _not_local(wanted)
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise file_error(error, "create", directory) from error
    with exclusive(directory, waiting):
        remove_leftovers(wanted, directory)
        if len(wanted.keys_in(directory)) == 2:
            return _existing(wanted, directory)
        record = read_local_record(wanted, directory)
        _refuse_foreign_files(wanted, directory, record)
        try:
            _generate(wanted, directory, size, progress, cancel)
        finally:
            remove_leftovers(wanted, directory)
    files = (wanted.params_file, wanted.vk_file, wanted.meta_file, wanted.local_record_file)
    return Outcome(wanted, directory, True, State.LOCAL, files)


def ensure_local(
    wanted: ParameterSet, *, say: Callable[[str], object], directory: Path | None = None
) -> Outcome:
    """Make the set if it is missing, telling ``say`` a line at a time; ``directory`` None: where the
    proving library looks.

    A set that is there is left alone, whoever made it; one that can't be used is an error.
    """
    where = directory or cache_directory()
    status = check(wanted, where)
    if status.state is not State.MISSING:
        if not status.state.usable:
            raise WorkerError(status.text, next_step=status.next_step)
        return _existing(wanted, where)
    seconds = format_duration(round(expected_seconds(wanted)))
    say(f"generating the {wanted} parameters in {where}: about {seconds}, once per machine")
    outcome = generate(wanted, where, progress=Steps(say, f"{wanted} parameters"), waiting=say)
    say(f"{wanted} parameters: {WARNING}")
    return outcome


class Steps:
    """Progress as lines with the time left: one every twentieth of the work, but not several a second."""

    def __init__(self, say: Callable[[str], object], title: str) -> None:
        self._say = say
        self._title = title
        self._started = self._said_at = time.monotonic()
        self._said = 0

    def __call__(self, done: int, total: int) -> None:
        step = 20 * done // total if total else 0
        now = time.monotonic()
        if step <= self._said or now - self._said_at < 1:
            return
        self._said, self._said_at = step, now
        left = seconds_left(now - self._started, done, total)
        self._say(f"{self._title}: {100 * done // total} %, about {left} left")


def seconds_left(elapsed: float, done: int, total: int) -> str:
    """The time that the rest takes at the pace so far, as text; ``done`` is not zero."""
    return format_duration(round(elapsed * (total - done) / done))


def _not_local(wanted: ParameterSet) -> WorkerError:
    return WorkerError(
        f"{wanted}: parameters are generated for 2KiB and 8MiB sectors only: larger sectors are those of"
        " public networks, which refuse proofs made with other parameters than those of their ceremony",
        next_step=f"Run `{fetch_command(wanted)}`",
    )


def _existing(wanted: ParameterSet, directory: Path) -> Outcome:
    names = (wanted.params_file, wanted.vk_file, wanted.meta_file, wanted.local_record_file)
    files = tuple(name for name in names if (directory / name).exists())
    return Outcome(wanted, directory, False, check(wanted, directory).state, files)


def _refuse_foreign_files(wanted: ParameterSet, directory: Path, record: LocalRecord | None) -> None:
    """Refuse a set of which some file is there that the sidecar does not describe."""
    for name in (wanted.params_file, wanted.vk_file, wanted.meta_file):
        path = directory / name
        if not path.exists():
            continue
        if record is not None and name != wanted.params_file and record.describes(name, path.read_bytes()):
            continue
        raise WorkerError(
            f"{wanted}: {path} is there, but the set is not whole, and this program did not make that file:"
            " nothing was written",
            next_step=f"Complete the set (`{fetch_command(wanted)}` for the published one),"
            f" or move {name} out of {directory} and try again",
        )


def _generate(
    wanted: ParameterSet,
    directory: Path,
    size: int,
    progress: Progress | None,
    cancel: _native.Cancel | None,
) -> None:
    params = temporary_name(directory, wanted.params_file)
    _allocate(params, size)
    try:
        vk, meta = _native.generate_parameters(
            wanted.kind, wanted.sector_size, os.fspath(params), progress, cancel
        )
    except _native.StageError as error:
        raise WorkerError(
            f"{wanted}: {error}", next_step=f"Look at the file system of {directory}"
        ) from error
    with open(params, "rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    small = {wanted.vk_file: vk, wanted.meta_file: meta}
    record = LocalRecord(
        WARNING,
        seed=_native.parameter_seed(),
        program=f"damocles-worker {__version__}",
        files={
            wanted.params_file: FileRecord(params.stat().st_size, digest),
            **{name: record_of(content) for name, content in small.items()},
        },
    )
    # A version with another seed may have left a part of its set.
    _refuse_foreign_files(wanted, directory, record)
    _write_record(wanted, directory, record)
    for name, content in small.items():
        if not (directory / name).exists():
            write_small(directory, name, content)
            publish(directory, name)
    publish(directory, wanted.params_file)


def _write_record(wanted: ParameterSet, directory: Path, record: LocalRecord) -> None:
    """The sidecar alone may replace an older one: it is ours by its name."""
    content = msgspec.json.format(msgspec.json.encode(record), indent=2) + b"\n"
    temporary = write_small(directory, wanted.local_record_file, content)
    temporary.replace(directory / wanted.local_record_file)
    fsync_directory(directory)


def _allocate(path: Path, size: int) -> None:
    """Create the temporary file with its space allocated, so that space can't run out on the way."""
    needed = size + _SMALL_FILES
    if free_bytes(path.parent) < needed:
        raise no_space(f"can't generate {path.name}", mount_point(path.parent), needed=needed)
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
        try:
            os.posix_fallocate(descriptor, 0, size)
        finally:
            os.close(descriptor)
    except OSError as error:
        raise file_error(error, "write", path, needed=needed) from error


def remove_leftovers(wanted: ParameterSet, directory: Path) -> None:
    """Remove the temporary files of a run that did not end; the caller holds the directory's lock."""
    for name in (wanted.params_file, wanted.vk_file, wanted.meta_file, wanted.local_record_file):
        temporary_name(directory, name).unlink(missing_ok=True)
