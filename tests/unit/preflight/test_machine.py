"""What a preflight says of cpus, limits, huge pages, space and parents caches."""

from __future__ import annotations

from pathlib import Path

import pytest

from damocles_worker.config.settings import Settings
from damocles_worker.filesystem import free_bytes
from damocles_worker.preflight import hugepages, machine, parents, space
from damocles_worker.preflight.work import pc1_by_node
from damocles_worker.stores.space import plan_bytes
from damocles_worker.units import format_size
from tests.unit import mounts
from tests.unit.config.support import settings_of
from tests.unit.hardware import trees
from tests.unit.preflight.support import of, settings, unread

NODES = {0: frozenset(range(4)), 1: frozenset(range(4, 8))}
GIB32 = '"32GiB"'


@pytest.fixture
def host(tmp_path: Path) -> Path:
    """Two nodes of four cpus, 96 pages of 1 GiB on each, half of them free."""
    return trees.machine(
        tmp_path / "host", nodes=["0-3", "4-7"], l3=["0-3", "4-7"], huge_pages=96, memory=256 << 30
    )


def pc1(cpuset: str, concurrent: int) -> str:
    return f'[[processors.pc1]]\ncgroup.cpuset = "{cpuset}"\nconcurrent = {concurrent}\n'


# ---- findings of the check -----------------------------------------------------------------------


def test_a_fitting_machine_is_all_ok_with_what_was_looked_at(tmp_path: Path, host: Path) -> None:
    lines = machine.look(settings(tmp_path, pc1("0-3", 1)), root=host, environ={})
    assert {line.level for line in lines} == {"ok"}
    assert [line.area for line in lines] == ["stores", "cpus", "limits"]
    assert of(lines, "open files").found == "1048576" and of(lines, "open files").needed == "320"


def test_findings_become_lines_with_area_place_and_next_step(tmp_path: Path, host: Path) -> None:
    config = settings(tmp_path, pc1("0-9", 1))
    (tmp_path / "persist").rmdir()
    lines = machine.look(config, root=host, environ={"FIL_PROOFS_USE_GPU_TREE_BUILDER": "1"})
    cpus = of(lines, "processors.pc1[0].cgroup.cpuset")
    assert (cpus.level, cpus.area, cpus.command) == ("problem", "cpus", "write cpus of 0-7")
    store = of(lines, "attached[0].location")
    assert (store.level, store.area) == ("problem", "stores") and "mkdir -p" in store.command
    assert {line.area for line in lines if line.level == "warning"} == {"environment"}


