"""``config suggest`` on recorded machines: what it writes passes the check, and its numbers add up."""

from __future__ import annotations

import csv
import io
import os
import re
import shlex
import tomllib
from itertools import combinations
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from damocles_worker.cli.main import cli
from damocles_worker.cli.util import util
from damocles_worker.config import corehours, gpu
from damocles_worker.config.findings import Finding, Report
from damocles_worker.config.load import inspect
from damocles_worker.config.machine import hardware_findings, machine_findings
from damocles_worker.config.settings import Settings
from damocles_worker.errors import WorkerError
from damocles_worker.hardware.cpulist import parse_cpu_list
from damocles_worker.hardware.cpus import numa_nodes
from damocles_worker.preflight.parents import _SECONDS_PER_NODE
from damocles_worker.sectors import SECTOR_SIZES
from damocles_worker.stores.space import plan_bytes
from damocles_worker.suggest import suggestion as suggestion_module
from damocles_worker.suggest.durations import LABELS_PER_SECOND, LABELS_PER_SECOND_PORTABLE, Durations
from damocles_worker.suggest.suggestion import suggest
from damocles_worker.suggest.wishes import GOALS, Goal, Wishes
from damocles_worker.units import format_size
from tests.unit.hardware.machines import MACHINES, record
from tests.unit.hardware.providers import PROVIDERS, record_provider
from tests.unit.suggest.vectors import GPU_PROGRAM, OPTIONS, vector


