"""What a configuration asks of a host that has it, and of one that has not."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from damocles_worker import _native
from damocles_worker.config.findings import Finding
from damocles_worker.config.machine import machine_findings, parameter_findings
from damocles_worker.config.machine_paths import tree_d_bytes
from damocles_worker.sectors import TREE_D_FILE
from tests.unit.config.support import MINIMAL, only, settings_of
from tests.unit.hardware.trees import machine


@pytest.fixture
def stores(tmp_path: Path) -> str:
    """The least configuration, with directories that exist."""
    (tmp_path / "persist").mkdir()
    return MINIMAL.replace("/stores", str(tmp_path)).replace("/persist", f"{tmp_path}/persist")


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The machine of the documentation: two nodes, L3 caches of four cpus each."""
    caches = [f"{first}-{first + 3}" for first in range(0, 64, 4)]
    return machine(tmp_path_factory.mktemp("host"), nodes=["0-31", "32-63"], l3=caches, memory=512 << 30)


def found(directory: Path, text: str, host: Path, environ: dict[str, str] | None = None) -> list[Finding]:
    environ = {"PATH": os.defpath} if environ is None else environ
    return machine_findings(settings_of(directory, text), root=host, environ=environ)


def test_a_fitting_host_gives_no_finding(tmp_path: Path, stores: str, host: Path) -> None:
    assert found(tmp_path, stores, host) == []


def test_missing_parameters_are_put_among_the_others(tmp_path: Path, stores: str, host: Path) -> None:
    text = stores.replace(f"{tmp_path}/1", "/nowhere/at/all") + '[sealing]\nallowed_sizes = ["2KiB"]\n'
    settings = settings_of(tmp_path, text)
    extra = parameter_findings(settings, tmp_path)
    findings = machine_findings(settings, root=host, environ={}, extra=extra)
    assert [(finding.path, finding.line) for finding in findings] == [
        ("sealing_thread[0].location", 3),
        ("sealing.allowed_sizes", 8),
    ]
    assert findings[1].level == "error"
    assert str(tmp_path) in findings[1].message


# ---- paths ---------------------------------------------------------------------------------------


def test_a_store_whose_parent_is_missing_is_an_error(tmp_path: Path, stores: str, host: Path) -> None:
    text = stores.replace(f"{tmp_path}/1", f"{tmp_path}/a/b")
    finding = only(found(tmp_path, text, host), "sealing_thread[0].location")
    assert (finding.level, finding.line, finding.kind) == ("error", 3, "machine")
    assert finding.next_step.endswith(f"mkdir -p {tmp_path}/a")


def test_a_store_that_is_a_file_is_an_error(tmp_path: Path, stores: str, host: Path) -> None:
    (tmp_path / "1").write_text("")
    assert "not a directory" in only(found(tmp_path, stores, host), "sealing_thread[0].location").message


def test_a_store_of_the_rust_worker_is_an_error(tmp_path: Path, stores: str, host: Path) -> None:
    (tmp_path / "1/meta").mkdir(parents=True)
    (tmp_path / "1/meta/CURRENT").write_text("MANIFEST-000001\n")
    assert "store adopt" in only(found(tmp_path, stores, host), "sealing_thread[0].location").next_step


@pytest.mark.skipif(os.geteuid() == 0, reason="root writes everywhere")
def test_a_store_without_write_permission_is_an_error(tmp_path: Path, stores: str, host: Path) -> None:
    (tmp_path / "1").mkdir(mode=0o500)
    assert "can't be written" in only(found(tmp_path, stores, host), "sealing_thread[0].location").message


def test_a_store_on_a_read_only_file_system_is_an_error(
    tmp_path: Path, stores: str, host: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "1").mkdir()
    real = os.statvfs(tmp_path)
    values = [*tuple(real)[:8], real.f_flag | os.ST_RDONLY, real.f_namemax]
    monkeypatch.setattr(os, "statvfs", lambda _: os.statvfs_result(values))
    findings = found(tmp_path, stores, host)
    assert "read-only file system" in only(findings, "sealing_thread[0].location").message
    assert "readonly = true" in only(findings, "attached[0].location").next_step


