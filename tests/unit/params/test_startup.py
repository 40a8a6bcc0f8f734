"""What a starting worker says about its parameters."""

from __future__ import annotations

from pathlib import Path

from damocles_worker.config.settings import Processor, Sealing, Thread
from damocles_worker.params import findings
from damocles_worker.sectors import SECTOR_SIZES
from tests.unit.params.conftest import WINDOW

SMALL = (SECTOR_SIZES["2KiB"],)


def thread(plan: str, sizes: tuple[int, ...] | None = SMALL) -> Thread:
    return Thread(0, plan=plan, sealing=Sealing(allowed_sizes=sizes))


def test_missing_parameters_are_an_error_with_names_and_command(tmp_path: Path) -> None:
    (found,) = findings([thread("wdpost"), thread("unseal")], {}, directory=tmp_path)
    assert found.level == "error"
    assert WINDOW.params_file in found.message
    assert "params generate --size 2KiB --plan wdpost" in str(found)


def test_a_local_set_is_warned_of_beside_a_real_manager(whole: Path) -> None:
    threads = [thread("wdpost"), thread("wdpost")]
    (found,) = findings(threads, {}, directory=whole)
    assert found.level == "warning"
    assert "insecure" in found.message and WINDOW.name in found.message
    assert findings(threads, {}, directory=whole, local_network=True) == []


def test_a_foreign_child_needs_the_key_only(whole: Path) -> None:
    (whole / WINDOW.params_file).unlink()
    foreign = {"window_post": (Processor(bin="/usr/bin/prover"),)}
    assert findings([thread("wdpost")], foreign, directory=whole, local_network=True) == []
    shared = {"window_post": (Processor(bin="/usr/bin/prover"), Processor())}
    (found,) = findings([thread("wdpost")], shared, directory=whole, local_network=True)
    assert WINDOW.params_file in found.message


def test_any_size_looks_at_the_sizes_that_are_there(whole: Path, tmp_path: Path) -> None:
    (found,) = findings([thread("wdpost", None)], {}, directory=whole, local_network=True)
    assert found.level == "warning"
    with open(whole / WINDOW.params_file, "r+b") as file:
        file.truncate(5000)
    _, found = findings([thread("wdpost", None)], {}, directory=whole, local_network=True)
    assert "truncated" in found.message
    (found,) = findings([thread("wdpost", None)], {}, directory=tmp_path)
    assert "has none" in found.message


def test_a_worker_for_any_size_is_told_at_start_which_sizes_would_fail(whole: Path) -> None:
    (found,) = findings([thread("wdpost", None)], {}, directory=whole, local_network=True)
    assert "those of 8MiB, 512MiB, 32GiB, 64GiB would fail at window_post" in found.message
    assert 'allowed_sizes = ["2KiB"]' in found.next_step
    assert "fetch-params 32GiB" in found.next_step
    assert findings([thread("unseal", None)], {}, directory=whole) == []


def test_a_processor_that_names_its_own_directory_is_looked_at_there(whole: Path, tmp_path: Path) -> None:
    own = tmp_path / "own"
    processor = Processor(envs={"FIL_PROOFS_PARAMETER_CACHE": str(own)})
    (whole / WINDOW.params_file).rename(whole / "elsewhere")
    (found,) = findings(
        [thread("wdpost")], {"window_post": (processor,)}, directory=whole, local_network=True
    )
    assert str(own) in found.message and WINDOW.params_file in found.message
    # Here the key verifies what it makes; there everything is needed.
    own.mkdir()
    for name in (WINDOW.vk_file, WINDOW.local_record_file):
        (own / name).write_bytes((whole / name).read_bytes())
    (whole / "elsewhere").rename(own / WINDOW.params_file)
    assert (
        findings([thread("wdpost")], {"window_post": (processor,)}, directory=whole, local_network=True) == []
    )