def test_two_stores_that_were_given_each_others_names_are_warned_of(tmp_path: Path, host: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    for disk in (one, two):
        disk.mkdir()
        (disk / "sectorstore.json").write_text(f'{{"ID": "7", "Name": "{disk.name}"}}')

    def warned(*stores: str) -> dict[str, str]:
        config = settings(tmp_path, "".join(f"[[attached]]\n{store}\n" for store in stores))
        lines = machine.look(config, root=host, environ={})
        return {line.subject: line.found for line in lines if line.level == "warning"}

    assert not warned(f'name = "one"\nlocation = "{one}"', f'name = "two"\nlocation = "{two}"')
    assert warned(f'name = "two"\nlocation = "{one}"', f'name = "one"\nlocation = "{two}"') == {
        "attached[1].name": f'"{one}" is named "two" here and "one" in its sectorstore.json',
        "attached[2].name": f'"{two}" is named "one" here and "two" in its sectorstore.json',
    }
    assert list(warned(f'location = "{one}"')) == ["attached[1].location"]


def test_a_store_that_takes_no_file_is_a_problem_whatever_its_mode(tmp_path: Path, host: Path) -> None:
    with mounts.small_disk(tmp_path / "disk") as disk:
        mounts.fill(disk)
        config = settings(tmp_path, f'[[attached]]\nname = "full"\nlocation = "{disk}"\n')
        line = of(machine.look(config, root=host, environ={}), str(disk))
    assert line.level == "problem" and "no space left" in line.found


def test_locked_memory_matters_to_huge_page_files_only(tmp_path: Path, host: Path) -> None:
    files = 'envs = { HUGEPAGE_FILES_PATH = "/huge" }\n'
    config = settings(tmp_path, pc1("0-3", 2) + files, sizes=GIB32)
    line = of(machine.look(config, root=host, environ={}), "locked memory")
    assert (line.level, line.needed) == ("warning", "128 GiB")
    assert line.found.startswith("8 MiB") and "LimitMEMLOCK=infinity" in line.command
    plain = settings(tmp_path, pc1("0-3", 2), sizes=GIB32)
    assert all(line.subject != "locked memory" for line in machine.look(plain, root=host, environ={}))


# ---- huge pages ----------------------------------------------------------------------------------


def test_pc1_tasks_are_counted_on_the_nodes_of_their_processors(tmp_path: Path) -> None:
    bound = settings(tmp_path, pc1("0-3", 3) + pc1("4-5", 1) + pc1("6-7", 1), threads=5)
    assert pc1_by_node(bound, NODES) == {0: 3, 1: 2}
    across = settings(tmp_path, pc1("2-5", 2), threads=5)
    assert pc1_by_node(across, NODES) == {0: 1, 1: 1}
    preferred = settings(tmp_path, "[[processors.pc1]]\nnuma_preferred = 1\nconcurrent = 2\n", threads=5)
    assert pc1_by_node(preferred, NODES) == {0: 0, 1: 2}
    inside = settings(tmp_path, "[processors.limitation.concurrent]\npc1 = 3\n", threads=5)
    assert pc1_by_node(inside, NODES) == {0: 2, 1: 1}
    foreign = settings(tmp_path, '[[processors.pc1]]\nbin = "/bin/true"\n', threads=5)
    assert pc1_by_node(foreign, NODES) == {0: 0, 1: 0}


def test_each_node_is_told_its_pages_and_the_command_for_more(tmp_path: Path, host: Path) -> None:
    config = settings(tmp_path, pc1("0-3", 1) + pc1("4-7", 2), sizes=GIB32, threads=3)
    lines = hugepages.look(config, host)
    enough, short = of(lines, "node 0"), of(lines, "node 1")
    assert (enough.level, enough.command) == ("ok", "")
    assert enough.found == "96 pages of 1 GiB, 48 of them free"
    assert (short.level, short.needed) == ("warning", "128 for 2 sector(s) of 32GiB in PC1")
    assert short.command.startswith("echo 176 > /sys/devices/system/node/node1/hugepages/")


def test_small_sectors_other_programs_and_upgrades_need_no_huge_pages(tmp_path: Path, host: Path) -> None:
    assert hugepages.look(settings(tmp_path, sizes='"2KiB", "8MiB"'), host) == []
    foreign = '[[processors.pc1]]\nbin = "/bin/true"\n'
    assert hugepages.look(settings(tmp_path, foreign, sizes=GIB32), host) == []
    upgrade = settings(tmp_path, sizes=GIB32).path
    text = Path(upgrade).read_text().replace("location", 'plan = "snapup"\nlocation', 1)
    assert hugepages.look(settings_of(tmp_path, text), host) == []


def test_a_kernel_without_huge_pages_is_told(tmp_path: Path) -> None:
    host = trees.machine(tmp_path / "bare", nodes=["0-3"], l3=[])
    for file in host.glob("sys/devices/system/node/node0/hugepages/*/*"):
        file.unlink()
    (line,) = hugepages.look(settings(tmp_path, sizes=GIB32), host)
    assert line.level == "warning" and "plain memory" in line.found


# ---- space ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("size", "level", "text"),
    [("64m", "ok", ""), ("2m", "warning", "room for 1"), ("1m", "problem", "no room for a single sector")],
)
def test_space_is_counted_for_all_threads_of_a_file_system(
    tmp_path: Path, size: str, level: str, text: str
) -> None:
    with mounts.small_disk(tmp_path / "disk", size) as disk:
        lines = space.look(settings(disk, threads=2))
        line = of([line for line in lines if "sector(s) at once" in line.needed], str(disk))
        assert line.level == level and text in line.found
        assert "for 2 sector(s) at once" in line.needed
        assert ("or give it 1 sealing thread(s) in place of 2" in line.command) == (level != "ok")


def test_what_sectors_under_way_have_written_counts_for_them(tmp_path: Path) -> None:
    with mounts.small_disk(tmp_path / "disk", "4m") as disk:
        config = settings(disk, threads=2)
        data = disk / "1/data"
        data.mkdir(parents=True)
        (data / "layer").write_bytes(bytes(2 << 20))
        line = of([line for line in space.look(config) if "at once" in line.needed], str(disk))
        assert line.level == "ok" and line.found.endswith("2 MiB in sectors")


@pytest.mark.parametrize("transfer", ["", "[[processors.transfer]]\n"])
def test_space_of_an_upgrade_counts_the_old_replica_where_a_processor_may_copy_it(
    tmp_path: Path, transfer: str
) -> None:
    """The daemon reserved more than the preflight said, and waited for space."""
    text = f'[[sealing_thread]]\nlocation = "{tmp_path}/up"\nplan = "snapup"\n{transfer}'
    config = settings(tmp_path, text, sizes='"512MiB"')
    (line,) = [line for line in space.look(config) if "at once" in line.needed]
    needed = [
        plan_bytes(plan, 512 << 20, synthetic=True, copied=bool(transfer)) for plan in ("sealer", "snapup")
    ]
    assert line.needed == f"{format_size(sum(needed))} for 2 sector(s) at once"