def test_a_full_file_system_is_warned_of(
    tmp_path: Path, stores: str, host: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = [4096, 4096, 1000, 0, 0, 10, 0, 0, 0, 255]
    monkeypatch.setattr(os, "statvfs", lambda _: os.statvfs_result(values))
    finding = only(found(tmp_path, stores, host), "sealing_thread[0].location")
    assert finding.level == "warning"
    assert "is full: 0 B free" in finding.message


def test_one_store_by_two_links_is_an_error(tmp_path: Path, stores: str, host: Path) -> None:
    (tmp_path / "1").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "1")
    for first, second in (("1", "link"), ("link", "1")):
        text = stores.replace(f"{tmp_path}/1", f"{tmp_path}/{first}")
        text += f'[[sealing_thread]]\nlocation = "{tmp_path}/{second}"\n'
        finding = only(found(tmp_path, text, host), "sealing_thread[1].location")
        assert finding.level == "error"
        assert f"{tmp_path}/1, the store of sealing_thread[0]" in finding.message


def test_attached_stores_are_looked_at(tmp_path: Path, stores: str, host: Path) -> None:
    (tmp_path / "1/data").mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "persist")
    for name in ("missing", "1/data", "link"):
        stores += f'[[attached]]\nname = "{name}"\nlocation = "{tmp_path}/{name}"\n'
    findings = found(tmp_path, stores, host)
    assert "does not exist" in only(findings, "attached[1].location").message
    assert "deleted after every sector" in only(findings, "attached[2].location").message
    assert only(findings, "attached[3].location").level == "warning"


def test_scanned_stores_that_are_not_there_are_an_error_if_there_is_no_other(
    tmp_path: Path, stores: str, host: Path
) -> None:
    scan = f'[worker]\nscan_persist_stores = ["{tmp_path}/disk*"]\n'
    without = stores[: stores.index("[[attached]]")] + scan
    path = "worker.scan_persist_stores[0]"
    (tmp_path / "disk1").mkdir()
    finding = only(found(tmp_path, without, host), path)
    assert (finding.level, finding.line) == ("error", 5) and "sectorstore.json" in finding.message
    assert only(found(tmp_path, stores + scan, host), path).level == "warning"
    (tmp_path / "disk1/sectorstore.json").write_text('{"Name": "one", "ReadOnly": true}')
    readonly = only(found(tmp_path, without, host), "worker.scan_persist_stores")
    assert readonly.level == "warning" and "read-only" in readonly.message
    assert not [one for one in found(tmp_path, stores + scan, host) if "scan" in one.path]


def test_a_missing_remote_store_has_its_own_line(tmp_path: Path, stores: str, host: Path) -> None:
    text = stores + '[remote_store]\nname = "old"\nlocation = "/no/such/store"\n'
    assert only(found(tmp_path, text, host), "remote_store.location").line == 9


def test_missing_piece_directories_are_warned_of(tmp_path: Path, stores: str, host: Path) -> None:
    for key, path in (('local_pieces_dir = "/no/p"', "dir"), ('local_pieces_dirs = ["/no/p"]', "dirs[0]")):
        finding = only(found(tmp_path, f"{stores}[worker]\n{key}\n", host), f"worker.local_pieces_{path}")
        assert "downloaded from the manager instead" in finding.message


def test_the_expected_size_of_a_static_tree_is_that_of_a_real_one(tmp_path: Path) -> None:
    _native.static_tree_d(2048, str(tmp_path))
    assert (tmp_path / TREE_D_FILE).stat().st_size == tree_d_bytes(2048)


