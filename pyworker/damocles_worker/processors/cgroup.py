"""Control groups that bind children to cpus: version 1, version 2 and both at once (hybrid).

A child's group is ``<base>/<group_name>/sub-<stage>-<daemon pid>-<index>``. In version 1 ``<base>`` is the
root of the cpuset hierarchy, where ``create-cgroup.sh`` of the Rust worker prepares ``vc-worker``, or else
the group this process is in; in version 2 that group comes first, if it was handed over with the cpuset
controller (``Delegate=cpuset`` of systemd). There a group with processes can't have controlled children,
unless it is the true root, so the daemon first steps into a group of its own.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import re
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

from msgspec import Struct

from damocles_worker.processors.leftovers import end_processes

log = logging.getLogger(__name__)

#: The daemon's own group within a delegated one.
DAEMON_GROUP = "daemon"
_OURS = re.compile(r"sub-\w+-([0-9]+)-[0-9]+")
#: A group is busy for a moment after its last process ended.
_REMOVE_ATTEMPTS = 6
_REMOVE_PAUSE = 0.01


class Hierarchy(Struct, frozen=True):
    """A mounted hierarchy with the cpuset controller. ``own`` is the group of this process, a directory."""

    version: int
    mount: Path
    own: Path

    @property
    def bases(self) -> list[Path]:
        """Directories to make groups in, best first.

        In version 2 that is the group that was handed over with the controller, so that what the daemon
        makes counts to its service; in version 1 the root, where the group is prepared.
        """
        if self.own == self.mount:
            return [self.mount]
        handed_over = self.version == 2 and "cpuset" in _words(self.own / "cgroup.controllers")
        return [self.own, self.mount] if handed_over else [self.mount, self.own]


class Group(Struct, frozen=True):
    """A group that was made for a child; ``directory`` is in the cpuset hierarchy."""

    version: int
    directory: Path

    def add(self, pid: int) -> None:
        """Move a process with all its threads into the group. Raises ``OSError``."""
        (self.directory / "cgroup.procs").write_text(f"{pid}\n")

    def remove(self) -> None:
        """End what is left in the group, whose child has ended, and remove it.

        One that is in use all the same is left, with a line in the log.
        """
        for attempt in range(_REMOVE_ATTEMPTS):
            end_processes(self.directory)
            try:
                self.directory.rmdir()
                return
            except FileNotFoundError:
                return
            except OSError as error:
                if error.errno != errno.EBUSY or attempt == _REMOVE_ATTEMPTS - 1:
                    log.warning("control group %s can't be removed: %s", self.directory, error.strerror)
                    return
                time.sleep(_REMOVE_PAUSE * 2**attempt)


def find(root: Path = Path("/")) -> Hierarchy | None:
    """The hierarchy that has the cpuset controller, or None. ``root`` is where ``/proc`` and ``/sys`` are."""
    groups = dict(_own_groups(root))
    for kind, mount, mounted_from, controllers in _mounts(root):
        if kind == "cgroup" and "cpuset" in controllers:
            return Hierarchy(1, mount, _inside(mount, mounted_from, groups.get("cpuset", "/")))
    for kind, mount, mounted_from, _ in _mounts(root):
        if kind == "cgroup2" and "cpuset" in _words(mount / "cgroup.controllers"):
            own = _inside(mount, mounted_from, groups.get("", "/"))
            # systemd's DelegateSubgroup= starts the daemon one level below the group that it hands over.
            return Hierarchy(2, mount, own.parent if own.name == DAEMON_GROUP else own)
    return None


def is_pure_v2_without_cpuset(root: Path = Path("/")) -> bool:
    """Whether there is only version 2, without cpuset: children that join a group by themselves die there."""
    kinds = {kind for kind, _, _, _ in _mounts(root)}
    return kinds == {"cgroup2"} and find(root) is None


def make(hierarchy: Hierarchy, name: str, cpuset: str) -> Group:
    """Make the group ``name`` with the cpus ``cpuset`` (kernel list), in the first base that allows it.

    Raises ``OSError`` with the reason of the last base that was tried.
    """
    failure: OSError | None = None
    for base in hierarchy.bases:
        try:
            _check_below(base, name)
            if hierarchy.version == 1:
                return _make_v1(base, name, cpuset)
            return _make_v2(hierarchy, base, name, cpuset)
        except OSError as error:
            log.debug("no control group %s in %s: %s", name, base, error)
            failure = error
    assert failure is not None
    raise failure


def _check_below(base: Path, name: str) -> None:
    """Nothing may be made elsewhere than in ``base``."""
    target = base / name
    if ".." in target.parts or not target.is_relative_to(base):
        raise OSError(errno.EINVAL, f"the group is not below {base}", str(target))


def remove_orphans(group_names: Iterable[str], root: Path = Path("/")) -> list[Path]:
    """Remove the children's groups of daemons that are dead, in every hierarchy; answers which.

    For a daemon that has no children yet: groups with its own process id are of an earlier one, which
    had the same in its container. A group with processes in it is left: these outlived their daemon, and
    the log says so.
    """
    removed = []
    for directory in _group_directories(set(group_names), root):
        match = _OURS.fullmatch(directory.name)
        if match is None or (int(match[1]) != os.getpid() and (root / "proc" / match[1]).exists()):
            continue
        processes = _words(directory / "cgroup.procs")
        if processes:
            log.warning(
                "control group %s of a dead daemon still has the processes %s: end them if they are no"
                " processors you want",
                directory,
                ", ".join(processes),
            )
            continue
        try:
            directory.rmdir()
        except OSError as error:
            log.warning("orphaned control group %s can't be removed: %s", directory, error.strerror)
        else:
            removed.append(directory)
    return removed


def _make_v1(base: Path, name: str, cpuset: str) -> Group:
    """Every level needs cpus and memory nodes before a process may enter; they come from above."""
    directory = base
    parts = Path(name).parts
    for part in parts:
        directory = directory / part
        with contextlib.suppress(FileExistsError):
            directory.mkdir()
        for file in ("cpuset.mems", "cpuset.cpus"):
            if not _words(directory / file):
                (directory / file).write_text((directory.parent / file).read_text())
    return _with_cpus(Group(1, directory), cpuset)


def _make_v2(hierarchy: Hierarchy, base: Path, name: str, cpuset: str) -> Group:
    """The controller has to be passed on by every level above the group."""
    if "cpuset" not in _words(base / "cgroup.controllers"):
        raise OSError(errno.EACCES, "the cpuset controller is not handed over", str(base))
    # Only the true root may have processes beside groups; that of a container is none.
    if base == hierarchy.own and (base / "cgroup.type").exists():
        _step_aside(base)
    directory = base
    for part in Path(name).parts:
        if "cpuset" not in _words(directory / "cgroup.subtree_control"):
            (directory / "cgroup.subtree_control").write_text("+cpuset\n")
        directory = directory / part
        with contextlib.suppress(FileExistsError):
            directory.mkdir()
    return _with_cpus(Group(2, directory), cpuset)


def _with_cpus(group: Group, cpuset: str) -> Group:
    file = group.directory / "cpuset.cpus"
    try:
        file.write_text(f"{cpuset}\n")
    except OSError as error:
        group.remove()
        raise OSError(error.errno, error.strerror, str(file)) from error
    return group


def _step_aside(own: Path) -> None:
    """Move all processes of a delegated group into one below it (which is where the daemon then lives)."""
    if "cpuset" in _words(own / "cgroup.subtree_control"):
        return
    leaf = own / DAEMON_GROUP
    with contextlib.suppress(FileExistsError):
        leaf.mkdir()
    for process in _words(own / "cgroup.procs"):
        # One that has ended meanwhile is no obstacle.
        with contextlib.suppress(ProcessLookupError):
            (leaf / "cgroup.procs").write_text(f"{process}\n")


def _group_directories(group_names: set[str], root: Path) -> Iterator[Path]:
    """The directories below ``group_names`` in every hierarchy: the Rust worker made them in all of them."""
    groups = dict(_own_groups(root))
    for kind, mount, mounted_from, controllers in _mounts(root):
        if kind not in ("cgroup", "cgroup2"):
            continue
        controller = "" if kind == "cgroup2" else controllers[0] if controllers else ""
        own = _inside(mount, mounted_from, groups.get(controller, "/"))
        # After stepping aside the daemon is one level below the base of its groups.
        for base in {mount, own, own.parent if own.name == DAEMON_GROUP else own}:
            for name in group_names:
                with contextlib.suppress(OSError):
                    _check_below(base, name)
                    yield from sorted(path for path in (base / name).iterdir() if path.is_dir())


def _mounts(root: Path) -> Iterator[tuple[str, Path, str, list[str]]]:
    """(file system type, mount point, the part that is mounted, super options) of control groups."""
    for line in _text(root / "proc/self/mountinfo").splitlines():
        before, _, after = line.partition(" - ")
        fields, kinds = before.split(), after.split()
        if len(fields) >= 5 and len(kinds) >= 3 and kinds[0] in ("cgroup", "cgroup2"):
            options = [option for option in kinds[2].split(",") if option not in ("rw", "ro")]
            mount = re.sub(r"\\([0-7]{3})", lambda code: chr(int(code[1], 8)), fields[4])
            yield kinds[0], root / mount.lstrip("/"), fields[3], options


def _own_groups(root: Path) -> Iterator[tuple[str, str]]:
    """(controller, path) of this process; version 2 has the controller ``""``."""
    for line in _text(root / "proc/self/cgroup").splitlines():
        _, controllers, path = line.split(":", 2)
        for controller in controllers.split(","):
            yield controller, path


def _inside(mount: Path, mounted_from: str, group: str) -> Path:
    """The directory of ``group`` below a mount point that shows the hierarchy from ``mounted_from`` on."""
    relative = os.path.relpath(group, mounted_from)
    # In a container the mount can show a part of the tree that this process' group is not in.
    return mount if relative.startswith("..") else (mount / relative)


def _words(path: Path) -> list[str]:
    return _text(path).split()


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""
