"""How long the running stage will still take."""

from __future__ import annotations

from damocles_worker import sectors
from damocles_worker.sealing.machine.events import RunStage
from damocles_worker.sealing.records import DurationKey


def duration_key(running: RunStage, processor: str | None) -> DurationKey:
    """Under which the durations of a stage are kept."""
    task = running.task
    proof = sectors.proof_name(task.sector.proof_type) if task.sector else ""
    proof = task.job.input.proof_type if task.job else proof
    # A child's name holds its pid, which is another one after every restart.
    return running.stage, proof, "ext" if (processor or "").startswith("ext") else processor or ""


def seconds_left(elapsed: float, expected: float | None, progress: tuple[int, int] | None) -> float | None:
    """Earlier runs of the stage tell best; one that takes longer is judged by its progress."""
    if expected is not None and elapsed < expected:
        return expected - elapsed
    done, total = progress or (0, 0)
    return elapsed * (total - done) / done if done else None