def test_static_trees_are_looked_at(tmp_path: Path, stores: str, host: Path) -> None:
    (tmp_path / "good").write_bytes(bytes(tree_d_bytes(2048)))
    (tmp_path / "short").write_bytes(bytes(100))
    text = f'{stores}[processors.static_tree_d]\n"2 kib" = "{tmp_path}/good"\n'
    assert found(tmp_path, text, host) == []
    wrong = only(found(tmp_path, text.replace("good", "short"), host), 'processors.static_tree_d."2 kib"')
    assert "100 bytes; the tree_d of a 2KiB sector has 4064" in wrong.message
    missing = only(found(tmp_path, text.replace("good", "none"), host), 'processors.static_tree_d."2 kib"')
    assert "generator tree-d -s 2KiB" in missing.next_step
    directory = only(found(tmp_path, text.replace("/good", ""), host), 'processors.static_tree_d."2 kib"')
    assert "not a file" in directory.message


def test_programs_are_looked_for_on_the_path_of_the_processor(
    tmp_path: Path, stores: str, host: Path
) -> None:
    program = tmp_path / "c2-plugin"
    program.write_text("#!/bin/sh\n")

    def findings(bin_text: str, path: str = "") -> list[Finding]:
        text = f'{stores}[[processors.c2]]\nbin = "{bin_text}"\nenvs = {{ PATH = "{path}" }}\n'
        return found(tmp_path, text, host)

    assert "not executable" in only(findings(str(program)), "processors.c2[0].bin").message
    program.chmod(0o755)
    assert findings(str(program)) == []
    assert findings("c2-plugin", path=str(tmp_path)) == []
    assert "does not exist" in only(findings("c2-plugin"), "processors.c2[0].bin").message


