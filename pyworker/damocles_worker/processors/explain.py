"""From the text of a failed stage to an error that says what to do.

The proofs libraries report most troubles of the machine (no parameter file, no space) as text only.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable
from pathlib import PurePath

from damocles_worker.errors import Level, WorkerError

log = logging.getLogger(__name__)

#: Longest part of a library's message that goes into a cause; the whole of a longer one is logged.
_LONGEST = 400

#: How the engine of PC2 begins the error of a layer.
_DAMAGED_LAYER = re.compile(r"failed: label layer \d+ ")

_Explain = Callable[[str, "re.Match[str]"], WorkerError]


def explain(processor: str, text: str) -> WorkerError:
    """The error for a stage that ``processor`` (``builtin PC1``) failed with ``text``: permanent.

    ``waits_for`` is set where the cause can clear by itself. A text that isn't known is passed on,
    on one line.
    """
    line = " ".join(text.split())
    whole = len(line) <= _LONGEST
    if not whole:
        log.error("%s failed: %s", processor, line)
    cause = f"{processor} failed: {line if whole else f'{line[:_LONGEST]} …'}"
    for pattern, known in _KNOWN:
        match = pattern.search(text)
        if match:
            return known(cause, match)
    return WorkerError(
        cause,
        level=Level.PERMANENT,
        next_step=("Mend the cause" if whole else "The log has the whole message")
        + "; `damocles-worker worker resume` tries again",
    )


def names_damaged_layer(error: WorkerError) -> bool:
    """Whether PC2 was refused because of a label layer: missing, short, or not what PC1 wrote."""
    return _DAMAGED_LAYER.search(error.cause) is not None


def _missing_parameters(cause: str, match: re.Match[str]) -> WorkerError:
    name = PurePath(match["path"]).name
    return WorkerError(
        cause,
        next_step=f"Put {name} into {PurePath(match['path']).parent} (FIL_PROOFS_PARAMETER_CACHE) or run"
        " `damocles-worker params check`; the task goes on by itself",
        waits_for=f"parameter file {name}",
    )


def _invalid_parameters(cause: str, match: re.Match[str]) -> WorkerError:
    name = PurePath(match["path"]).name
    return WorkerError(
        cause,
        next_step=f"Remove {match['path']} and fetch it again: it is not the published file (digest differs)",
        waits_for=f"parameter file {name}",
    )


def _damaged_parameters(cause: str, match: re.Match[str]) -> WorkerError:
    name = PurePath(match["path"]).name
    return WorkerError(
        cause,
        next_step=f"Run `damocles-worker params check`, replace {match['path']}; the task goes on by itself",
        waits_for=f"parameter file {name}",
    )


def _other_parameters(cause: str, match: re.Match[str]) -> WorkerError:
    # Not waited for: that takes the whole synthesis to find out.
    return WorkerError(
        cause,
        next_step=f"Run `damocles-worker params check`, replace {match['path']} (it belongs to another"
        " proof), then resume",
    )


def _no_space(cause: str, _match: re.Match[str]) -> WorkerError:
    return WorkerError(
        cause,
        next_step="Free space on the file system of the sealing store (and of FIL_PROOFS_PARENT_CACHE);"
        " the task goes on by itself",
        waits_for="space on the file system of the sealing store",
    )


def _small_budget(cause: str, _match: re.Match[str]) -> WorkerError:
    return WorkerError(
        cause,
        next_step="Free memory, run fewer stages at once (limitation.concurrent), or raise"
        " DAMOCLES_C2_MEMORY if that much can be had all the same; the task goes on by itself",
        waits_for="memory for the proof",
    )


def _advice(next_step: str) -> _Explain:
    def known(cause: str, _match: re.Match[str]) -> WorkerError:
        return WorkerError(cause, next_step=next_step)

    return known


_KNOWN: list[tuple[re.Pattern[str], _Explain]] = [
    (re.compile(r"No cached (?:parameters|verifying key) found for .*\[failure finding (?P<path>[^\]]+)\]"),
     _missing_parameters),
    (re.compile(r"[Ii]nvalid parameters file: (?P<path>\S+)"), _invalid_parameters),
    (re.compile(r"os error (?:28|122)\b|No space left on device|Disk quota exceeded"), _no_space),
    (re.compile(r"os error 30\b"),
     _advice("Remount the file system of the sealing store read-write (see dmesg), then resume")),
    (re.compile(r"os error 5\b"),
     _advice("A disk reports input/output errors: look at dmesg, then resume")),
    (re.compile(r"os error (?:1|13)\b"),
     _advice("This user may not use that file: look at its owner, its mode and the options of its mount,"
             " then resume")),
    (re.compile(r"os error (?:107|110|112|113|116)\b"),
     _advice("The file server does not answer as it should: look at the mount and at dmesg, then resume")),
    (re.compile(r"os error 24\b"),
     _advice("Raise the limit of open files (LimitNOFILE= in the systemd unit, or ulimit -n)")),
    (re.compile(r"os error 12\b|memory allocation of \d+ bytes failed"),
     _advice("Not enough memory: run fewer stages at once (limitation.concurrent), then resume")),
    (re.compile(r"needs [\d.]+ GiB of memory, but may take"), _small_budget),
    (re.compile(r"\bparameters (?P<path>/.+?\.params): "), _damaged_parameters),
    (re.compile(r"(?P<path>/[^:]+\.params) are parameters of another circuit"), _other_parameters),
    (re.compile(r"memory map must have a non-zero length|failed to fill whole buffer|unexpected end of file"),
     _advice("A file is empty or cut short, mostly a parameter or parents cache file: run"
             " `damocles-worker params check`, remove the damaged file, then resume")),
    (re.compile(r"decodes to no padded data"),
     _advice("Another try alone won't help: compare the sector's ticket and proof type in"
             " `damocles-manager util sealer sectors state` with those it was sealed with; if they are right,"
             " its replica is damaged: rebuild the sector. `resume --state Aborted` gives this task up")),
    (re.compile(r"vanilla proofs of .* don't hold"),
     _advice("Another try alone won't help: resume with an earlier --state to encode the update again; if"
             " that fails too, the old replica is not the one the manager speaks of: rebuild the sector")),
    (re.compile(r"two proofs in a row don't hold"),
     _advice("Run `damocles-worker params check`, test the memory, restart the worker and resume; if that"
             " fails too, restart it with the other engine (DAMOCLES_C2_ENGINE=crate, or unset), or prove on"
             " another host")),
    (re.compile(r"tree_d /.*(?:root over its leaves|its root) is .* expected comm_d"),
     _advice("Make a damaged static_tree_d again (`damocles-worker generator tree-d`); then resume with"
             " `--state PieceAdded` (`SnapPieceAdded` where the rebuild of an upgraded sector encodes), which"
             " builds or links tree_d anew")),
    (re.compile(r"previously been poisoned|PoisonError"),
     _advice("An earlier panic (see the log) left the library of this process unusable: restart the worker")),
]  # fmt: skip
