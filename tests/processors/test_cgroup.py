"""Control groups on recorded and made-up trees: where groups go, and what is written."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from damocles_worker.processors import cgroup


def tree(root: Path, mounts: str, own: str) -> Path:
    proc = root / "proc/self"
    proc.mkdir(parents=True)
    (proc / "mountinfo").write_text(mounts)
    (proc / "cgroup").write_text(own)
    return root


V1 = """\
25 20 0:22 / /sys/fs/cgroup ro,nosuid - tmpfs tmpfs ro,mode=755
26 25 0:23 / /sys/fs/cgroup/cpu,cpuacct rw,relatime shared:9 - cgroup cgroup rw,cpu,cpuacct
27 25 0:24 / /sys/fs/cgroup/cpuset rw,relatime - cgroup cgroup rw,cpuset
28 25 0:25 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw,nsdelegate
"""
V2 = "25 20 0:22 / /sys/fs/cgroup rw,nosuid,nodev shared:4 - cgroup2 cgroup2 rw,nsdelegate\n"


def test_hybrid_has_cpuset_in_version_1(tmp_path: Path) -> None:
    root = tree(tmp_path, V1, "12:cpuset:/vms/a\n4:cpu,cpuacct:/\n0::/user.slice\n")
    found = cgroup.find(root)
    assert found is not None
    mount = root / "sys/fs/cgroup/cpuset"
    assert (found.version, found.bases) == (1, [mount, mount / "vms/a"])
    assert not cgroup.is_pure_v2_without_cpuset(root)


def test_container_that_sees_only_its_own_part(tmp_path: Path) -> None:
    mounts = "27 25 0:24 /docker/abc /sys/fs/cgroup/cpuset ro - cgroup cgroup rw,cpuset\n"
    for own in ("5:cpuset:/docker/abc\n", "5:cpuset:/\n"):
        found = cgroup.find(tree(tmp_path / str(len(own)), mounts, own))
        assert found is not None and found.own == found.mount


def test_version_2_without_cpuset(tmp_path: Path) -> None:
    root = tree(tmp_path, V2, "0::/\n")
    mount = root / "sys/fs/cgroup"
    mount.mkdir(parents=True)
    (mount / "cgroup.controllers").write_text("cpu io memory\n")
    assert cgroup.find(root) is None
    assert cgroup.is_pure_v2_without_cpuset(root), "foreign children that join by themselves would panic"
    (mount / "cgroup.controllers").write_text("cpuset cpu\n")
    assert cgroup.find(root) is not None
    assert not cgroup.is_pure_v2_without_cpuset(root)


def test_mount_point_with_a_space(tmp_path: Path) -> None:
    root = tree(tmp_path, "27 25 0:24 / /odd\\040place rw - cgroup cgroup rw,cpuset\n", "1:cpuset:/\n")
    found = cgroup.find(root)
    assert found is not None and found.mount == root / "odd place"


class KernelV2:
    """What the kernel does to a version 2 tree: new groups get their files, controllers come from above."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, mount: Path, *, in_namespace: bool) -> None:
        self.mount = mount
        self.in_namespace = in_namespace
        self.writes: list[tuple[str, str]] = []
        make = Path.mkdir
        write = Path.write_text

        def mkdir(path: Path, *args: object, **options: object) -> None:
            make(path, *args, **options)  # type: ignore[arg-type]
            if path.is_relative_to(mount) and not (path / "cgroup.procs").exists():
                self.fill(path, (path.parent / "cgroup.subtree_control").read_text())

        def write_text(path: Path, text: str, *args: object) -> int:
            if path.is_relative_to(mount):
                self.writes.append((str(path.relative_to(mount)), text.strip()))
                self.check(path)
            if path.name == "cgroup.procs":
                for procs in mount.rglob("cgroup.procs"):
                    write(procs, procs.read_text().replace(text, ""))
                text = path.read_text() + text
            return write(path, text.replace("+", ""))

        self._write = write
        monkeypatch.setattr(Path, "mkdir", mkdir)
        monkeypatch.setattr(Path, "write_text", write_text)

    def is_true_root(self, group: Path) -> bool:
        return group == self.mount and not self.in_namespace

    def fill(self, group: Path, controllers: str) -> None:
        self._write(group / "cgroup.procs", "")
        if not self.is_true_root(group):
            self._write(group / "cgroup.type", "domain\n")
        self._write(group / "cgroup.controllers", controllers)
        self._write(group / "cgroup.subtree_control", "")
        if "cpuset" in controllers:
            self._write(group / "cpuset.cpus", "")

    def check(self, path: Path) -> None:
        group = path.parent
        if path.name == "cgroup.subtree_control" and not self.is_true_root(group):
            if (group / "cgroup.procs").read_text():
                raise OSError(16, "Device or resource busy", str(path))
            if "cpuset" not in (group / "cgroup.controllers").read_text():
                raise OSError(2, "No such file or directory", str(path))
        if not path.exists():
            raise OSError(2, "No such file or directory", str(path))


