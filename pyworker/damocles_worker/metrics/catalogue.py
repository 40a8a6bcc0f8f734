"""Every series of this worker: name, type, labels and meaning. Code and reference are built from it."""

from __future__ import annotations

from msgspec import Struct

PREFIX = "damocles_worker_"

#: On every series, before its own labels.
COMMON_LABELS = ("worker_name", "worker_ip")


class Series(Struct, frozen=True):
    """A metric family; a counter of ours is exposed with ``_total`` behind its name."""

    name: str
    kind: str
    labels: tuple[str, ...]
    help: str

    @property
    def exposed(self) -> str:
        """The name as Prometheus sees it (of a histogram: without ``_bucket``, ``_sum``, ``_count``)."""
        return f"{self.name}_total" if self.kind == "counter" and self.name.startswith(PREFIX) else self.name


def _ours(name: str, kind: str, labels: str, help: str) -> Series:  # noqa: A002
    return Series(PREFIX + name, kind, tuple(labels.split()), help)


# ---- the Rust worker's, to the letter -----------------------------------------------------------

RPC_CALL = Series("rpc_call", "counter", ("method",), "Calls to the manager.")
RPC_ERROR = Series("rpc_error", "counter", ("method",), "Calls to the manager that failed, for any reason.")
RPC_TIMING = Series(
    "rpc_timing",
    "summary",
    ("method", "quantile"),
    "Seconds a call took: quantiles over the last 60 s (0 without a call), sum and count since the start.",
)

TASK_THREADS_PAUSE = Series(
    "task_threads_pause", "gauge", (), "Sealing threads that are paused. The Rust worker never sets it."
)

# ---- counted as it happens ----------------------------------------------------------------------

STAGE_DURATION = _ours(
    "stage_duration_seconds",
    "histogram",
    "stage processor",
    "Time a stage took in its processor, failed runs included.",
)
STAGE_WAIT = _ours(
    "stage_wait_seconds", "histogram", "stage", "Time a sector waited for a place in the limit of a stage."
)
STAGE_FAILURES = _ours(
    "stage_failures", "counter", "stage level", "Failed runs of a stage by the level of the failure."
)
SECTORS = _ours(
    "sectors",
    "counter",
    "plan result",
    "Jobs that ended: finished, aborted, or dropped by the manager. Sectors are those of the plans sealer,"
    " snapup and rebuild; unseal and wdpost have pieces and partitions.",
)

# ---- read at every scrape -----------------------------------------------------------------------

BUILD_INFO = _ours("build_info", "gauge", "version profile cpu_features", "Always 1; says what runs where.")
MANAGER_UP = _ours("manager_up", "gauge", "", "1 if the latest call to the manager got an answer.")
MANAGER_LAST_OK = _ours(
    "manager_last_ok_timestamp_seconds", "gauge", "", "Unix time of the latest call that brought a result."
)
THREADS = _ours(
    "threads", "gauge", "state", "Sealing threads by state: Idle, Running, Waiting (for a limit), Paused."
)
STAGE_THREADS = _ours("stage_threads", "gauge", "stage state", "Sealing threads by stage and state.")
THREAD_STATE_SECONDS = _ours(
    "thread_state_seconds",
    "gauge",
    "thread location state",
    "How long a sealing thread has been doing what it does.",
)
THREAD_ERROR = _ours(
    "thread_error", "gauge", "thread location", "1 if `worker list` shows an error for the thread."
)
STAGE_PROGRESS = _ours(
    "stage_progress_ratio",
    "gauge",
    "thread stage",
    "How far the running stage is, 0 to 1; absent where the stage can't tell.",
)
JOB_INFO = _ours(
    "job_info",
    "gauge",
    "thread plan job_id state stage processor",
    "Always 1 while a thread has a job; the only series that names sectors, gone when the job ends.",
)
STORE_UP = _ours("store_up", "gauge", "store role", "1 if a store is there and its file system answers.")
STORE_BYTES = _ours(
    "store_bytes",
    "gauge",
    "store role kind",
    "Of the file system of a store: size, free (for this user, promised space included), and reserved"
    " (of the free, promised to sectors under way).",
)
PROCESSOR_UP = _ours("processor_up", "gauge", "processor stage", "1 if an external processor takes tasks.")
PROCESSOR_TASKS = _ours(
    "processor_tasks", "gauge", "processor stage", "Tasks that an external processor works on."
)
PROCESSOR_SILENT = _ours(
    "processor_silent_seconds",
    "gauge",
    "processor stage",
    "How long an external processor has said nothing while a task waits; it is never ended for that.",
)
PROCESSOR_PROBLEMS = _ours(
    "processor_problems",
    "gauge",
    "processor stage",
    "Settings of an external processor that are not in force: cpuset, memory node.",
)
PROCESSOR_RESTARTS = _ours(
    "processor_restarts", "counter", "processor stage", "How often an external processor was started again."
)

UPSTREAM = (RPC_CALL, RPC_ERROR, RPC_TIMING, TASK_THREADS_PAUSE)
COUNTED = (STAGE_DURATION, STAGE_WAIT, STAGE_FAILURES, SECTORS)
READ = (
    BUILD_INFO,
    MANAGER_UP,
    MANAGER_LAST_OK,
    THREADS,
    STAGE_THREADS,
    THREAD_STATE_SECONDS,
    THREAD_ERROR,
    STAGE_PROGRESS,
    JOB_INFO,
    STORE_UP,
    STORE_BYTES,
    PROCESSOR_UP,
    PROCESSOR_TASKS,
    PROCESSOR_SILENT,
    PROCESSOR_PROBLEMS,
    PROCESSOR_RESTARTS,
)
