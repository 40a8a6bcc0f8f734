"""What the settings are: defaults, every key, merging, and the words of older releases."""

from __future__ import annotations

from pathlib import Path

import pytest

from damocles_worker.config.load import load
from damocles_worker.config.settings import Attached, Metrics, Processor, Sealing, Worker
from tests.unit.config.support import MINIMAL, inspected, only, settings_of

EVERYTHING = """\
[worker]
name = "w1"
rpc_server.host = "127.0.0.1"
rpc_server.port = 1
ping_interval = "1min"
local_pieces_dirs = ["/p1", "/p2"]
ScanPersistStores = ["/mnt/*"]
[metrics]
enable = true
http_listen = "[::1]:9001"
[sector_manager]
rpc_client.addr = "http://10.0.0.5:1789"
rpc_client.headers = { User-Agent = "x" }
piece_token = "t"
[sealing]
allowed_miners = [1000, 1001]
allowed_sizes = ["2KiB", " 32 gib "]
enable_deals = true
disable_cc = true
max_deals = 3
min_deal_space = "8GiB"
max_retries = 7
seal_interval = "1s"
recover_interval = "2s"
rpc_polling_interval = "3s"
ignore_proof_check = true
request_task_max_retries = 4
verify_after_pc2 = true
verify_persist = true
ticket_max_age = "1h"
[[sealing_thread]]
location = "/s"
plan = "rebuild"
[[attached]]
location = "/"
readonly = true
[processors]
limitation.concurrent = { pc1 = 2, synth_proof = 1, c1 = 3, transfer = 1 }
limitation.staggered = { pc1 = "5min", pc2 = "0s" }
ext_locks = { gpu = 1 }
static_tree_d = { 2KiB = "/t" }
[[processors.c2]]
bin = "/bin/true"
args = ["a"]
stable_wait = "9s"
cgroup.cpuset = "0-3,8"
cgroup.group_name = "g"
envs = { A = "b" }
inherit_envs = false
numa_preferred = -1
concurrent = 2
locks = ["gpu"]
auto_restart = false
"""


def test_every_key_reaches_its_setting(tmp_path: Path) -> None:
    settings = settings_of(tmp_path, EVERYTHING)
    assert settings.worker == Worker("w1", "127.0.0.1", 1, 60, ("/p1", "/p2"), ("/mnt/*",))
    assert settings.metrics == Metrics(True, "[::1]:9001")
    assert settings.manager.addr == "http://10.0.0.5:1789"
    assert settings.manager.headers == {"User-Agent": "x"}
    assert settings.manager.piece_token == "t"
    assert settings.sealing == Sealing(
        allowed_miners=(1000, 1001),
        allowed_sizes=(2048, 32 << 30),
        enable_deals=True,
        disable_cc=True,
        max_deals=3,
        min_deal_space=8 << 30,
        max_retries=7,
        seal_interval=1,
        recover_interval=2,
        rpc_polling_interval=3,
        ignore_proof_check=True,
        request_task_max_retries=4,
        verify_after_pc2=True,
        verify_persist=True,
        ticket_max_age=3600,
    )
    assert [(t.location, t.plan, t.sealing == settings.sealing) for t in settings.threads] == [
        ("/s", "rebuild", True)
    ]
    assert settings.attached == (Attached("/", "/", True, "attached[0]"),)
    assert settings.processors.concurrent == {"pc1": 2, "synth_proof": 1, "c1": 3, "transfer": 1}
    assert settings.processors.staggered == {"pc1": 300}
    assert settings.processors.ext_locks == {"gpu": 1}
    assert settings.processors.static_tree_d == {2048: "/t"}
    assert settings.processors.stages == {
        "c2": (
            Processor(
                bin="/bin/true",
                args=("a",),
                stable_wait=9,
                cpuset="0-3,8",
                cgroup_group_name="g",
                envs={"A": "b"},
                inherit_envs=False,
                numa_preferred=-1,
                concurrent=2,
                locks=("gpu",),
                auto_restart=False,
            ),
        )
    }


def test_defaults_are_those_of_the_document(tmp_path: Path) -> None:
    settings = settings_of(tmp_path, MINIMAL)
    assert settings.worker == Worker(None, "0.0.0.0", 17890, 30)
    assert settings.metrics == Metrics(False, "0.0.0.0:9000")
    assert (settings.sealing.max_retries, settings.sealing.request_task_max_retries) == (5, 3)
    assert (settings.sealing.seal_interval, settings.sealing.recover_interval) == (30, 30)
    assert settings.sealing.rpc_polling_interval == 180
    assert settings.sealing.ticket_max_age == 2880 * 30
    assert settings.sealing.allowed_miners is None
    assert settings.threads[0].plan == "sealer"


def test_an_entry_of_a_stage_without_keys_has_the_defaults(tmp_path: Path) -> None:
    processor = settings_of(tmp_path, MINIMAL + "[[processors.tree_d]]\n").processors.stages["tree_d"][0]
    assert processor == Processor(
        stable_wait=5, inherit_envs=True, auto_restart=True, cgroup_group_name="vc-worker"
    )


