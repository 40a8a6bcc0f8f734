"""Every kind of value that is refused or warned of, with where and why; and what is accepted."""

from __future__ import annotations

from pathlib import Path

import pytest

from damocles_worker.config.findings import nearest
from damocles_worker.config.schema import ROOT, Alias, Key, Table
from tests.unit.config.support import MINIMAL, inspected, only, settings_of

ERRORS = [
    ("[worker]\nrpc_server.port = 70000", "worker.rpc_server.port", "found 70000, expected 0 to 65535"),
    ('[worker]\nrpc_server.host = "worker-1"', "worker.rpc_server.host", "host names are not looked up"),
    ("[worker]\nport = 1", "worker.port", "unknown key"),
    ("[worker]\nname = 7", "worker.name", "found an integer (7), expected a string"),
    ("[worker]\nping_interval = 30", "worker.ping_interval", "expected a duration as a string"),
    ('[worker]\nlocal_pieces_dirs = "/pieces"', "worker.local_pieces_dirs", "expected an array"),
    ("[worker]\nlocal_pieces_dirs = [1]", "worker.local_pieces_dirs[0]", "found an integer (1)"),
    (
        "worker.ScanPersistStores = []\nworker.scan_persist_stores = []",
        "worker.ScanPersistStores",
        "given twice",
    ),
    ('[metrics]\nhttp_listen = "localhost:9000"', "metrics.http_listen", "not an IP address"),
    ('[metrics]\nhttp_listen = "0.0.0.0"', "metrics.http_listen", "no port"),
    ("[metrics]\nenable = 1", "metrics.enable", "expected true or false"),
    ('[sealing]\nallowed_miners = ["t01000"]', "sealing.allowed_miners[0]", "expected an actor id"),
    ("[sealing]\nallowed_miners = [-1]", "sealing.allowed_miners[0]", "found -1"),
    ("[sealing]\nallowed_miners = 1000", "sealing.allowed_miners", "expected an array"),
    (
        '[sealing]\nallowed_sizes = ["3GiB"]',
        "sealing.allowed_sizes[0]",
        '"3GiB" (3 GiB) is not a sector size',
    ),
    ("[sealing]\nallowed_sizes = [2048]", "sealing.allowed_sizes[0]", "as a string"),
    ("[sealing]\nmin_deal_space = -1", "sealing.min_deal_space", "expected a number of bytes"),
    ('[sealing]\nmin_deal_space = "1000ZiB"', "sealing.min_deal_space", "more than the manager can be told"),
    ('[sealing]\nmin_deal_space = "8 giga"', "sealing.min_deal_space", '"giga" is not a unit'),
    ("[sealing]\nmax_retries = 4294967296", "sealing.max_retries", "0 to 4294967295"),
    ("[sealing]\nmax_retries = 1.5", "sealing.max_retries", "number with a fraction"),
    ('[sealing]\nticket_max_age = "0s"', "sealing.ticket_max_age", "no time at all"),
    ("sealing = 1", "sealing", "expected a table"),
    ("[[sealing]]", "sealing", "given once"),
    ("[processors]\npc1 = []", "processors.pc1", "the list is empty"),
    ("[processors.pc1]\nconcurrent = 1", "processors.pc1", "expected an array of tables"),
    ("processors.pc1 = [1]", "processors.pc1[0]", "expected a table"),
    ("[[processors.pc3]]", "processors.pc3", 'unknown stage "pc3"'),
    ("[[processors.pc1]]\nconcurrent = 0", "processors.pc1[0].concurrent", "waits for ever"),
    ("[[processors.pc1]]\nenvs = { A = 1 }", "processors.pc1[0].envs.A", "environment variables are text"),
    ('[[processors.pc1]]\nenvs = { "A=B" = "1" }', 'processors.pc1[0].envs."A=B"', "can't be the name"),
    ('[[processors.pc1]]\ncgroup.cpuset = ""', "processors.pc1[0].cgroup.cpuset", "a number is missing"),
    (
        '[[processors.pc1]]\ncgroup.group_name = "../g"',
        "processors.pc1[0].cgroup.group_name",
        "no group below",
    ),
    (
        '[[processors.pc1]]\ncgroup.group_name = "a//g"',
        "processors.pc1[0].cgroup.group_name",
        "no group below",
    ),
    ('[[processors.pc1]]\ncgroup.group_name = "/"', "processors.pc1[0].cgroup.group_name", "no group below"),
    ('[[processors.pc1]]\ncgroup.cpuset = "7-3"', "processors.pc1[0].cgroup.cpuset", "runs backwards"),
    ('[[processors.pc1]]\ncpuset = "1"', "processors.pc1[0].cpuset", "unknown key"),
    ('[[processors.pc1]]\nstable_wait = "0s"', "processors.pc1[0].stable_wait", "no time at all"),
    ('[[processors.pc1]]\nlocks = ["gpu"]', "processors.pc1[0].locks[0]", 'unknown lock "gpu"'),
    ("[[processors.sealing_daemons]]", "processors.sealing_daemons[0].bin", "bin is missing"),
    ("[processors.ext_locks]\ngpu = 0", "processors.ext_locks.gpu", "waits for ever"),
    ('[processors.static_tree_d]\n33GiB = "/t"', "processors.static_tree_d.33GiB", "not a sector size"),
    ("[processors.static_tree_d]\n2KiB = 1", "processors.static_tree_d.2KiB", "expected a string"),
    ('processors.static_tree_d = { 2KiB = "/a", 2048 = "/b" }', "processors.static_tree_d.2048", "twice"),
    (
        '[processors.limitation.staggered]\nsynth = "5min"',
        "processors.limitation.staggered.synth",
        "unknown stage",
    ),
    (
        '[remote_store]\nlocation = "/persist2"\nname = "persist"',
        "remote_store.name",
        "is that of attached[0]",
    ),
    ("[remote_store]", "remote_store.location", "location is missing"),
]

