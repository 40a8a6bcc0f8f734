"""Groth16 parameters: which are needed, whether they are whole, and making those of local networks."""

from damocles_worker.params.generation import (
    WARNING,
    Outcome,
    Steps,
    ensure_local,
    expected_seconds,
    generate,
    seconds_left,
)
from damocles_worker.params.local_record import is_local
from damocles_worker.params.sets import (
    KINDS,
    PLAN_KINDS,
    Kind,
    ParameterSet,
    cache_directory,
    required,
)
from damocles_worker.params.startup import (
    ParameterFinding,
    findings,
    report,
    thread_sizes,
    wanted_places,
)
from damocles_worker.params.status import State, Status, check, fetch_command

__all__ = [
    "KINDS",
    "PLAN_KINDS",
    "WARNING",
    "Kind",
    "Outcome",
    "ParameterFinding",
    "ParameterSet",
    "State",
    "Status",
    "Steps",
    "cache_directory",
    "check",
    "ensure_local",
    "expected_seconds",
    "fetch_command",
    "findings",
    "generate",
    "is_local",
    "report",
    "required",
    "seconds_left",
    "thread_sizes",
    "wanted_places",
]
