"""The files of the documentation, verbatim, and one file with ten mistakes."""

from __future__ import annotations

from pathlib import Path

from damocles_worker.config.load import inspect, load
from tests.unit.config.support import VECTORS, inspected, only, settings_of


def test_the_documented_sample_has_no_error() -> None:
    settings, findings = load(str(VECTORS / "seed-sample.toml"))
    assert [finding for finding in findings if finding.level == "error"] == []
    assert settings is not None
    assert settings.manager.addr == "/ip4/127.0.0.1/tcp/1789"
    assert [thread.location for thread in settings.threads] == [f"./mock-tmp/store{n}" for n in (1, 2, 3)]
    assert all(thread.plan == "sealer" and thread.sealing.max_retries == 3 for thread in settings.threads)
    assert settings.sealing.enable_deals
    pc1 = settings.processors.stages["pc1"]
    assert [(entry.numa_preferred, entry.cpuset) for entry in pc1] == [(0, "4-5"), (0, "6-7"), (1, "12-13")]
    assert pc1[0].envs == {"RUST_LOG": "info"}
    assert [entry.cpuset for entry in settings.processors.stages["pc2"]] == [None, "28-31"]


def test_the_documented_minimal_file_asks_for_its_placeholders_and_keeps_its_remote_store() -> None:
    inspection = inspect(str(VECTORS / "seed-minimal.toml"))
    address = only(inspection.findings, "sector_manager.rpc_client.addr")
    assert (address.level, address.line) == ("error", 2)
    assert '"{some_ip}"' in address.message and "placeholder" in address.message
    store = only(inspection.findings, "remote_store")
    assert (store.level, store.line) == ("warning", 30)
    errors = [finding for finding in inspection.findings if finding.level == "error"]
    assert len(errors) == 13
    assert all("placeholder" in finding.message for finding in errors)


def test_the_minimal_file_works_once_it_is_filled_in(tmp_path: Path) -> None:
    text = (VECTORS / "seed-minimal.toml").read_text()
    for placeholder, value in (
        ("{some_ip}", "10.0.0.5"),
        ("{remote store name}", "persist"),
        ("{path to remote store}", "/persist"),
        *((f"{{path to sealing store{n}}}", f"/stores/{n}") for n in range(1, 9)),
        *((f"{{path to static tree_d for {size}}}", f"/trees/{size}") for size in ("32GiB", "64GiB")),
    ):
        text = text.replace(placeholder, value)
    settings = settings_of(tmp_path, text)
    assert [(store.name, store.location) for store in settings.attached] == [("persist", "/persist")]
    assert settings.processors.static_tree_d == {32 << 30: "/trees/32GiB", 64 << 30: "/trees/64GiB"}
    gpu = [finding for finding in inspected(tmp_path, text).findings if "no GPU code" in finding.message]
    assert [finding.path for finding in gpu] == [
        "processors.pc2[0].envs",
        "processors.pc2[1].envs",
        "processors.c2[0].envs",
    ]


#: What published deployments use: the old limit table, tables with comments only, dotted keys and
#: inline tables in entries, custom programs beside built-in ones, shared locks, overlapping cpu sets.
DEPLOYMENT = """
[sector_manager]
rpc_client.addr = "/ip4/10.0.0.5/tcp/1789"
[sealing]
enable_deals = true
[[sealing_thread]]
location = "/nvme/1"
sealing.allowed_miners = [1000]
sealing.allowed_sizes = ["32GiB"]
[[sealing_thread]]
location = "/nvme/2"
sealing.allowed_miners = [1000]
sealing.allowed_sizes = ["32GiB"]
[[attached]]
name = "persist"
location = "/persist"
[processors.limit]
pc1 = 12
pc2 = 1
c2 = 2
[processors.ext_locks]
gpu1 = 1
[processors.static_tree_d]
# 32GiB = "./tmp/32g/sc-02-data-tree-d.dat"
[[processors.tree_d]]
[[processors.pc1]]
numa_preferred = 0
cgroup.cpuset = "0-2"
concurrent = 1
envs = { RUST_LOG = "Info" }
[[processors.pc2]]
cgroup.cpuset = "1,3,5,7,9,10-15"
locks = ["gpu1"]
[[processors.c2]]
bin = "/usr/local/bin/gpuproxy-plugin"
args = ["run", "--gpuproxy-url", "http://10.0.0.9:18888", "--poll-task-interval", "60"]
[[processors.c2]]
cgroup.cpuset = "1,3,5,7,9,10-15"
locks = ["gpu1"]
envs = { BELLMAN_CUSTOM_GPU = "Name:cores" }
"""


def test_what_published_deployments_use_has_no_error(tmp_path: Path) -> None:
    settings = settings_of(tmp_path, DEPLOYMENT)
    assert settings.processors.concurrent == {"pc1": 12, "pc2": 1, "c2": 2}
    assert [entry.bin for entry in settings.processors.stages["c2"]] == [
        "/usr/local/bin/gpuproxy-plugin",
        None,
    ]
    assert [thread.sealing.allowed_sizes for thread in settings.threads] == [(32 << 30,), (32 << 30,)]


def test_ten_mistakes_are_ten_errors_with_their_lines() -> None:
    settings, findings = load(str(VECTORS / "ten-mistakes.toml"))
    assert settings is None
    errors = [(finding.line, finding.path) for finding in findings if finding.level == "error"]
    assert errors == [
        (5, "sealing.allowed_sizes[1]"),
        (6, "sealing.max_retires"),
        (7, "sealing.seal_interval"),
        (8, "sealing.enable_deals"),
        (14, "sealing_thread[1].location"),
        (15, "sealing_thread[1].plan"),
        (22, "processors.limitation.concurrent.pc1"),
        (23, "processors.limitation.concurrent.pc3"),
        (29, "processors.pc2[0].locks[0]"),
        (30, "processors.pc2[0].cgroup.cpuset"),
    ]
    assert all(finding.next_step for finding in findings)
