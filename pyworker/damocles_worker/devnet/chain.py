"""The devnet's chain: a clock of epochs, and randomness that depends on the seed only."""

from __future__ import annotations

import base64
import hashlib
import math
import time
from collections.abc import Callable

from damocles_worker.manager.types import SectorID

#: Tickets are taken so many epochs back, as on every network.
TICKET_LOOKBACK = 900
#: Epoch at start, high enough for the lookback.
FIRST_EPOCH = 1000


class Chain:
    """``clock`` gives seconds and never goes back."""

    def __init__(self, seed: str, epoch_seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._seed = seed
        self._epoch_seconds = epoch_seconds
        self._clock = clock
        self._started = clock()

    def head(self) -> int:
        """The present epoch."""
        return FIRST_EPOCH + int((self._clock() - self._started) / self._epoch_seconds)

    def seconds_until(self, epoch: int) -> int:
        """Whole seconds, rounded up, until ``epoch`` begins; 0 if it has."""
        begins = self._started + (epoch - FIRST_EPOCH) * self._epoch_seconds
        return max(0, math.ceil(begins - self._clock()))

    def randomness(self, purpose: str, sector: SectorID) -> str:
        """32 bytes as base64 for a sector's ``ticket`` or ``seed``.

        The epoch has no part in it, unlike on a real chain: a sector sealed again after an interruption
        gets the same commitments.
        """
        digest = hashlib.sha256(f"devnet {self._seed} {purpose} {sector}".encode()).digest()
        return base64.b64encode(digest).decode()