WARNINGS = [
    ('[worker]\nping_interval = "0s"', "worker.ping_interval", "as fast as the machine can"),
    ('[sealing]\nseal_interval = "0s"', "sealing.seal_interval", "as fast as the machine can"),
    ('[sealing]\nseal_interval = "1M"', "sealing.seal_interval", "a month"),
    ("[sealing]\nignore_proof_check = true", "sealing.ignore_proof_check", "neither verified"),
    ("[sealing]\ndisable_cc = true", "sealing.disable_cc", "waits for ever"),
    ('[processors.limitation.staggered]\npc1 = "500ms"', "processors.limitation.staggered.pc1", "is ignored"),
    ("[processors.ext_locks]\ngpu = 1", "processors.ext_locks.gpu", "alone it does nothing"),
    ('[[attached]]\nlocation = "/persist/"\nname = "b"', "attached[1]", "one store under two names"),
    ('[worker]\nlocal_pieces_dirs = ["~/pieces"]', "worker.local_pieces_dirs[0]", "not expanded"),
    ("[[processors.pc1]]\nweight = 2", "processors.pc1[0].weight", "not used any more"),
    ("[[processors.c1]]", "processors.c1", "always runs inside the worker"),
    ("[attached_selection]\nenable_space_weighted = true", "attached_selection", "does nothing"),
]

PERSIST = '[[attached]]\nname = "persist"\nlocation = "/persist"\n'


@pytest.mark.parametrize(("text", "path", "message"), ERRORS)
def test_what_cannot_be_used_is_an_error(tmp_path: Path, text: str, path: str, message: str) -> None:
    finding = only(inspected(tmp_path, f"{_above(text)}").findings, path)
    assert finding.level == "error"
    assert message in finding.message
    assert finding.next_step


@pytest.mark.parametrize(("text", "path", "message"), WARNINGS)
def test_what_may_surprise_is_a_warning(tmp_path: Path, text: str, path: str, message: str) -> None:
    inspection = inspected(tmp_path, _above(text))
    finding = only(inspection.findings, path)
    assert finding.level == "warning"
    assert message in finding.message
    assert finding.next_step
    assert not [other for other in inspection.findings if other.level == "error"]


