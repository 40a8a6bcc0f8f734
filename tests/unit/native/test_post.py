"""Proofs of spacetime through the extension: faults and requests. No proof is computed."""

from __future__ import annotations

import time
from pathlib import Path

import msgspec
import pytest

from damocles_worker import _native
from damocles_worker._native import StageError
from damocles_worker.logs import engine
from damocles_worker.processors.tasks import (
    PoStReplica,
    PoStSector,
    VerifyPoStTask,
    WindowPoStOutput,
    WindowPoStTask,
)

from .upgrade import Upgrade

WINDOW = "StackedDrgWindow2KiBV1_2"
WINNING = "StackedDrgWinning2KiBV1"
SEED = [6] * 32
#: The rank of a warning in the log of the crates.
WARNING = 2


def post_task(proof_type: str, *replicas: PoStReplica) -> bytes:
    return msgspec.json.encode(WindowPoStTask(10000, proof_type, list(replicas), SEED))


def test_faults_are_listed_and_explained_in_the_log(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    engine.forward([{"proofs": WARNING}])
    good = Upgrade(tmp_path).replica(3)
    missing = PoStReplica(9, good.comm_r, good.cache_dir, str(tmp_path / "gone"))
    mistaken = PoStReplica(5, [1, *good.comm_r[1:]], good.cache_dir, good.sealed_file)
    output = _native.window_post(post_task(WINDOW, missing, mistaken, good))
    assert output == b'{"proofs":[],"faults":[5,9]}'
    assert msgspec.json.decode(output, type=WindowPoStOutput) == WindowPoStOutput([], [5, 9])
    assert capfd.readouterr().out == ""
    deadline = time.monotonic() + 10
    while len(said := [line.getMessage() for line in caplog.records if line.name == "proofs.post"]) < 2:
        assert time.monotonic() < deadline, caplog.text
        engine.flush()
        time.sleep(0.01)
    first, second = said
    assert first.startswith(
        f"window PoSt: sector 5 ({good.sealed_file}) is a fault: {good.cache_dir}/p_aux: is that of comm_r "
    )
    assert second == (
        f"window PoSt: sector 9 ({tmp_path}/gone) is a fault: sealed file {tmp_path}/gone: "
        "No such file or directory (os error 2)"
    )


def test_a_winning_post_names_the_replica_it_can_not_prove(tmp_path: Path) -> None:
    good = Upgrade(tmp_path).replica(3)
    with open(good.sealed_file, "r+b") as sealed:
        sealed.truncate(100)
    with pytest.raises(StageError) as failure:
        _native.winning_post(post_task(WINNING, good))
    assert str(failure.value) == (f"sector 3: sealed file {good.sealed_file}: 100 bytes found, 2048 expected")


def test_a_request_without_replicas_or_of_another_kind_is_refused() -> None:
    with pytest.raises(StageError, match="replicas: none found, expected one or more"):
        _native.window_post(post_task(WINDOW))
    with pytest.raises(StageError, match="proof_type StackedDrgWindow2KiBV1_2: expected one of Winning PoSt"):
        _native.winning_post(post_task(WINDOW))


def test_bytes_that_are_no_proof_do_not_verify() -> None:
    def task(proof_type: str, proofs: list[bytes]) -> bytes:
        sectors = [PoStSector(1, [1] * 32)]
        return msgspec.json.encode(VerifyPoStTask(10000, proof_type, sectors, SEED, proofs))

    for proofs in ([], [b""], [bytes(192)], [bytes(192), bytes(192)]):
        assert _native.verify_window_post(task(WINDOW, proofs)) is False
        assert _native.verify_winning_post(task(WINNING, proofs)) is False
    with pytest.raises(StageError, match=r"verify_window_post task: proofs\[0\]: "):
        _native.verify_window_post(task(WINDOW, [bytes(192)]).replace(b'"AAAA', b'"%AAA'))