def test_an_attached_store_has_room_for_a_sector(tmp_path: Path) -> None:
    config = settings(tmp_path, sizes='"512MiB"')
    with mounts.small_disk(tmp_path / "disk", "8m") as disk:
        text = f'[[attached]]\nname = "small"\nlocation = "{disk}"\n'
        line = of(space.look(settings(tmp_path, text, sizes='"512MiB"')), "small")
        assert line.level == "warning" and "finished sectors wait" in line.found
    assert of(space.look(config), "persist").needed.endswith("for one 512MiB sector")


# ---- parents caches ------------------------------------------------------------------------------


def test_a_missing_parents_cache_is_made_by_pc1_and_told_where_that_is_long(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FIL_PROOFS_PARENT_CACHE", str(tmp_path / "none"))
    small = parents.look(settings(tmp_path), read=True, reading=unread)
    assert [(line.level, line.subject) for line in small] == [
        ("ok", "StackedDrg2KiBV1_1"),
        ("ok", "StackedDrg2KiBV1_1_Feat_SyntheticPoRep"),
    ]
    large = parents.look(settings(tmp_path, sizes=GIB32), read=True, reading=unread)[0]
    assert large.needed == "56 GiB"
    if free_bytes(tmp_path) >= 56 << 30:
        assert large.level == "warning"
        assert large.command == "damocles-worker generator parents-cache -s 32GiB --variant v1_1"
    else:
        assert large.level == "problem"
    assert not (tmp_path / "none").exists()


def test_no_room_for_a_parents_cache_is_a_problem(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with mounts.small_disk(tmp_path / "disk", "1m") as disk:
        monkeypatch.setenv("FIL_PROOFS_PARENT_CACHE", str(disk / "parents"))
        line = parents.look(settings(tmp_path, sizes=GIB32), read=True, reading=unread)[0]
        assert line.level == "problem" and "are free for it" in line.found


def test_a_parents_cache_of_the_wrong_size_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FIL_PROOFS_PARENT_CACHE", str(tmp_path))
    path = Path(parents.look(settings(tmp_path), read=False, reading=unread)[0].found.split(" ")[0])
    path.write_bytes(b"short")
    line = parents.look(settings(tmp_path), read=False, reading=unread)[0]
    assert line.level == "ok"  # made again in no time
    assert f"{path}: 5 bytes found, 3584 expected" in line.found


def test_a_digest_is_compared_when_asked_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FIL_PROOFS_PARENT_CACHE", str(tmp_path))
    path = Path(parents.look(settings(tmp_path), read=False, reading=unread)[0].found.split(" ")[0])
    path.write_bytes(bytes(3584))
    quick = parents.look(settings(tmp_path), read=False, reading=unread)[0]
    assert quick.level == "ok" and "the first PC1 compares its digest" in quick.found
    read = parents.look(settings(tmp_path), read=True, reading=lambda *_: None)[0]
    assert "its SHA-256 is" in read.found


def test_other_programs_and_the_library_have_their_own_parents_caches(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    foreign = settings(tmp_path, '[[processors.pc1]]\nbin = "/bin/true"\n')
    assert parents.look(foreign, read=False, reading=unread) == []
    monkeypatch.setenv("DAMOCLES_PC1_ENGINE", "crate")
    assert parents.look(settings(tmp_path), read=False, reading=unread) == []


def test_a_processors_own_parents_cache_is_looked_at_in_its_place(tmp_path: Path) -> None:
    own = tmp_path / "own"
    text = f'[[processors.pc1]]\nenvs = {{ FIL_PROOFS_PARENT_CACHE = "{own}" }}\n'
    config = settings(tmp_path, text)
    line = parents.look(config, read=True, reading=unread)[0]
    path = Path(line.found.split(" ")[0])
    assert path.parent == own and "is missing" in line.found
    own.mkdir()
    path.write_bytes(bytes(3584))
    assert "has the right size" in parents.look(config, read=True, reading=unread)[0].found


# ---- stores that are looked for by a pattern -------------------------------------------------------


def scanned(directory: Path, sectorstore: str) -> Settings:
    (directory / "mnt" / "one").mkdir(parents=True)
    (directory / "mnt" / "one" / "sectorstore.json").write_text(sectorstore)
    return settings(directory, f'[worker]\nscan_persist_stores = ["{directory}/mnt/*"]\n', sizes='"512MiB"')


def test_scanned_stores_are_written_to_and_have_their_space_counted(tmp_path: Path, host: Path) -> None:
    config = scanned(tmp_path, '{"ID": "1", "Name": "found"}')
    line = of(machine.look(config, root=host, environ={}), "1 sealing, 2 attached")
    assert line.level == "ok"
    assert of(space.look(config), "found").needed.endswith("for one 512MiB sector")


def test_a_scanned_store_that_would_end_the_start_is_a_problem(tmp_path: Path, host: Path) -> None:
    line = of(machine.look(scanned(tmp_path, "{"), root=host, environ={}), "worker.scan_persist_stores[0]")
    assert line.level == "problem" and "sectorstore.json" in line.found