def _above(text: str) -> str:
    """Root-level keys can only stand above the first table."""
    return f"{MINIMAL}{text}\n" if text.startswith("[") else f"{text}\n{MINIMAL}"


@pytest.mark.parametrize(
    ("removed", "path"),
    [
        ('sector_manager.rpc_client.addr = "/ip4/127.0.0.1/tcp/1789"\n', "sector_manager"),
        ('[[sealing_thread]]\nlocation = "/stores/1"\n', "sealing_thread"),
        ('location = "/stores/1"\n', "sealing_thread[0].location"),
        ('[[attached]]\nname = "persist"\nlocation = "/persist"\n', "attached"),
        ('location = "/persist"\n', "attached[0].location"),
    ],
)
def test_what_is_needed_and_missing_is_an_error(tmp_path: Path, removed: str, path: str) -> None:
    assert removed in MINIMAL
    finding = only(inspected(tmp_path, MINIMAL.replace(removed, "")).findings, path)
    assert finding.level == "error"
    assert "write" in finding.next_step


@pytest.mark.parametrize(
    "address", ["", "hello", "ftp://10.0.0.5:1789", "/ip4/10.0.0.5/udp/1789", "/ip4/1.2.3/tcp/1"]
)
def test_an_address_that_cannot_be_dialled_is_an_error(tmp_path: Path, address: str) -> None:
    finding = only(
        inspected(tmp_path, MINIMAL.replace("/ip4/127.0.0.1/tcp/1789", address)).findings,
        "sector_manager.rpc_client.addr",
    )
    assert (finding.level, finding.line, finding.column) == ("error", 1, 34)


def test_a_web_socket_address_is_dialled_as_http_with_a_warning(tmp_path: Path) -> None:
    text = MINIMAL.replace("/ip4/127.0.0.1/tcp/1789", "ws://127.0.0.1:1789")
    finding = only(inspected(tmp_path, text).findings, "sector_manager.rpc_client.addr")
    assert finding.level == "warning"
    assert "http://127.0.0.1:1789/rpc/v0" in finding.next_step


def test_the_plan_niporep_is_refused_with_its_reason(tmp_path: Path) -> None:
    text = MINIMAL.replace('"/stores/1"', '"/stores/1"\nplan = "niporep"')
    finding = only(inspected(tmp_path, text).findings, "sealing_thread[0].plan")
    assert finding.level == "error"
    assert "the manager hands out no sector" in finding.message


def test_only_wdpost_works_without_a_location(tmp_path: Path) -> None:
    text = MINIMAL.replace('location = "/stores/1"', 'plan = "wdpost"')
    assert settings_of(tmp_path, text).threads[0].location is None


def test_an_empty_list_of_threads_is_accepted_with_a_warning(tmp_path: Path) -> None:
    text = "sealing_thread = []\n" + MINIMAL.replace('[[sealing_thread]]\nlocation = "/stores/1"\n', "")
    finding = only(inspected(tmp_path, text).findings, "sealing_thread")
    assert finding.level == "warning"


def test_a_lock_taken_twice_by_one_processor_is_an_error(tmp_path: Path) -> None:
    text = MINIMAL + '[processors.ext_locks]\ngpu = 1\n[[processors.c2]]\nlocks = ["gpu", "gpu"]\n'
    assert "waits for itself" in only(inspected(tmp_path, text).findings, "processors.c2[0].locks[1]").message


def test_a_lock_count_that_looks_like_a_device_number_is_warned_of(tmp_path: Path) -> None:
    text = MINIMAL + '[processors.ext_locks]\ngpu2 = 2\n[[processors.c2]]\nlocks = ["gpu2"]\n'
    assert (
        "not that of a device"
        in only(inspected(tmp_path, text).findings, "processors.ext_locks.gpu2").message
    )