@pytest.fixture(scope="module")
def trees(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The recorded machines of the guide and of the four examples."""
    root = tmp_path_factory.mktemp("providers")
    return {name: record_provider(root / name, build()) for name, build in PROVIDERS.items()}


def command(*arguments: str) -> Result:
    return CliRunner().invoke(cli, ["config", *arguments])


def read(directory: Path, text: str, tree: Path) -> tuple[Settings, list[Finding]]:
    """The settings of a suggestion, and all that the check says of it for its machine."""
    path = directory / "suggested.toml"
    path.write_text(text)
    inspection = inspect(str(path))
    assert inspection.settings is not None, inspection.findings
    return inspection.settings, [*inspection.findings, *hardware_findings(inspection.settings, root=tree)]


def expected_per_day(text: str) -> float:
    match = re.search(r"Expected: about ([0-9.]+) sectors a day", text)
    assert match, text
    return float(match[1])


@pytest.mark.parametrize(
    ("name", "gpu_program"),
    [*((name, None) for name in PROVIDERS), *((name, GPU_PROGRAM) for name in PROVIDERS if name != "guide")],
)
@pytest.mark.parametrize("goal", GOALS)
def test_a_suggestion_for_a_providers_machine_has_no_finding(
    tmp_path: Path, trees: dict[str, Path], name: str, goal: Goal, gpu_program: str | None
) -> None:
    suggestion = suggest(Wishes(goal=goal, gpu_program=gpu_program), trees[name])
    settings, findings = read(tmp_path, suggestion.text, trees[name])
    assert findings == []
    assert suggestion.not_read == ()
    assert settings.threads and {thread.plan for thread in settings.threads} == {Wishes(goal=goal).plan}


@pytest.mark.parametrize("name", PROVIDERS)
def test_the_suggestion_is_the_one_kept_in_the_vectors(trees: dict[str, Path], name: str) -> None:
    result = command("suggest", "--fsroot", str(trees[name]), *OPTIONS[name])
    assert result.exit_code == 0 and result.stderr == ""
    assert result.stdout == vector(name).read_text(), "if that is meant: python -m tests.unit.suggest.vectors"


@pytest.mark.parametrize("name", MACHINES)
@pytest.mark.parametrize("size", ["2KiB", "512MiB", "32GiB", "64GiB"])
def test_any_machine_gets_a_fitting_suggestion_or_is_told_why_not(
    tmp_path: Path, name: str, size: str
) -> None:
    tree = record(tmp_path / "tree", MACHINES[name]())
    wishes = Wishes(sector_size=SECTOR_SIZES[size], sealing=("/mnt/nvme",))
    try:
        text = suggest(wishes, tree).text
    except WorkerError as error:
        assert "memory" in error.cause and size in error.cause
        assert "--sector-size" in error.next_step
        return
    settings, findings = read(tmp_path, text, tree)
    assert findings == []
    nodes = numa_nodes(tree)
    for processors in settings.processors.stages.values():
        for processor in processors:
            cpus = parse_cpu_list(processor.cpuset or "")
            assert processor.numa_preferred is None or cpus <= nodes[processor.numa_preferred]
    _assert_cpus_are_shared_in_turns_only(settings)
    assert 2 * SECTOR_SIZES[size] * settings.processors.concurrent["pc1"] < sum(
        kilobytes << 10 for _, kilobytes in MACHINES[name]().nodes.values()
    )


def _assert_cpus_are_shared_in_turns_only(settings: Settings) -> None:
    everything = [entry for entries in settings.processors.stages.values() for entry in entries]
    for one, other in combinations(everything, 2):
        if parse_cpu_list(one.cpuset or "") & parse_cpu_list(other.cpuset or ""):
            assert one.locks == other.locks != ()


@pytest.mark.parametrize("name", PROVIDERS)
def test_the_sealcalc_command_in_the_comment_gives_the_expected_sectors_a_day(
    trees: dict[str, Path], name: str
) -> None:
    text = suggest(Wishes(), trees[name]).text
    line = next(line for line in text.splitlines() if "damocles-worker-util sealcalc" in line)
    arguments = shlex.split(line.removeprefix("#"))[1:]
    result = CliRunner().invoke(util, [*arguments, "--output_step", "1440", "--csv"])
    finished = [int(row[-1]) for row in csv.reader(io.StringIO(result.output)) if row[0].isdigit()]
    assert (finished[29] - finished[9]) / 20 == pytest.approx(expected_per_day(text), abs=0.5)


def test_the_bottleneck_moves_with_what_the_machine_has(tmp_path: Path, trees: dict[str, Path]) -> None:
    def bottleneck(tree: Path, gpu_program: str | None = None) -> str:
        return (
            suggest(Wishes(gpu_program=gpu_program), tree)
            .text.split("The bottleneck: ")[1]
            .split("Sectors a day")[0]
        )

    assert "pc2 and c2 in turns on 60 core(s)" in bottleneck(trees["guide"])
    assert "pc2 and c2 in turns on 2 GPUs" in bottleneck(trees["example_3"], gpu_program=GPU_PROGRAM)
    assert "as many as memory" in bottleneck(trees["example_4"], gpu_program=GPU_PROGRAM)
    small = PROVIDERS["example_3"]()
    small = type(small)(small.machine, small.gpus, {"/mnt/nvme": 3000})
    tree = record_provider(tmp_path / "small", small)
    assert "space for sealing stores" in bottleneck(tree, gpu_program=GPU_PROGRAM)


def test_gpus_that_lie_idle_are_told_with_what_they_would_be_worth(trees: dict[str, Path]) -> None:
    idle = suggest(Wishes(), trees["example_4"]).text
    used = suggest(Wishes(gpu_program=GPU_PROGRAM), trees["example_4"]).text
    assert f"about {expected_per_day(used):.0f} sectors a day" in idle.replace("\n# ", " ")
    assert "GPU stays idle" not in used


def test_pc1_takes_the_time_of_its_labels() -> None:
    durations = Durations(SECTOR_SIZES["32GiB"], sha=True)
    assert durations.pc1_hours(1) * 3600 == pytest.approx(11 * 2**30 / 1.429e6)
    assert durations.pc1_hours(2) * 3600 == pytest.approx(11 * 2**30 / (2.331e6 / 2))
    assert Durations(SECTOR_SIZES["32GiB"], sha=False).pc1_hours(1) > 10 * durations.pc1_hours(1)


def test_what_is_planned_with_is_what_the_benchmarks_page_says() -> None:
    """It was planned with figures that the page no longer had, and cited the page."""
    page = (Path(__file__).parents[3] / "docs/benchmarks.md").read_text()
    running = " ".join(page.split())
    large = page.split("### 512 MiB", 1)[1]

    def found(row: str, text: str = page) -> str:
        line = next(line for line in text.splitlines() if line.startswith(f"| {row}"))
        return line.split("|")[2].strip()

    for lanes, rate in LABELS_PER_SECOND.items():
        assert found(f"(c) sdr, {lanes} lane(s), SHA-NI", large) == f"{rate / 1e6:.3f} M"
    assert found("crate as people get it", large) == f"{LABELS_PER_SECOND_PORTABLE / 1e6:.3f} M"
    parents = re.search(r"Parents of a node, .*sdr ([0-9.]+) µs", large)
    assert parents and float(parents[1]) == pytest.approx(_SECONDS_PER_NODE * 1e6)
    provers = [found(row) for row in ("proofs library", "this prover, portable", "this prover, AVX-512")]
    assert [float(prover) for prover in provers] == [
        corehours._C2_2KIB_LIBRARY,
        corehours._C2_2KIB,
        corehours._C2_2KIB_IFMA,
    ]
    hashing = re.search(
        r"([0-9.]+) hours with neptune, [0-9.]+ one at a time,"
        r" ([0-9.]+) with AVX2 and ([0-9.]+) with AVX-512",
        running,
    )
    assert hashing
    planned = (corehours._LIBRARY_32GIB["pc2"], corehours._PC2_32GIB, corehours._PC2_32GIB_IFMA)
    for hours, hashes in zip(planned, map(float, hashing.groups()), strict=True):
        assert hashes <= hours < 1.05 * hashes, "PC2 is its hashes, and little beside them"
    snarks = re.search(r"`config suggest` reckon with ([0-9]+) and ([0-9]+) core-hours, with IFMA", running)
    assert snarks
    reckoned = [corehours.core_hours("c2", SECTOR_SIZES["32GiB"], ifma=fast) for fast in (True, False)]
    assert [round(hours) for hours in reckoned] == [int(number) for number in snarks.groups()]


def test_pages_are_reserved_for_every_sector_in_pc1_on_its_node(trees: dict[str, Path]) -> None:
    text = suggest(Wishes(gpu_program=GPU_PROGRAM), trees["example_3"]).text
    assert re.findall(
        r"echo (\d+) > /sys/devices/system/node/node(\d)/hugepages/hugepages-1048576kB", text
    ) == [
        ("384", "0"),
        ("320", "1"),
    ]


def test_all_threads_of_a_core_go_to_the_same_processor(tmp_path: Path) -> None:
    tree = record(tmp_path, MACHINES["smt"]())
    settings, _ = read(tmp_path, suggest(Wishes(sealing=("/mnt/nvme",)), tree).text, tree)
    assert settings.processors.stages["pc1"][0].cpuset == "0,16"


def test_options_name_directories_manager_and_goal(tmp_path: Path, trees: dict[str, Path]) -> None:
    result = command(
        "suggest", "--goal", "deals", "--fsroot", str(trees["guide"]), "--manager", "http://10.0.0.5:1789",
        "--sealing", "/a", "--sealing", "/b/", "--attached", "/persist",
    )  # fmt: skip
    settings, findings = read(tmp_path, result.stdout, trees["guide"])
    assert findings == []
    assert settings.manager.addr == "http://10.0.0.5:1789" and settings.sealing.enable_deals
    locations = [thread.location for thread in settings.threads]
    assert locations[:2] == ["/a/store1", "/a/store2"] and "/b/store1" in locations
    assert [store.location for store in settings.attached] == ["/persist"]


def test_the_machine_check_accepts_a_suggestion_for_this_machine(tmp_path: Path) -> None:
    if len(os.sched_getaffinity(0)) < 2:
        pytest.skip("one cpu can't be divided among the stages")
    (tmp_path / "persist").mkdir()
    wishes = Wishes(
        sector_size=SECTOR_SIZES["2KiB"], sealing=(str(tmp_path),), attached=str(tmp_path / "persist")
    )
    settings, findings = read(tmp_path, suggest(wishes).text, Path("/"))
    assert findings == []
    assert machine_findings(settings, environ={}) == []


def envs_of(text: str, stage: str) -> list[dict[str, str]]:
    return [entry["envs"] for entry in tomllib.loads(text)["processors"][stage]]


@pytest.mark.parametrize("goal", GOALS)
def test_a_build_with_gpu_code_is_told_to_use_it(
    tmp_path: Path, trees: dict[str, Path], monkeypatch: pytest.MonkeyPatch, goal: Goal
) -> None:
    for module in (suggestion_module, gpu):
        monkeypatch.setattr(module, "has_gpu_code", lambda: True)
    text = suggest(Wishes(goal=goal), trees["example_3"]).text
    first, second = ("snap_encode", "snap_prove") if goal == "snapup" else ("pc2", "c2")
    for envs in envs_of(text, second):
        assert envs["DAMOCLES_C2_ENGINE"] == "crate"
    for envs in envs_of(text, first):
        assert envs["FIL_PROOFS_USE_GPU_TREE_BUILDER"] == "1"
        # snap_encode is always the library's.
        assert envs.get("DAMOCLES_PC2_ENGINE") == (None if goal == "snapup" else "crate")
    settings, findings = read(tmp_path, text, trees["example_3"])
    report = Report("machine")
    gpu.check_host(settings, {}, 8, report)
    assert findings == [] and report.findings == []


def test_a_gpu_program_is_not_given_the_variables_of_this_one(trees: dict[str, Path]) -> None:
    text = suggest(Wishes(gpu_program=GPU_PROGRAM), trees["example_3"]).text
    assert "DAMOCLES_" not in text


def test_devices_are_numbered_by_the_bus_not_by_the_node(tmp_path: Path) -> None:
    provider = PROVIDERS["example_3"]()
    # The first GPU on the bus is at the second node, another vendor's is before both.
    tree = record_provider(tmp_path, type(provider)(provider.machine, (1, 0, 1), provider.nvme))
    (tree / "sys/bus/pci/devices/0000:21:00.0/vendor").write_text("0x1002")
    text = suggest(Wishes(gpu_program=GPU_PROGRAM), tree).text
    devices = {
        entry["numa_preferred"]: entry["envs"]["CUDA_VISIBLE_DEVICES"]
        for entry in tomllib.loads(text)["processors"]["c2"]
        if "envs" in entry
    }
    assert devices == {0: "0", 1: "1"}


def test_the_forecast_is_of_this_programs_provers_on_this_cpu(tmp_path: Path) -> None:
    plain = record_provider(tmp_path / "plain", PROVIDERS["guide"]())
    wide = record_provider(tmp_path / "wide", PROVIDERS["guide"]())
    cpuinfo = wide / "proc/cpuinfo"
    cpuinfo.write_text(cpuinfo.read_text().replace("sha_ni", "sha_ni avx512f avx512ifma"))
    without, with_ifma = suggest(Wishes(), plain).text, suggest(Wishes(), wide).text
    assert "11.5 core-hours" in without and "59 core-hours" in without
    assert "2.5 core-hours" in with_ifma and "19.8 core-hours" in with_ifma
    assert expected_per_day(with_ifma) > 1.5 * expected_per_day(without)
    assert "without AVX-512 IFMA" in without and "and with AVX-512 IFMA" in with_ifma.replace("\n# ", " ")
    # The library would take 128 GiB for C2; on GPUs it is the library that computes.
    assert "24 GiB  pc2 or c2" in with_ifma or "48 GiB  pc2 or c2, 2 at a time" in with_ifma


# ---- what can't be suggested ---------------------------------------------------------------------


def test_too_little_memory_is_told_with_the_sum(tmp_path: Path) -> None:
    result = command("suggest", "--fsroot", str(record(tmp_path, MACHINES["no_l3"]())))
    assert isinstance(result.exception, WorkerError)
    assert "89 GiB of memory (24 GiB for pc2 and c2, which take turns, 64 GiB for the labels" in str(
        result.exception
    )
    assert "this machine has 16 GiB" in str(result.exception)


def test_a_gpu_program_without_a_gpu_is_refused(trees: dict[str, Path]) -> None:
    with pytest.raises(WorkerError, match="gpu-prover is to compute on GPUs, and the machine has none"):
        suggest(Wishes(gpu_program=GPU_PROGRAM), trees["guide"])


def test_a_disk_without_room_for_a_sector_is_named(tmp_path: Path) -> None:
    provider = PROVIDERS["example_4"]()
    tree = record_provider(tmp_path, type(provider)(provider.machine, (), {"/mnt/md0": 400}))
    with pytest.raises(WorkerError, match=r"no room for one: /mnt/md0 \(400 GiB\)") as raised:
        suggest(Wishes(), tree)
    assert "--sealing" in raised.value.next_step


def test_a_tree_without_cpus_is_an_error_and_garbage_in_one_is_told(tmp_path: Path) -> None:
    with pytest.raises(WorkerError, match="cpus of the machine can't be read"):
        suggest(Wishes(), tmp_path)
    tree = record(tmp_path / "tree", MACHINES["two_sockets"]())
    (tree / "proc/self/limits").write_text("garbage")
    (tree / "sys/devices/system/cpu/cpu3/cache/index3/size").write_text("plenty")
    result = command("suggest", "--fsroot", str(tree))
    assert result.exit_code == 0
    assert "not read: /sys/devices/system/cpu/cpu3/cache/index3/size: 'plenty'" in result.stderr
    assert "not read: /proc/self/limits" in result.stderr


def test_an_upgrade_is_said_to_take_more_with_a_transfer_processor(trees: dict[str, Path]) -> None:
    """That may copy the old replica, and the daemon reserves room for it then."""
    text = suggest(Wishes(goal="snapup"), trees["guide"]).text
    prose = " ".join(text.replace("\n# ", " ").split())
    for copied, words in ((False, "it takes up to"), (True, "With [[processors.transfer]] it is up to")):
        needed = plan_bytes("snapup", SECTOR_SIZES["32GiB"], synthetic=True, copied=copied)
        assert f"{words} {format_size(needed)}" in prose
    assert "processors.transfer" not in suggest(Wishes(), trees["guide"]).text


def test_an_unknown_goal_is_a_usage_error(trees: dict[str, Path]) -> None:
    result = command("suggest", "--goal", "nipo", "--fsroot", str(trees["guide"]))
    assert result.exit_code == 2 and "'cc', 'deals', 'snapup'" in result.stderr
