"""A devnet in this process, with proofs that are made up, and a clock that stands until it is set."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from damocles_worker.devnet.chain import Chain
from damocles_worker.devnet.faults import Rule
from damocles_worker.devnet.options import Options
from damocles_worker.devnet.server import Devnet
from damocles_worker.manager.address import parse_address
from damocles_worker.manager.client import ManagerClient

GOOD_PROOF = b"good proof".ljust(192, b"\0")


class MadeUpProofs:
    """Commitments are hashes of what they commit to; exactly ``GOOD_PROOF`` verifies."""

    def __init__(self) -> None:
        #: Tasks of ``verify_seal`` so far.
        self.verified: list[dict[str, Any]] = []

    def piece_commitment(self, path: str, payload_size: int, piece_size_unpadded: int) -> bytes:
        with open(path, "rb") as file:
            payload = file.read()
        assert len(payload) == payload_size <= piece_size_unpadded
        return hashlib.sha256(payload).digest()

    def data_commitment(self, sector_size: int, pieces: list[tuple[bytes, int]]) -> bytes:
        assert sum(size for _commitment, size in pieces) == sector_size * 127 // 128
        return hashlib.sha256(b"".join(commitment for commitment, _size in pieces)).digest()

    def verify_seal(self, task: bytes) -> bool:
        self.verified.append(json.loads(task))
        return bytes(self.verified[-1]["proof"]) == GOOD_PROOF

    def verify_snap(self, task: bytes) -> bool:
        return bytes(json.loads(task)["proof"]) == GOOD_PROOF

    def window_post(self, task: bytes) -> bytes:
        """Replicas are good unless they are missing or begin with ``garbage``."""
        faults = [
            replica["sector_id"]
            for replica in json.loads(task)["replicas"]
            if not Path(replica["sealed_file"]).is_file()
            or Path(replica["sealed_file"]).read_bytes().startswith(b"garbage")
        ]
        return json.dumps({"proofs": [], "faults": faults}).encode()

    def verify_window_post(self, task: bytes) -> bool:
        proofs: list[str] = json.loads(task)["proofs"]
        return proofs == [base64.b64encode(GOOD_PROOF).decode()]


class Clock:
    """Seconds that pass when told to."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class Stage:
    """A running devnet, a client of it, and what it stands on."""

    def __init__(self, devnet: Devnet, url: str, clock: Clock, proofs: MadeUpProofs, said: list[str]) -> None:
        self.devnet = devnet
        self.url = url
        self.client = ManagerClient(parse_address(url), timeout=10.0)
        self.clock = clock
        self.proofs = proofs
        #: Lines of events.
        self.said = said


@asynccontextmanager
async def running(
    options: Options | None = None, rules: list[Rule] | None = None, proofs: MadeUpProofs | None = None
) -> AsyncIterator[Stage]:
    """A devnet with one epoch a second."""
    options, proofs = options or Options(), proofs or MadeUpProofs()
    clock, said = Clock(), list[str]()
    chain = Chain(options.seed, 1.0, clock)
    devnet = Devnet(options, faults=rules, say=said.append, proofs=proofs, chain=chain)
    stage = Stage(devnet, await devnet.start(), clock, proofs, said)
    try:
        yield stage
    finally:
        await stage.client.close()
        await devnet.stop()