def kernel_v2(monkeypatch: pytest.MonkeyPatch, root: Path, *, in_namespace: bool = False) -> KernelV2:
    mount = root / "sys/fs/cgroup"
    mount.mkdir(parents=True)
    kernel = KernelV2(monkeypatch, mount, in_namespace=in_namespace)
    kernel.fill(mount, "cpuset cpu memory\n")
    return kernel


def test_version_2_at_the_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kernel = kernel_v2(monkeypatch, tree(tmp_path, V2, "0::/\n"))
    found = cgroup.find(tmp_path)
    assert found is not None
    group = cgroup.make(found, "vc-worker/sub-pc1-7-0", "0-3")
    group.add(99)
    assert group.directory == kernel.mount / "vc-worker/sub-pc1-7-0"
    assert kernel.writes == [
        ("cgroup.subtree_control", "+cpuset"),
        ("vc-worker/cgroup.subtree_control", "+cpuset"),
        ("vc-worker/sub-pc1-7-0/cpuset.cpus", "0-3"),
        ("vc-worker/sub-pc1-7-0/cgroup.procs", "99"),
    ]


def test_version_2_in_a_delegated_group(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """``Delegate=cpuset``, no root: the daemon steps into a group of its own, the root is out of reach."""
    kernel = kernel_v2(monkeypatch, tree(tmp_path, V2, "0::/system.slice/worker.service\n"))
    kernel._write(kernel.mount / "cgroup.subtree_control", "cpuset")
    own = kernel.mount / "system.slice/worker.service"
    own.mkdir(parents=True)
    kernel.fill(own, "cpuset\n")
    kernel._write(own / "cgroup.procs", "7\n8\n")
    found = cgroup.find(tmp_path)
    assert found is not None
    make = cgroup._make_v2

    def not_root(hierarchy: cgroup.Hierarchy, base: Path, name: str, cpuset: str) -> cgroup.Group:
        if base == hierarchy.mount:
            raise PermissionError(13, "Permission denied", str(base / name))
        return make(hierarchy, base, name, cpuset)

    monkeypatch.setattr(cgroup, "_make_v2", not_root)
    for index in range(2):
        group = cgroup.make(found, f"vc-worker/sub-pc1-7-{index}", "0-3")
        assert group.directory == own / f"vc-worker/sub-pc1-7-{index}"
    assert (own / "cgroup.procs").read_text() == ""
    assert (own / "daemon/cgroup.procs").read_text() == "7\n8\n"
    (tmp_path / "proc/self/cgroup").write_text("0::/system.slice/worker.service/daemon\n")
    assert cgroup.find(tmp_path) == found, "a daemon that is started in its own group finds the same place"


def test_service_of_root_keeps_its_groups_within_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At the root they were outside of the unit, and none of its limits held for the processors."""
    kernel = kernel_v2(monkeypatch, tree(tmp_path, V2, "0::/system.slice/worker.service\n"))
    kernel._write(kernel.mount / "cgroup.subtree_control", "cpuset")
    own = kernel.mount / "system.slice/worker.service"
    own.mkdir(parents=True)
    kernel.fill(own, "cpuset\n")
    kernel._write(own / "cgroup.procs", "7\n")
    found = cgroup.find(tmp_path)
    assert found is not None
    assert cgroup.make(found, "vc-worker/sub-pc1-7-0", "0").directory == own / "vc-worker/sub-pc1-7-0"
    kernel._write(own / "cgroup.controllers", "memory\n")
    assert found.bases == [kernel.mount, own], "without the controller it is of no use"


def test_container_with_its_own_root_group(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What looks like the root has processes in it and is none: it answered EBUSY."""
    kernel = kernel_v2(monkeypatch, tree(tmp_path, V2, "0::/\n"), in_namespace=True)
    kernel._write(kernel.mount / "cgroup.procs", "1\n7\n")
    found = cgroup.find(tmp_path)
    assert found is not None
    group = cgroup.make(found, "vc-worker/sub-pc1-7-0", "0")
    assert group.directory == kernel.mount / "vc-worker/sub-pc1-7-0"
    assert (kernel.mount / "daemon/cgroup.procs").read_text() == "1\n7\n"


@pytest.mark.parametrize("name", ["/vc-worker/sub-pc1-7-0", "../vc-worker/sub-pc1-7-0", "a/../../b"])
def test_nothing_is_made_outside_of_the_hierarchy(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kernel = kernel_v2(monkeypatch, tree(tmp_path, V2, "0::/\n"))
    found = cgroup.find(tmp_path)
    assert found is not None
    with pytest.raises(OSError, match="the group is not below"):
        cgroup.make(found, name, "0")
    assert kernel.writes == []


def test_orphans_of_an_earlier_daemon_of_the_same_process_id_are_removed(tmp_path: Path) -> None:
    """In a container the worker is always process 7, or 1."""
    root = tree(tmp_path, V2, "0::/\n")
    for pid in (os.getpid(), 4_000_000, 5):
        (root / f"sys/fs/cgroup/vc-worker/sub-pc1-{pid}-0").mkdir(parents=True)
    for pid in (os.getpid(), 5):
        (root / f"proc/{pid}").mkdir()
    removed = cgroup.remove_orphans({"vc-worker", "/vc-worker", "../vc-worker"}, root)
    assert {path.name for path in removed} == {f"sub-pc1-{os.getpid()}-0", "sub-pc1-4000000-0"}


def test_reason_is_given_when_no_base_allows_a_group(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kernel = kernel_v2(monkeypatch, tree(tmp_path, V2, "0::/session\n"))
    (kernel.mount / "session").mkdir()
    found = cgroup.find(tmp_path)
    assert found is not None

    def denied(_path: Path, *_args: object, **_options: object) -> None:
        raise PermissionError(13, "Permission denied", "/sys/fs/cgroup")

    monkeypatch.setattr(Path, "write_text", denied)
    with pytest.raises(OSError, match="the cpuset controller is not handed over"):
        cgroup.make(found, "vc-worker/sub-pc1-7-0", "0-3")


def test_version_1_takes_cpus_and_memory_nodes_from_above(tmp_path: Path) -> None:
    """Files appear with their directory in a real tree; here they are there before."""
    mount = tmp_path / "cpuset"
    for directory, text in ((mount, "0-7"), (mount / "vc-worker", ""), (mount / "vc-worker/sub-pc1-7-0", "")):
        directory.mkdir()
        for file in ("cpuset.cpus", "cpuset.mems"):
            (directory / file).write_text(text)
    found = cgroup.Hierarchy(1, mount, mount)
    group = cgroup.make(found, "vc-worker/sub-pc1-7-0", "2-3")
    assert (mount / "vc-worker/cpuset.cpus").read_text() == "0-7"
    assert (group.directory / "cpuset.mems").read_text() == "0-7"
    assert (group.directory / "cpuset.cpus").read_text() == "2-3\n"
