"""What is started for one ``[[processors.<stage>]]``: program, arguments, environment, place."""

from __future__ import annotations

import os

from msgspec import Struct, field

from damocles_worker.processors import protocol
from damocles_worker.program import own_command

#: Stages that ``damocles-worker processor <stage>`` serves. For others ``bin`` has to name a program.
OWN_STAGES = (
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
    "winning_post",
    "synth_proof",
)
#: The table of side processes that get no tasks, and the stage name they are started with.
DAEMONS = "sealing_daemons"
DAEMON_STAGE = "EMPTY"

NUMA_VARIABLE = "VENUS_WORKER_NUMA_PREFERRED"
GROUP_VARIABLE = "VC_CG_NAME"
CPUSET_VARIABLE = "VC_CG_CPUSET"
#: How many tasks at once a pc1 child of ours gets, or the daemon itself: what its engine shares its cores out
#: by.
PC1_CONCURRENT = "DAMOCLES_PC1_CONCURRENT"
#: Where an add_pieces child looks for the token of the market.
TOKEN_VARIABLE = "PIECE_FETCHER_TOKEN"
#: Turns links off for a transfer child, as its flag ``--disable-link`` does.
LINK_VARIABLE = "DISABLE_LINK"
#: Where a pc1 child looks for huge-page files: the directory of the nodes', or its pattern, which wins.
HUGE_PAGE_VARIABLES = ("HUGEPAGE_FILES_PATH", "HUGEPAGE_FILES_PATH_PATTERN")


#: The parent of the children's control groups, where no other is configured.
DEFAULT_GROUP = "vc-worker"


class ChildSpec(Struct, frozen=True):
    """One external processor, as configured. Durations in seconds."""

    #: The table's name, ``pc1`` or ``sealing_daemons``.
    table: str
    #: Position in the list of the table.
    index: int
    #: None: this program.
    bin: str | None = None
    #: None: ``processor <stage>``.
    args: tuple[str, ...] | None = None
    #: Longest wait for the ready line, at every start.
    stable_wait: float = 5.0
    #: Kernel cpu list as written, and the cpus it names; None: no binding.
    cpuset: str | None = None
    cpus: frozenset[int] | None = None
    group_name: str = DEFAULT_GROUP
    envs: dict[str, str] = field(default_factory=dict)
    inherit_envs: bool = True
    #: Node to take memory from; negative: that of the cpu a thread runs on.
    numa_preferred: int | None = None
    #: Tasks at once; None: no limit.
    concurrent: int | None = None
    locks: tuple[str, ...] = ()
    auto_restart: bool = True
    #: Longest wait for an answer; None: for ever.
    answer_timeout: float | None = None

    @property
    def stage(self) -> str:
        """The stage name in arguments, ready line and group name."""
        return DAEMON_STAGE if self.table == DAEMONS else self.table

    @property
    def path(self) -> str:
        """Where the configuration has it, ``processors.pc1[0]``."""
        return f"processors.{self.table}[{self.index}]"

    @property
    def program(self) -> str:
        """What is started, for messages."""
        return self.bin or "damocles-worker"

    @property
    def is_ours(self) -> bool:
        """Whether the child is this program, which understands the control channel."""
        return self.bin is None

    def command(self) -> list[str]:
        """The argument vector. A ``bin`` without ``args`` is called as our own child is."""
        arguments = list(self.args) if self.args is not None else ["processor", self.stage]
        return [*(own_command() if self.bin is None else [self.bin]), *arguments]

    def group(self, daemon: int) -> str:
        """The control group's name below its mount point, for a daemon with the process id ``daemon``."""
        return f"{self.group_name}/sub-{self.stage}-{daemon}-{self.index}"

    def environment(self, group: str | None, control: int | None) -> dict[str, str]:
        """The child's environment.

        The daemon's own of this moment (so that changes by ``worker set-env`` reach a restarted child),
        then what the worker adds, then ``envs``. ``group`` None leaves the group variables out;
        ``control`` is the number of the control socket in the child.
        """
        environment = dict(os.environ) if self.inherit_envs else {}
        environment.pop(protocol.CONTROL_FD, None)
        if self.table != "pc1":
            environment.pop(PC1_CONCURRENT, None)
        if self.numa_preferred is not None:
            environment[NUMA_VARIABLE] = str(self.numa_preferred)
        if self.cpuset is not None and group is not None:
            environment[GROUP_VARIABLE] = group
            environment[CPUSET_VARIABLE] = self.cpuset
        if self.is_ours and self.table == "pc1" and self.concurrent is not None:
            environment[PC1_CONCURRENT] = str(self.concurrent)
        environment.update(self.envs)
        if control is not None:
            environment[protocol.CONTROL_FD] = str(control)
        return environment
