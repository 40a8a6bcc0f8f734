"""What a pc1 child is told beside its tasks: where label memory is, and how many tasks come at once."""

from __future__ import annotations

import json
import os
import re
import struct
from pathlib import Path

import pytest

from damocles_worker import _native, affinity
from damocles_worker.processors.spec import PC1_CONCURRENT, ChildSpec
from tests.processors.test_child import Lines
from tests.unit.native.sector import SIZE, Sector


def pools(directory: Path) -> list[Path]:
    """Two files of label memory for each node of this machine: a child may run on any."""
    nodes = list(Path("/sys/devices/system/node").glob("node[0-9]*"))
    places = [directory / f"numa_{node.name.removeprefix('node')}" for node in nodes]
    return [
        path
        for place in places or [directory / "numa_0"]
        for path in _native.create_hugepage_files(place, SIZE, 2)
    ]


@pytest.mark.parametrize("given", ["path", "pattern", "environment"])
def test_labels_lie_in_the_files_it_is_given(tmp_path: Path, given: str) -> None:
    sector = Sector(tmp_path)
    task = sector.pc1_task(sector.stage_zeros())
    files = pools(tmp_path / "huge")
    arguments = {
        "path": ["--hugepage-files-path", str(tmp_path / "huge")],
        "pattern": ["--hugepage_files_path_pattern", f"{tmp_path}/huge/numa_$NUMA_NODE_INDEX"],
        "environment": [],
    }
    # An option goes before the environment.
    place = tmp_path / "huge" if given == "environment" else tmp_path / "nowhere"
    lines = Lines("pc1", *arguments[given], HUGEPAGE_FILES_PATH=str(place))
    assert lines.next() == b"pc1 processor ready\n"
    lines.send(b'{"id":1,"task":' + task + b"}\n")
    answer = json.loads(lines.next())
    assert answer["err_msg"] is None, answer
    lines.end()
    layers = {(sector.cache / f"sc-02-data-layer-{layer}.dat").read_bytes() for layer in (1, 2)}
    assert layers <= {file.read_bytes() for file in files}


def test_only_our_pc1_child_is_told_how_many_tasks_come_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    def told(spec: ChildSpec) -> str | None:
        return spec.environment(None, None).get(PC1_CONCURRENT)

    assert told(ChildSpec("pc1", 0, concurrent=3)) == "3"
    assert told(ChildSpec("pc1", 0)) is None
    assert told(ChildSpec("pc2", 0, concurrent=3)) is None
    assert told(ChildSpec("pc1", 0, concurrent=3, bin="/usr/bin/another")) is None
    assert told(ChildSpec("pc1", 0, concurrent=3, envs={PC1_CONCURRENT: "5"})) == "5"
    # What the daemon's own engine is told is no business of another stage's.
    monkeypatch.setenv(PC1_CONCURRENT, "7")
    assert told(ChildSpec("unseal", 0)) is None
    assert told(ChildSpec("pc1", 0)) == "7"


def test_a_child_hashes_on_the_cpus_of_its_set(tmp_path: Path) -> None:
    cpu = max(affinity.get_affinity(0))
    sector = Sector(tmp_path)
    task = sector.pc1_task(sector.stage_zeros())
    lines = Lines("pc1", VC_CG_CPUSET=str(cpu))
    assert lines.next() == b"pc1 processor ready\n"
    lines.send(b'{"id":1,"task":' + task + b"}\n")
    assert json.loads(lines.next())["err_msg"] is None
    threads = list(Path(f"/proc/{lines.process.pid}/task").iterdir())
    hashing = [thread for thread in threads if (thread / "comm").read_text().startswith("pc1-cpu")]
    assert [(thread / "comm").read_text().strip() for thread in hashing] == [f"pc1-cpu{cpu}"]
    assert affinity.get_affinity(int(hashing[0].name)) == {cpu}
    lines.end()


def test_the_log_says_how_fast_each_layer_was_hashed(tmp_path: Path) -> None:
    sector = Sector(tmp_path)
    task = sector.pc1_task(sector.stage_zeros())
    lines = Lines("pc1")
    assert lines.next() == b"pc1 processor ready\n"
    lines.send(b'{"id":1,"task":' + task + b"}\n")
    assert json.loads(lines.next())["err_msg"] is None
    _, log = lines.end()
    said = re.findall(
        rb"PC1 of sector 7: layer (\d) of 2 hashed at [\d.]+ M labels/s; about \d+ min left", log
    )
    assert said == [b"1", b"2"], log


def rot(parents: Path, node: int) -> None:
    """A disk that ruins the parents of a node changes no time: the record of the digest still fits."""
    before = parents.stat()
    with parents.open("r+b") as file:
        file.seek(node * 14 * 4)
        file.write(struct.pack("<14I", *[0xFFFFFFFF] * 14))
    os.utime(parents, ns=(before.st_atime_ns, before.st_mtime_ns))


def test_parents_that_rot_in_use_are_read_again_and_their_sectors_layers_go(tmp_path: Path) -> None:
    """A run fails; the next one in the process has good parents, and takes no layer made with bad ones."""
    sector = Sector(tmp_path)
    task = sector.pc1_task(sector.stage_zeros())
    layers = [sector.cache / f"sc-02-data-layer-{layer}.dat" for layer in (1, 2)]
    lines = Lines("pc1", FIL_PROOFS_PARENT_CACHE=str(tmp_path / "parents"))
    assert lines.next() == b"pc1 processor ready\n"

    def answer() -> dict[str, object]:
        lines.send(b'{"id":1,"task":' + task + b"}\n")
        found: dict[str, object] = json.loads(lines.next())
        return found

    whole = answer()
    assert whole["err_msg"] is None
    labels = [path.read_bytes() for path in layers]
    (parents,) = (tmp_path / "parents").glob("*.cache")
    good = parents.read_bytes()

    layers[1].unlink()
    rot(parents, 40)
    message = str(answer()["err_msg"])
    assert f"parents cache {parents}: the parents of node 40 are not those of the graph" in message
    assert not list(sector.cache.glob("sc-02-data-layer-*"))

    assert answer() == whole
    assert [path.read_bytes() for path in layers] == labels
    assert parents.read_bytes() == good
    _, log = lines.end()
    assert b"making it again" in log
