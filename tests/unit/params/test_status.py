"""What a check says of files that are whole, missing, cut, damaged or somebody else's."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

import pytest
from msgspec.structs import replace

from damocles_worker.params import ParameterSet, State, check, is_local
from damocles_worker.params import status as status_module
from damocles_worker.params.digests import file_digest
from damocles_worker.sectors import SECTOR_SIZES
from tests.unit.params.conftest import WINDOW


def test_a_generated_set_is_local(whole: Path) -> None:
    quick = check(WINDOW, whole)
    assert (quick.state, quick.digest_compared) == (State.LOCAL, False)
    full = check(WINDOW, whole, read_all=True)
    assert (full.state, full.digest_compared) == (State.LOCAL, True)
    assert check(WINDOW, whole).digest_compared
    assert is_local(WINDOW, whole)


def test_missing_files_are_named_with_the_command(tmp_path: Path) -> None:
    found = check(WINDOW, tmp_path)
    assert found.state is State.MISSING
    assert WINDOW.params_file in found.text and WINDOW.vk_file in found.text and str(tmp_path) in found.text
    assert "damocles-worker params generate --size 2KiB --plan wdpost" in found.next_step
    assert not is_local(WINDOW, tmp_path)


def test_a_missing_key_alone_is_named(whole: Path) -> None:
    (whole / WINDOW.vk_file).unlink()
    found = check(WINDOW, whole)
    assert found.state is State.MISSING
    assert WINDOW.vk_file in found.text and WINDOW.params_file not in found.text


def test_a_large_size_is_never_offered_a_local_set(tmp_path: Path) -> None:
    found = check(ParameterSet(SECTOR_SIZES["32GiB"], "porep"), tmp_path)
    assert "params generate" not in found.next_step
    assert "fetch-params 32GiB" in found.next_step


@pytest.mark.parametrize("length", [0, 100, 3075, 3078, 1_000_000, 11_501_495])
def test_a_truncated_file_is_told_with_both_lengths(whole: Path, length: int) -> None:
    with open(whole / WINDOW.params_file, "r+b") as file:
        file.truncate(length)
    found = check(WINDOW, whole)
    assert found.state is State.TRUNCATED
    assert f"{length} bytes" in found.text and "11501496" in found.text and WINDOW.params_file in found.text
    assert "Move" in found.next_step


@pytest.mark.parametrize("length", [0, 500, 868, 3000])
def test_a_truncated_key_is_told(whole: Path, length: int) -> None:
    with open(whole / WINDOW.vk_file, "r+b") as file:
        file.truncate(length)
    found = check(WINDOW, whole)
    assert found.state is State.TRUNCATED
    assert WINDOW.vk_file in found.text


def test_a_damaged_byte_is_found_by_the_digest(whole: Path) -> None:
    with open(whole / WINDOW.params_file, "r+b") as file:
        file.seek(5_000_000)
        byte = file.read(1)
        file.seek(5_000_000)
        file.write(bytes([byte[0] ^ 1]))
    assert check(WINDOW, whole).state is State.LOCAL
    assert check(WINDOW, whole, read_all=True).state is State.WRONG_DIGEST
    # The digest is remembered, so the next quick look knows too.
    found = check(WINDOW, whole)
    assert found.state is State.WRONG_DIGEST
    assert WINDOW.params_file in found.text


def test_a_damaged_key_is_found(whole: Path) -> None:
    key = bytearray((whole / WINDOW.vk_file).read_bytes())
    key[100] ^= 1
    (whole / WINDOW.vk_file).write_bytes(key)
    assert check(WINDOW, whole).state is State.WRONG_DIGEST


def test_bytes_behind_the_end_are_found(whole: Path) -> None:
    with open(whole / WINDOW.params_file, "ab") as file:
        file.write(b"\0")
    found = check(WINDOW, whole)
    assert found.state is State.WRONG_DIGEST
    assert "11501497" in found.text and "11501496" in found.text


def test_files_of_another_circuit_are_told_by_their_inputs(generated: Path, tmp_path: Path) -> None:
    winning = ParameterSet(SECTOR_SIZES["2KiB"], "winning")
    shutil.copy(generated / WINDOW.params_file, tmp_path / winning.params_file)
    shutil.copy(generated / WINDOW.vk_file, tmp_path / winning.vk_file)
    found = check(winning, tmp_path)
    assert found.state is State.OTHER_CIRCUIT
    assert "23 public inputs" in found.text and "133" in found.text


def test_files_of_another_size_are_told_by_their_queries(generated: Path, tmp_path: Path) -> None:
    larger = ParameterSet(SECTOR_SIZES["8MiB"], "window")
    shutil.copy(generated / WINDOW.params_file, tmp_path / larger.params_file)
    shutil.copy(generated / WINDOW.vk_file, tmp_path / larger.vk_file)
    found = check(larger, tmp_path)
    assert found.state is State.OTHER_CIRCUIT
    assert "32767 and 22128" in found.text and "65535 and 65088" in found.text


def test_a_key_of_another_setup_beside_the_parameters(whole: Path) -> None:
    (whole / WINDOW.local_record_file).unlink()
    key = bytearray((whole / WINDOW.vk_file).read_bytes())
    key[100] ^= 1
    (whole / WINDOW.vk_file).write_bytes(key)
    found = check(WINDOW, whole)
    assert found.state is State.OTHER_CIRCUIT
    assert f"inside {whole / WINDOW.params_file}" in found.text


def test_without_its_sidecar_a_set_is_somebodys_own(whole: Path) -> None:
    (whole / WINDOW.local_record_file).unlink()
    assert check(WINDOW, whole, read_all=True).state is State.PRIVATE
    assert not is_local(WINDOW, whole)


def test_a_published_set_is_told_by_its_digests(whole: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    published = {
        name: hashlib.blake2b((whole / name).read_bytes()).hexdigest()[:32]
        for name in (WINDOW.params_file, WINDOW.vk_file)
    }
    monkeypatch.setattr(status_module, "published_digests", lambda: published)
    # The sidecar of an earlier, local set does not make a published one insecure.
    found = check(WINDOW, whole, read_all=True)
    assert (found.state, found.digest_compared) == (State.OK, True)
    published[WINDOW.params_file] = "0" * 32
    found = check(WINDOW, whole)
    assert found.state is State.WRONG_DIGEST
    assert "0" * 32 in found.text and file_digest(whole / WINDOW.params_file, "blake2b")[:32] in found.text


def test_the_key_of_another_published_set_is_named(whole: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (whole / WINDOW.local_record_file).unlink()
    digest = hashlib.blake2b((whole / WINDOW.vk_file).read_bytes()).hexdigest()[:32]
    monkeypatch.setattr(status_module, "published_digests", lambda: {"v28-other.vk": digest})
    found = check(WINDOW, whole)
    assert found.state is State.OTHER_CIRCUIT
    assert "really v28-other.vk" in found.text


def test_a_foreign_prover_is_content_with_the_key(whole: Path) -> None:
    (whole / WINDOW.params_file).unlink()
    assert check(replace(WINDOW, only_vk=True), whole).state is State.LOCAL
    assert check(WINDOW, whole).state is State.MISSING