def test_a_thread_overrides_the_common_policy_field_by_field(tmp_path: Path) -> None:
    text = MINIMAL.replace(
        '"/stores/1"',
        '"/stores/1"\nsealing.allowed_miners = []\nsealing.max_retries = 9\nsealing.max_deals = 1',
    )
    settings = settings_of(
        tmp_path, text + "[sealing]\nallowed_miners = [1]\nmax_retries = 2\nenable_deals = true\n"
    )
    thread = settings.threads[0].sealing
    assert (thread.allowed_miners, thread.max_retries, thread.max_deals, thread.enable_deals) == (
        (),
        9,
        1,
        True,
    )
    assert settings.sealing.allowed_miners == (1,)


def test_an_unnamed_store_has_its_real_path_as_name(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "disk")
    settings = settings_of(
        tmp_path, MINIMAL.replace('name = "persist"\nlocation = "/persist"', f'location = "{tmp_path}/link"')
    )
    assert settings.attached[0].name == str(tmp_path / "disk")


def test_sizes_given_as_numbers_are_bytes(tmp_path: Path) -> None:
    assert (
        settings_of(tmp_path, MINIMAL + "[sealing]\nmin_deal_space = 1000.0\n").sealing.min_deal_space == 1000
    )


def test_the_old_limit_table_works_alone_and_yields_to_the_new_one(tmp_path: Path) -> None:
    old = MINIMAL + "[processors.limit]\npc1 = 3\n"
    assert settings_of(tmp_path, old).processors.concurrent == {"pc1": 3}
    assert "old name" in only(inspected(tmp_path, old).findings, "processors.limit").message
    both = old + "[processors.limitation.concurrent]\n"
    assert settings_of(tmp_path, both).processors.concurrent == {}
    assert "ignored" in only(inspected(tmp_path, both).findings, "processors.limit").message


def test_the_single_piece_directory_works_alone_and_yields_to_the_list(tmp_path: Path) -> None:
    assert settings_of(
        tmp_path, MINIMAL + '[worker]\nlocal_pieces_dir = "/p"\n'
    ).worker.local_pieces_dirs == ("/p",)
    both = MINIMAL + '[worker]\nlocal_pieces_dir = "/p"\nlocal_pieces_dirs = []\n'
    assert settings_of(tmp_path, both).worker.local_pieces_dirs == ()
    assert "ignored" in only(inspected(tmp_path, both).findings, "worker.local_pieces_dir").message


def test_a_remote_store_is_one_more_attached_store(tmp_path: Path) -> None:
    text = MINIMAL + '[remote_store]\nname = "old"\nlocation = "/old"\nreadonly = true\n'
    assert settings_of(tmp_path, text).attached == (
        Attached("persist", "/persist", False, "attached[0]"),
        Attached("old", "/old", True, "remote_store"),
    )
    assert only(inspected(tmp_path, text).findings, "remote_store").level == "warning"


def test_capital_attached_is_read_as_attached(tmp_path: Path) -> None:
    text = MINIMAL.replace("[[attached]]", "[[Attached]]")
    assert [store.name for store in settings_of(tmp_path, text).attached] == ["persist"]
    assert only(inspected(tmp_path, text).findings, "Attached").level == "warning"
    both = MINIMAL + '[[Attached]]\nname = "b"\nlocation = "/b"\n'
    assert [store.name for store in settings_of(tmp_path, both).attached] == ["persist"]
    assert "ignored" in only(inspected(tmp_path, both).findings, "Attached").message


def test_scanned_stores_are_enough(tmp_path: Path) -> None:
    text = MINIMAL.replace('[[attached]]\nname = "persist"\nlocation = "/persist"\n', "")
    settings = settings_of(tmp_path, text + '[worker]\nscan_persist_stores = ["/mnt/**/store?"]\n')
    assert settings.worker.scan_persist_stores == ("/mnt/**/store?",)


@pytest.mark.parametrize("second", ["/stores/1/", "/stores/./1", "/stores/x/../1"])
def test_one_store_for_two_threads_is_an_error_however_it_is_written(tmp_path: Path, second: str) -> None:
    text = MINIMAL + f'[[sealing_thread]]\nlocation = "{second}"\n'
    finding = only(inspected(tmp_path, text).findings, "sealing_thread[1].location")
    assert (finding.level, finding.line) == ("error", 8)
    assert "(line 3)" in finding.message


def test_a_file_with_an_error_gives_no_settings(tmp_path: Path) -> None:
    path = tmp_path / "worker.toml"
    path.write_text(MINIMAL + "wrong = 1\n")
    settings, findings = load(str(path))
    assert settings is None
    assert [finding.path for finding in findings] == ["attached[0].wrong"]


def test_slash_before_a_control_group_changes_nothing(tmp_path: Path) -> None:
    """In version 2 it made the group at the root of the file system."""
    text = MINIMAL + '[[processors.pc1]]\ncgroup.group_name = "/a/b"\n'
    assert settings_of(tmp_path, text).processors.stages["pc1"][0].cgroup_group_name == "a/b"