@pytest.mark.parametrize(
    ("variable", "value", "file"),
    [
        ("HUGEPAGE_FILES_PATH", "huge", "huge/numa_0/32.0_GiB_0"),
        ("HUGEPAGE_FILES_PATH_PATTERN", "huge/node$NUMA_NODE_INDEX/files/", "huge/node1/files/32.0_GiB_0"),
    ],
)
def test_huge_page_files_are_looked_for(
    tmp_path: Path,
    stores: str,
    host: Path,
    variable: str,
    value: str,
    file: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    text = f'{stores}[[processors.pc1]]\nenvs = {{ {variable} = "{tmp_path}/{value}" }}\n'
    finding = only(found(tmp_path, text, host), f"processors.pc1[0].envs.{variable}")
    assert (finding.level, "hugepage-file-init" in finding.next_step) == ("warning", True)
    assert "(no huge pages are reserved)" in finding.message
    (tmp_path / file).parent.mkdir(parents=True)
    (tmp_path / file).write_bytes(b"")
    assert found(tmp_path, text, host) == []
    # Made by root, for a worker that is another user; whoever runs the test may be root.
    monkeypatch.setattr(os, "access", lambda path, _mode: Path(path) != tmp_path / file)
    refused = only(found(tmp_path, text, host), f"processors.pc1[0].envs.{variable}")
    assert f'no access to the huge-page files ("{tmp_path / file}")' in refused.message
    assert "run as root: chown -R" in refused.next_step
    assert f": {(tmp_path / file).parent};" in refused.next_step
    # One that can be used is enough.
    (tmp_path / file).with_name("32.0_GiB_1").write_bytes(b"")
    assert found(tmp_path, text, host) == []


def test_a_directory_of_huge_page_files_that_is_another_users_is_told(
    tmp_path: Path, stores: str, host: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The check ended in a traceback."""
    closed = tmp_path / "huge/numa_0"
    closed.mkdir(parents=True)
    listed = Path.iterdir

    def iterdir(path: Path) -> Iterator[Path]:
        if path == closed:
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return listed(path)

    monkeypatch.setattr(Path, "iterdir", iterdir)
    text = f'{stores}[[processors.pc1]]\nenvs = {{ HUGEPAGE_FILES_PATH = "{tmp_path}/huge" }}\n'
    finding = only(found(tmp_path, text, host), "processors.pc1[0].envs.HUGEPAGE_FILES_PATH")
    assert f'no access to the huge-page files ("{closed}")' in finding.message
    assert f": {closed};" in finding.next_step


def test_reserved_huge_pages_are_told(tmp_path: Path, stores: str) -> None:
    host = machine(tmp_path / "host", nodes=["0", "1"], l3=[], huge_pages=64)
    text = f'{stores}[[processors.pc1]]\nenvs = {{ HUGEPAGE_FILES_PATH = "{tmp_path}/huge" }}\n'
    finding = only(found(tmp_path, text, host), "processors.pc1[0].envs.HUGEPAGE_FILES_PATH")
    assert "(128 GiB of huge pages are reserved)" in finding.message


# ---- cpus ----------------------------------------------------------------------------------------


def pc1(cpuset: str, *, node: int | None = None, multicore: bool = False) -> str:
    lines = ["[[processors.pc1]]", f'cgroup.cpuset = "{cpuset}"']
    lines += [f"numa_preferred = {node}"] if node is not None else []
    lines += ['envs = { FIL_PROOFS_USE_MULTICORE_SDR = "1" }'] if multicore else []
    return "\n".join(lines) + "\n"


def test_cpus_that_can_not_be_used_are_errors(tmp_path: Path, stores: str) -> None:
    host = machine(tmp_path / "host", nodes=["0-7"], l3=["0-7"], online="0-5", allowed="0-3")
    findings = found(tmp_path, stores + pc1("3-9"), host)
    messages = [finding.message for finding in findings if finding.path == "processors.pc1[0].cgroup.cpuset"]
    assert messages == [
        "cpus 8-9 are not in this machine",
        "cpus 6-7 are switched off",
        "cpus 4-5 are not among those this process may use",
    ]


def test_a_missing_node_and_cpus_of_another_node_are_warned_of(
    tmp_path: Path, stores: str, host: Path
) -> None:
    missing = only(found(tmp_path, stores + pc1("0-3", node=2), host), "processors.pc1[0].numa_preferred")
    assert "no NUMA node 2 (it has 0, 1)" in missing.message
    apart = only(found(tmp_path, stores + pc1("28-35", node=0), host), "processors.pc1[0].numa_preferred")
    assert "cpus 32-35 of the cpuset are on node 1" in apart.message
    assert found(tmp_path, stores + pc1("28-31", node=0), host) == []
    assert found(tmp_path, stores + pc1("28-35", node=-1), host) == []


def test_processors_that_share_cpus_are_warned_of_once_each(tmp_path: Path, stores: str, host: Path) -> None:
    findings = found(tmp_path, stores + pc1("0-7") + pc1("4-11") + pc1("0-11"), host)
    assert [finding.path for finding in findings] == [f"processors.pc1[{n}].cgroup.cpuset" for n in (1, 2)]
    assert "cpus 4-7 are also those of processors.pc1[0].cgroup.cpuset" in findings[0].message
    assert "and 1 more" in findings[1].message


def test_processors_that_share_cpus_in_turns_are_fine(tmp_path: Path, stores: str, host: Path) -> None:
    locked = 'locks = ["turns"]\n'
    text = stores + pc1("0-7") + locked + pc1("4-11") + locked + "[processors.ext_locks]\nturns = "
    assert found(tmp_path, text + "1\n", host) == []
    assert len(found(tmp_path, text + "2\n", host)) == 1


def test_the_documents_example_of_half_a_cache_names_caches_counts_and_a_way_out(
    tmp_path: Path, stores: str, host: Path
) -> None:
    finding = only(
        found(tmp_path, stores + pc1("0-6", multicore=True), host), "processors.pc1[0].cgroup.cpuset"
    )
    assert finding.level == "warning"
    assert "L3 #0: 4, L3 #1: 3" in finding.message
    assert '"0-7" (whole L3 caches) or "0-2,4-6" (3 under each)' in finding.next_step


def test_a_partial_cache_is_harmless_to_this_program_and_fatal_to_the_library(
    tmp_path: Path, stores: str, host: Path
) -> None:
    def message(more: str = "", environ: dict[str, str] | None = None) -> str:
        text = stores + pc1("0-6", multicore=True) + more
        return only(found(tmp_path, text, host, environ or {}), "processors.pc1[0].cgroup.cpuset").message

    assert "harmless to this program's PC1" in message()
    assert "ends by a panic" in message(f'bin = "{sys.executable}"\n')
    assert "ends by a panic" in message(environ={"DAMOCLES_PC1_ENGINE": "crate"})


@pytest.mark.parametrize("cpuset", ["0-7", "0-1,4-5", "3", "0-3,32-35"])
def test_equally_many_cores_under_each_cache_are_fine(
    tmp_path: Path, stores: str, host: Path, cpuset: str
) -> None:
    assert found(tmp_path, stores + pc1(cpuset, multicore=True), host) == []


def test_without_multicore_sdr_half_a_cache_is_fine(tmp_path: Path, stores: str, host: Path) -> None:
    assert found(tmp_path, stores + pc1("0-6"), host) == []


def test_multicore_sdr_of_the_inherited_environment_counts(tmp_path: Path, stores: str, host: Path) -> None:
    environ = {"FIL_PROOFS_USE_MULTICORE_SDR": "true"}
    inherited = stores + pc1("0-6")
    assert found(tmp_path, inherited, host, environ)
    assert not found(tmp_path, inherited + "inherit_envs = false\n", host, environ)


def test_two_threads_of_a_core_count_once(tmp_path: Path, stores: str) -> None:
    threads = [f"{n},{n + 8}" for n in range(8)]
    host = machine(tmp_path / "host", nodes=["0-15"], l3=["0-3,8-11", "4-7,12-15"], threads=threads)
    assert found(tmp_path, stores + pc1("0-7,8-11", multicore=True), host) == []
    finding = only(
        found(tmp_path, stores + pc1("0-6,8", multicore=True), host), "processors.pc1[0].cgroup.cpuset"
    )
    assert '"0-8" (whole L3 caches) or "0-2,4-6,8" (3 under each)' in finding.next_step


# ---- limits, memory, environment -----------------------------------------------------------------


def test_a_low_limit_of_open_files_is_warned_of(tmp_path: Path, stores: str) -> None:
    host = machine(tmp_path / "host", nodes=["0"], l3=[], files="256")
    assert "LimitNOFILE=320" in only(found(tmp_path, stores, host), "sealing_thread").next_step
    window_post = stores.replace("[[attached]]", '[[sealing_thread]]\nplan = "wdpost"\n[[attached]]')
    assert "LimitNOFILE=65536" in only(found(tmp_path, window_post, host), "sealing_thread").next_step
    unlimited = machine(tmp_path / "other", nodes=["0"], l3=[], files="unlimited")
    assert found(tmp_path, window_post, unlimited) == []


def test_sectors_that_do_not_fit_into_memory_are_warned_of(tmp_path: Path, stores: str) -> None:
    host = machine(tmp_path / "host", nodes=["0"], l3=[], memory=48 << 30)
    text = stores + '[sealing]\nallowed_sizes = ["2KiB", "32GiB"]\n'
    assert (
        "needs 64 GiB of memory, this machine has 48 GiB"
        in only(found(tmp_path, text, host), "sealing.allowed_sizes").message
    )


def test_a_gpu_asked_for_in_the_environment_is_warned_of(tmp_path: Path, stores: str, host: Path) -> None:
    findings = found(
        tmp_path, stores, host, {"FIL_PROOFS_USE_GPU_TREE_BUILDER": "1", "CUDA_VISIBLE_DEVICES": "0"}
    )
    assert "PC2 takes about 12 core-hours" in only(findings, "").message
    assert found(tmp_path, stores, host, {"FIL_PROOFS_USE_GPU_TREE_BUILDER": "0"}) == []


def test_a_machine_that_tells_nothing_gives_no_finding_about_cpus(tmp_path: Path, stores: str) -> None:
    assert found(tmp_path, stores + pc1("0-999", node=7, multicore=True), tmp_path / "empty") == []
