"""What the operator asks for."""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

from damocles_worker.sectors import SECTOR_SIZES

#: Sectors without deals, sectors with deals, upgrades of sealed sectors.
Goal = Literal["cc", "deals", "snapup"]
GOALS: tuple[Goal, ...] = ("cc", "deals", "snapup")


class Wishes(Struct, frozen=True):
    """The options of ``config suggest``."""

    goal: Goal = "cc"
    #: Bytes.
    sector_size: int = SECTOR_SIZES["32GiB"]
    #: Multiaddr or URL.
    manager: str = "/ip4/127.0.0.1/tcp/1789"
    #: Directories to make sealing stores in; none: file systems of SSDs are looked for.
    sealing: tuple[str, ...] = ()
    #: Persistent store; None: a network or hard disk file system is looked for.
    attached: str | None = None
    #: A program with GPU code for PC2 and C2 (or the stages of an upgrade).
    gpu_program: str | None = None
    #: Whether those stages are to run on GPUs: by that program, or by a build of this one that can.
    on_gpus: bool = False

    @property
    def plan(self) -> str:
        """The plan of the sealing threads."""
        return "snapup" if self.goal == "snapup" else "sealer"
