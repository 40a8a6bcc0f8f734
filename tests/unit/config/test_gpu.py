"""Stages that ask for a GPU, and processors that share one."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from damocles_worker.config import gpu
from damocles_worker.config.findings import Finding, Report
from tests.unit.config.support import MINIMAL, inspected, only, settings_of

SWITCHES = 'FIL_PROOFS_USE_GPU_COLUMN_BUILDER = "1", FIL_PROOFS_USE_GPU_TREE_BUILDER = "on"'


def entry(stage: str, envs: str, more: str = "") -> str:
    return f"{MINIMAL}[[processors.{stage}]]\nenvs = {{ {envs} }}\n{more}\n"


@pytest.mark.parametrize(
    ("stage", "more", "expectation"),
    [
        ("pc2", "", "about 12 core-hours for one 32GiB sector (2.5 with AVX-512 IFMA)"),
        (
            "pc2",
            'cgroup.cpuset = "8-11,24-27"',
            "so about 1.4 hours (0.3 with it) on the 8 cpus of its cpuset",
        ),
        (
            "c2",
            'cgroup.cpuset = "0-47"',
            "about 59 core-hours for one 32GiB sector (20 with AVX-512 IFMA), so about 1.2 hours",
        ),
        ("pc2", '[sealing]\nallowed_sizes = ["64GiB"]', "about 23 core-hours for one 64GiB sector"),
        ("c2", '[sealing]\nallowed_sizes = ["2KiB", "512MiB"]', "for a 512MiB sector is a matter of minutes"),
        ("window_post", "", "core-hours for one partition"),
    ],
)
def test_a_stage_that_asks_for_a_gpu_is_told_its_hours_on_the_cpu(
    tmp_path: Path, stage: str, more: str, expectation: str
) -> None:
    findings = inspected(tmp_path, entry(stage, f'{SWITCHES}, CUDA_VISIBLE_DEVICES = "0"', more)).findings
    finding = only(findings, f"processors.{stage}[0].envs")
    assert finding.level == "warning"
    assert finding.message.startswith(
        "FIL_PROOFS_USE_GPU_COLUMN_BUILDER, FIL_PROOFS_USE_GPU_TREE_BUILDER and CUDA_VISIBLE_DEVICES ask for "
        f"a GPU, but this build has no GPU code: {stage} runs on the cpu, "
    )
    assert expectation in finding.message
    assert 'bin = "' in finding.next_step


@pytest.mark.parametrize(
    ("stage", "envs", "more"),
    [
        ("pc2", SWITCHES, 'bin = "/opt/pc2-gpu"'),
        ("pc2", 'FIL_PROOFS_USE_GPU_TREE_BUILDER = "0"', ""),
        ("pc2", 'CUDA_VISIBLE_DEVICES = "-1"', ""),
        ("c2", 'CUDA_VISIBLE_DEVICES = ""', ""),
        ("c2", 'CUDA_VISIBLE_DEVICES = "0", BELLMAN_NO_GPU = "1"', ""),
        ("pc1", 'CUDA_VISIBLE_DEVICES = "0"', ""),
    ],
)
def test_others_are_not(tmp_path: Path, stage: str, envs: str, more: str) -> None:
    findings = inspected(tmp_path, entry(stage, envs, more)).findings
    assert not [finding for finding in findings if "GPU" in finding.message]


PAIR = """
[processors.ext_locks]
gpu = 1
wide = 2
[[processors.pc2]]
bin = "/opt/pc2"
envs = {{ CUDA_VISIBLE_DEVICES = "0,1" }}
locks = {first}
[[processors.c2]]
bin = "/opt/c2"
envs = {{ CUDA_VISIBLE_DEVICES = "1" }}
locks = {second}
"""


@pytest.mark.parametrize(
    ("first", "second"), [("[]", "[]"), ('["gpu"]', "[]"), ('["gpu"]', '["wide"]'), ('["wide"]', '["wide"]')]
)
def test_two_processors_on_one_gpu_without_a_common_lock_are_warned_of(
    tmp_path: Path, first: str, second: str
) -> None:
    findings = inspected(tmp_path, MINIMAL + PAIR.format(first=first, second=second)).findings
    finding = only(findings, "processors.c2[0].envs")
    assert "GPU 1 is also given to processors.pc2[0]" in finding.message


def test_a_common_lock_keeps_them_apart(tmp_path: Path) -> None:
    text = MINIMAL + PAIR.format(first='["gpu"]', second='["wide", "gpu"]')
    assert not [finding for finding in inspected(tmp_path, text).findings if "GPU" in finding.message]


def test_different_gpus_need_no_lock(tmp_path: Path) -> None:
    text = MINIMAL + PAIR.format(first="[]", second="[]").replace('"0,1"', '"0"')
    assert not [finding for finding in inspected(tmp_path, text).findings if "GPU" in finding.message]


# ---- what depends on the daemon's environment, its build and its cpus -----------------------------


def on_host(
    directory: Path, text: str, environ: Mapping[str, str] | None = None, cpus: int = 26
) -> list[Finding]:
    report = Report("machine")
    gpu.check_host(settings_of(directory, text), environ or {}, cpus, report)
    return report.findings


@pytest.fixture
def gpu_build(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu, "has_gpu_code", lambda: True)


def test_a_c2_that_names_its_gpu_model_asks_for_it(tmp_path: Path) -> None:
    """As published deployments do, and nothing told that their C2 runs on the cpu."""
    finding = only(
        inspected(tmp_path, entry("c2", 'BELLMAN_CUSTOM_GPU = "RTX 3090:10496"')).findings,
        "processors.c2[0].envs",
    )
    assert finding.message.startswith("BELLMAN_CUSTOM_GPU asks for a GPU, but this build has no GPU code")


def test_the_librarys_hours_are_told_where_the_library_computes(tmp_path: Path) -> None:
    envs = f'{SWITCHES}, DAMOCLES_PC2_ENGINE = "crate"'
    findings = inspected(tmp_path, entry("pc2", envs)).findings
    finding = only(findings, "processors.pc2[0].envs")
    assert "about 26 core-hours for one 32GiB sector" in finding.message and "IFMA" not in finding.message


def test_a_stage_without_a_cpuset_is_told_its_hours_on_the_cpus_of_the_host(tmp_path: Path) -> None:
    finding = only(on_host(tmp_path, entry("pc2", SWITCHES)), "processors.pc2[0]")
    assert "so about 0.4 hours (0.10 with it) on the 26 cpus of this host" in finding.message
    assert on_host(tmp_path, entry("pc2", SWITCHES, 'cgroup.cpuset = "0-3"')) == []


def test_a_gpu_asked_for_in_the_environment_is_told_hours_too(tmp_path: Path) -> None:
    (finding,) = on_host(tmp_path, MINIMAL, {"CUDA_VISIBLE_DEVICES": "0"})
    assert "PC2 takes about 12 core-hours" in finding.message
    assert "C2 takes about 59 core-hours" in finding.message
    assert "on the 26 cpus of this host" in finding.message


@pytest.mark.usefixtures("gpu_build")
@pytest.mark.parametrize(
    ("stage", "variable"),
    [("pc2", "DAMOCLES_PC2_ENGINE"), ("c2", "DAMOCLES_C2_ENGINE"), ("snap_prove", "DAMOCLES_C2_ENGINE")],
)
def test_a_gpu_build_that_would_compute_on_the_cpu_says_so(tmp_path: Path, stage: str, variable: str) -> None:
    envs = f'{SWITCHES}, CUDA_VISIBLE_DEVICES = "0"'
    finding = only(on_host(tmp_path, entry(stage, envs)), f"processors.{stage}[0].envs")
    assert f"{stage} runs on this program's own engine, on the cpu" in finding.message
    assert f'add {variable} = "crate" to envs' in finding.next_step
    assert on_host(tmp_path, entry(stage, f'{envs}, {variable} = "crate"')) == []
    assert on_host(tmp_path, entry(stage, envs), {variable: "crate"}) == []
    assert on_host(tmp_path, entry(stage, envs, "inherit_envs = false"), {variable: "crate"}) != []
    assert on_host(tmp_path, entry(stage, envs, 'bin = "/opt/prover"')) == []


@pytest.mark.usefixtures("gpu_build")
def test_a_gpu_build_that_would_leave_the_gpu_idle_inside_the_worker_says_so(tmp_path: Path) -> None:
    asking = {"FIL_PROOFS_USE_GPU_COLUMN_BUILDER": "1"}
    (finding,) = on_host(tmp_path, MINIMAL, asking)
    assert "stages inside the worker (pc2 and c2) run on this program's own engine" in finding.message
    assert "set DAMOCLES_PC2_ENGINE=crate and DAMOCLES_C2_ENGINE=crate" in finding.next_step
    both = {"DAMOCLES_PC2_ENGINE": "crate", "DAMOCLES_C2_ENGINE": "crate"}
    assert on_host(tmp_path, MINIMAL, asking | both) == []


TWO_PROGRAMS = """
[[processors.pc2]]
bin = "/opt/pc2"
[[processors.c2]]
bin = "/opt/c2"
{envs}
"""


def test_processors_that_inherit_one_gpu_from_the_daemon_are_warned_of(tmp_path: Path) -> None:
    text = MINIMAL + TWO_PROGRAMS.format(envs="")
    finding = only(on_host(tmp_path, text, {"CUDA_VISIBLE_DEVICES": "0"}), "processors.c2[0].envs")
    assert "GPU 0 is also given to processors.pc2[0]" in finding.message
    own = MINIMAL + TWO_PROGRAMS.format(envs='envs = { CUDA_VISIBLE_DEVICES = "1" }')
    assert on_host(tmp_path, own, {"CUDA_VISIBLE_DEVICES": "0"})[1:] == []
    shut = MINIMAL + TWO_PROGRAMS.format(envs="inherit_envs = false")
    assert on_host(tmp_path, shut, {"CUDA_VISIBLE_DEVICES": "0"})[1:] == []


def test_a_processor_that_names_no_gpu_may_take_every_one(tmp_path: Path) -> None:
    switch = 'FIL_PROOFS_USE_GPU_TREE_BUILDER = "1"'
    text = MINIMAL + TWO_PROGRAMS.format(envs=f"envs = {{ {switch} }}").replace(
        'bin = "/opt/pc2"', 'bin = "/opt/pc2"\nenvs = { CUDA_VISIBLE_DEVICES = "1" }'
    )
    finding = only(inspected(tmp_path, text).findings, "processors.c2[0].envs")
    assert "GPU 1 is also given to processors.pc2[0]" in finding.message
    nobody = MINIMAL + TWO_PROGRAMS.format(envs=f"envs = {{ {switch} }}").replace(
        'bin = "/opt/pc2"', f'bin = "/opt/pc2"\nenvs = {{ {switch} }}'
    )
    finding = only(inspected(tmp_path, nobody).findings, "processors.c2[0].envs")
    assert finding.message.startswith("every GPU, none being named, is also given to processors.pc2[0]")