def test_huge_page_files_shared_with_a_program_that_does_not_lock_them_are_warned_of(tmp_path: Path) -> None:
    entry = '[[processors.pc1]]\nenvs = { HUGEPAGE_FILES_PATH = "/huge" }\n'
    place = "processors.pc1[1].envs.HUGEPAGE_FILES_PATH"
    other = f'{entry}bin = "/opt/pc1"\n'
    for text in (entry + other, other + entry, other * 2):
        assert "overwrites labels" in only(inspected(tmp_path, MINIMAL + text).findings, place).message
    # Of this program any number may share them: a file is locked while a sector uses it.
    findings = inspected(tmp_path, MINIMAL + entry * 2).findings
    assert [finding for finding in findings if finding.path == place] == []


def test_a_key_in_the_wrong_table_is_pointed_to_the_right_one(tmp_path: Path) -> None:
    findings = inspected(
        tmp_path, MINIMAL + '[worker]\nmax_retries = 1\n[[processors.pc2]]\ncpuset = "1"\n'
    ).findings
    assert "sealing.max_retries" in only(findings, "worker.max_retries").next_step
    assert "processors.pc2.cgroup.cpuset" in only(findings, "processors.pc2[0].cpuset").next_step


@pytest.mark.parametrize(
    "value", ["piece_token = 12345", 'rpc_client.headers = { Authorization = "Bearer 12345\\n" }']
)
def test_a_secret_is_not_repeated_in_a_message(tmp_path: Path, value: str) -> None:
    text = MINIMAL.replace("sector_manager.rpc", f"sector_manager.{value}\nsector_manager.rpc", 1)
    findings = inspected(tmp_path, text).findings
    assert findings
    assert "12345" not in "".join(str(finding) for finding in findings)


def test_an_environment_secret_is_not_repeated_in_a_message(tmp_path: Path) -> None:
    findings = inspected(tmp_path, MINIMAL + "[[processors.pc1]]\nenvs = { API_TOKEN = 12345 }\n").findings
    assert "12345" not in "".join(str(finding) for finding in findings)


def test_every_key_has_a_line_of_documentation() -> None:
    def missing(table: Table, path: str) -> list[str]:
        found = [] if table.doc else [path]
        for name, entry in table.entries.items():
            if isinstance(entry, Table):
                found += missing(entry, f"{path}.{name}")
            elif isinstance(entry, Key) and not entry.doc:
                found.append(f"{path}.{name}")
            elif isinstance(entry, Alias):
                assert entry.of in table.entries
        return found

    assert missing(ROOT, "") == []


@pytest.mark.parametrize("empty", ["attached = []\n", "Attached = []\n", "worker.scan_persist_stores = []\n"])
def test_a_worker_without_an_attached_store_is_an_error(tmp_path: Path, empty: str) -> None:
    finding = only(inspected(tmp_path, empty + MINIMAL.replace(PERSIST, "")).findings, "attached")
    assert finding.level == "error"
    assert "nowhere to go" in finding.message


@pytest.mark.parametrize(("plan", "warned"), [("sealer", 1), ("snapup", 1), ("rebuild", 1), ("unseal", 0)])
def test_read_only_stores_alone_are_warned_of_where_sectors_are_stored(
    tmp_path: Path, plan: str, warned: int
) -> None:
    text = MINIMAL.replace("[[attached]]", f'plan = "{plan}"\n[[attached]]') + "readonly = true\n"
    findings = [one for one in inspected(tmp_path, text).findings if "read-only" in one.message]
    assert [(one.level, one.path, one.line) for one in findings] == [
        ("warning", "attached[0].readonly", 8)
    ] * warned
    other = '[[attached]]\nname = "b"\nlocation = "/b"\n'
    assert not [one for one in inspected(tmp_path, text + other).findings if "read-only" in one.message]


def test_a_misspelt_name_is_corrected_to_the_one_to_write_not_to_an_old_one() -> None:
    """`[[atached]]` was answered with "did you mean "Attached"?", which has a warning of its own."""
    assert nearest("atached", ["attached", "Attached"]) == "attached"
