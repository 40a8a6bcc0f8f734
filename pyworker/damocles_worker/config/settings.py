"""The typed configuration: what the rest of the program sees.

Durations are seconds (float), sizes bytes, paths the text as written (relative ones are relative to
the daemon's working directory). A field's default is the value of a key that is not in the file.
"""

from __future__ import annotations

from msgspec import Struct, field

#: Plans a sealing thread can run.
PLANS = ("sealer", "snapup", "rebuild", "unseal", "wdpost")
#: Those at whose end files are brought into an attached store.
STORING_PLANS = ("sealer", "snapup", "rebuild")

#: Stages that can have external processors, ``[[processors.STAGE]]``, in the order they are started.
PROCESSOR_STAGES = (
    "add_pieces",
    "tree_d",
    "pc1",
    "pc2",
    "c2",
    "snap_encode",
    "snap_prove",
    "transfer",
    "unseal",
    "window_post",
    "synth_proof",
    "sealing_daemons",
)

#: Stages whose number of tasks and pace can be limited, ``[processors.limitation.*]``.
LIMIT_STAGES = (
    "add_pieces",
    "tree_d",
    "pc1",
    "pc2",
    "synth_proof",
    "c1",
    "c2",
    "snap_encode",
    "snap_prove",
    "unseal",
    "window_post",
    "transfer",
)

#: A chain epoch in seconds.
EPOCH_SECONDS = 30.0


class Sealing(Struct, frozen=True):
    """Policy of one sealing thread: built-in default < ``[sealing]`` < thread < hot file."""

    #: Actor ids; None or empty: any.
    allowed_miners: tuple[int, ...] | None = None
    #: Sector sizes in bytes; None or empty: any.
    allowed_sizes: tuple[int, ...] | None = None
    enable_deals: bool = False
    disable_cc: bool = False
    max_deals: int | None = None
    #: Bytes.
    min_deal_space: int | None = None
    max_retries: int = 5
    seal_interval: float = 30.0
    recover_interval: float = 30.0
    rpc_polling_interval: float = 180.0
    ignore_proof_check: bool = False
    request_task_max_retries: int = 3
    verify_after_pc2: bool = False
    #: Read persisted files back from the medium and compare their checksums.
    verify_persist: bool = False
    #: A ticket older than this is asked for anew before PC1 or PC2 (mainnet: 2880 epochs).
    ticket_max_age: float = 2880 * EPOCH_SECONDS


class Thread(Struct, frozen=True):
    """One ``[[sealing_thread]]``; ``index`` is its position in the file, from 0."""

    index: int
    location: str | None = None
    plan: str = "sealer"
    sealing: Sealing = Sealing()


class Attached(Struct, frozen=True):
    """A persistent store; ``name`` is the absolute path of ``location`` if none is given."""

    name: str
    location: str
    readonly: bool = False
    #: Where the file has it, ``attached[0]``; empty for a store that was found by scanning.
    path: str = ""


class Worker(Struct, frozen=True):
    """``[worker]``: this instance. ``name`` None: the local IP address that reaches the manager."""

    name: str | None = None
    rpc_host: str = "0.0.0.0"
    rpc_port: int = 17890
    ping_interval: float = 30.0
    local_pieces_dirs: tuple[str, ...] = ()
    #: Glob patterns of directories that hold a ``sectorstore.json``.
    scan_persist_stores: tuple[str, ...] = ()


class Metrics(Struct, frozen=True):
    """``[metrics]``: the Prometheus exporter; ``http_listen`` is ``IP:port``."""

    enable: bool = False
    http_listen: str = "0.0.0.0:9000"


class Manager(Struct, frozen=True):
    """``[sector_manager]``: ``addr`` as written (multiaddr or URL)."""

    addr: str = ""
    headers: dict[str, str] = field(default_factory=dict)
    piece_token: str | None = None


class Processor(Struct, frozen=True):
    """One ``[[processors.STAGE]]``: an external processor. ``bin`` None: this executable."""

    bin: str | None = None
    #: None: ``processor STAGE``.
    args: tuple[str, ...] | None = None
    stable_wait: float = 5.0
    #: Kernel cpu list as written, ``0-3,8``.
    cpuset: str | None = None
    cgroup_group_name: str = "vc-worker"
    envs: dict[str, str] = field(default_factory=dict)
    inherit_envs: bool = True
    numa_preferred: int | None = None
    #: Tasks at once; None: no limit.
    concurrent: int | None = None
    #: Names of ``ext_locks``.
    locks: tuple[str, ...] = ()
    auto_restart: bool = True
    #: Longest wait for an answer in seconds; None: for ever.
    answer_timeout: float | None = None


class Processors(Struct, frozen=True):
    """``[processors]``: limits by stage, locks, pre-built trees by sector size, external processors."""

    concurrent: dict[str, int] = field(default_factory=dict)
    #: Seconds between two starts of a stage.
    staggered: dict[str, float] = field(default_factory=dict)
    ext_locks: dict[str, int] = field(default_factory=dict)
    #: Sector size in bytes to the path of a tree_d of all-zero data.
    static_tree_d: dict[int, str] = field(default_factory=dict)
    stages: dict[str, tuple[Processor, ...]] = field(default_factory=dict)


class Settings(Struct, frozen=True):
    """A whole configuration file. ``positions``: line and column of every value by its path."""

    worker: Worker = Worker()
    metrics: Metrics = Metrics()
    manager: Manager = Manager()
    sealing: Sealing = Sealing()
    threads: tuple[Thread, ...] = ()
    attached: tuple[Attached, ...] = ()
    processors: Processors = Processors()
    path: str = ""
    positions: dict[str, tuple[int, int]] = field(default_factory=dict)
