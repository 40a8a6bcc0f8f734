"""What the libraries print, and where; and what they need from the environment."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import msgspec

from damocles_worker.processors.tasks import VerifySealTask

from .sector import PROOF, SEED, TICKET, Sector

#: Compressed generators of the curve's groups: points of a proof that is well formed and false.
G1 = bytes.fromhex(
    "97f1d3a73197d7942695638c4fa9ac0fc3688c4f9774b905a14e3a3f171bac586c55e83ff97a1aeffb3af00adb22c6bb"
)
G2 = bytes.fromhex(
    "93e02b6052719f607dacd3a088274f65596bd0d09920b61ab5da61bbdc7f5049334cf11213945d57e5ac7d055d042b7e"
    "024aa2b2f08f0a91260805272dc51051c6e47ad4fa403b02b4510b647ae3d1770bac0326a805bbefd48056c8c121bdb8"
)

RUN = """
import sys
from damocles_worker import _native
try:
    print(getattr(_native, sys.argv[1])(sys.stdin.buffer.read()))
except _native.StageError as failure:
    sys.exit(f"StageError: {failure}")
"""


def run_stage(stage: str, task: bytes, **environment: str) -> subprocess.CompletedProcess[bytes]:
    inherited = {name: value for name, value in os.environ.items() if name != "RUST_LOG"}
    return subprocess.run(
        [sys.executable, "-c", RUN, stage],
        input=task,
        env=inherited | environment,
        capture_output=True,
        check=False,
    )


def test_the_libraries_print_nothing_past_the_log(tmp_path: Path) -> None:
    task = Sector(tmp_path)
    labelling = task.pc1_task(task.stage_zeros())

    for asked in ({}, {"RUST_LOG": "info"}):
        run = run_stage("pc1", labelling, DAMOCLES_PC1_ENGINE="crate", **asked)
        assert run.stderr == b""
        assert run.stdout.startswith(b"b'{")


def test_a_proof_can_not_be_judged_without_the_verifying_key(tmp_path: Path) -> None:
    task = VerifySealTask(
        registered_proof=PROOF,
        comm_r=[1] * 32,
        comm_d=[2] * 32,
        prover_id=[0] * 32,
        sector_id=1,
        ticket=TICKET,
        seed=SEED,
        proof=list(G1 + G2 + G1),
    )
    run = run_stage("verify_seal", msgspec.json.encode(task), FIL_PROOFS_PARAMETER_CACHE=str(tmp_path))
    assert run.returncode == 1
    assert run.stderr.startswith(b"StageError: ")
    assert run.stdout == b""
