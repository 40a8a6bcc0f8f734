"""What the devnet asks of the proofs library, so that tests can put something else in its place.

The extension module satisfies this as it is.
"""

from __future__ import annotations

from typing import Protocol


class Proofs(Protocol):
    def piece_commitment(self, path: str, payload_size: int, piece_size_unpadded: int) -> bytes:
        """Commitment (32 bytes) of a file's first ``payload_size`` bytes, zero-filled."""

    def data_commitment(self, sector_size: int, pieces: list[tuple[bytes, int]]) -> bytes:
        """comm_d (32 bytes) of a sector from (commitment, unpadded bytes) of its pieces in order."""

    def verify_seal(self, task: bytes) -> bool:
        """Whether a seal proof holds; ``task`` is a ``VerifySealTask`` as JSON.

        ``StageError`` when that can't be decided (no verifying key).
        """

    def verify_snap(self, task: bytes) -> bool:
        """Whether the proof of a replica update holds; ``task`` is a ``VerifySnapTask`` as JSON."""

    def window_post(self, task: bytes) -> bytes:
        """The faults among replicas, or their proof: a ``WindowPoStOutput`` of a ``WindowPoStTask``, as JSON.

        ``StageError`` when that can't be decided (too many open files, say).
        """

    def verify_window_post(self, task: bytes) -> bool:
        """Whether a window proof holds; ``task`` is a ``VerifyPoStTask`` as JSON."""
