"""What a devnet is started with."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path

from msgspec import Struct


class Deals(StrEnum):
    """Which sectors get deals when they ask for some."""

    EVERY = "every"
    NONE = "none"
    #: Sectors with an even number.
    ALTERNATE = "alternate"

    def wanted(self, sector_number: int) -> bool:
        if self is Deals.ALTERNATE:
            return sector_number % 2 == 0
        return self is Deals.EVERY


class Options(Struct, frozen=True, kw_only=True):
    """Everything that makes one devnet differ from another."""

    host: str = "127.0.0.1"
    #: 0: a free one.
    port: int = 0
    miner: int = 10000
    #: Padded bytes.
    sector_size: int = 2048
    #: Hand out sectors of the synthetic proof type instead of V1_1.
    synthetic: bool = False
    #: So many sectors are handed out, then none; None: no end.
    sectors: int | None = None
    deals: Deals = Deals.ALTERNATE
    #: Tickets, seeds and piece data follow from it: same seed, same commitments.
    seed: str = "devnet"
    epoch_seconds: float = 1.0
    #: Epochs between the landing of a pre-commit and its seed.
    seed_delay: int = 3
    #: A message is pending for so many polls before it lands.
    pending_polls: int = 1
    #: Epochs, counted as the manager does: from 900 epochs after the ticket's own.
    ticket_max_age: int = 2880
    #: Persist stores by name, with the directory where it is known; empty: any name is a store.
    stores: dict[str, Path | None] = {}
    #: Asked for as a bearer token where pieces are redirected to.
    piece_token: str | None = None
    #: Answer piece requests with a redirect, as a manager without the piece does.
    piece_redirect: bool = False
    #: Hand out WindowPoSt jobs, as a manager with ``--worker-prover``.
    worker_prover: bool = False
    #: Seconds without a heartbeat after which a WindowPoSt job is taken back.
    heartbeat_timeout: float = 15.0
    #: Where piece data lies; None: a temporary directory, removed at the end.
    data_dir: Path | None = None
