"""The transfer stage: links and durable copies."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest

from damocles_worker import _native
from damocles_worker.errors import WorkerError
from damocles_worker.processors.spec import ChildSpec
from damocles_worker.sealing import routes
from tests.processors.support import pool, run


def route(source: Path | str, destination: Path | str, **options: bool) -> dict[str, Any]:
    return {
        "src": {"store_name": None, "uri": str(source)},
        "dest": {"store_name": None, "uri": str(destination)},
        "opt": {"is_dir": False, "allow_link": False, **options} if options else None,
    }


def carry_out(*wanted: dict[str, Any], disable_link: bool = False) -> list[tuple[int, int]]:
    """Run the stage as a child does; answers the progress."""
    task = {"stores": {"persist": {"name": "persist", "meta": None}}, "routes": list(wanted)}
    reports: list[tuple[int, int]] = []
    output = routes.run(
        json.dumps(task).encode(), lambda *at: reports.append(at), None, disable_link=disable_link
    )
    assert output == b"true"
    return reports


@pytest.fixture
def file(tmp_path: Path) -> Path:
    file = tmp_path / "sealed"
    file.write_bytes(b"replica" * 1000)
    return file


def test_copy_makes_directories_and_replaces_what_is_there(tmp_path: Path, file: Path) -> None:
    destination = tmp_path / "persist/sealed/s-t01000-1"
    reports = carry_out(route(file, destination))
    assert destination.read_bytes() == file.read_bytes()
    assert reports[-1] == (7000, 7000)
    file.write_bytes(b"new")
    carry_out(route(file, destination))
    assert destination.read_bytes() == b"new"
    assert not destination.is_symlink()


def test_link_is_absolute_symbolic_and_replaces_a_dangling_one(tmp_path: Path, file: Path) -> None:
    destination = tmp_path / "link"
    destination.symlink_to(tmp_path / "nowhere")
    carry_out(route(file, destination, allow_link=True))
    assert destination.readlink() == file
    carry_out(route(file, destination, allow_link=True), disable_link=True)
    assert not destination.is_symlink() and destination.read_bytes() == file.read_bytes()


def test_directory_is_copied_without_its_empty_directories(tmp_path: Path) -> None:
    source = tmp_path / "cache"
    (source / "deep/er").mkdir(parents=True)
    (source / "empty").mkdir()
    (source / "p_aux").write_bytes(b"p")
    (source / "deep/er/t_aux").symlink_to(source / "p_aux")
    destination = tmp_path / "copy"
    destination.mkdir()
    (destination / "old").touch()
    reports = carry_out(route(source, destination, is_dir=True))
    assert sorted(
        str(path.relative_to(destination)) for path in destination.rglob("*") if path.is_file()
    ) == [
        "deep/er/t_aux",
        "p_aux",
    ]
    assert not (destination / "empty").exists()
    assert not (destination / "deep/er/t_aux").is_symlink()
    assert reports[-1] == (2, 2)


def test_nothing_is_left_in_the_store_of_a_copy_whose_process_was_killed(tmp_path: Path, file: Path) -> None:
    """It would be as large as a sector, and nobody would look for it."""
    program = (
        "import os, signal, sys\nfrom damocles_worker.sealing import routes\n"
        "from damocles_worker.stores import pump\npump.PROGRESS_INTERVAL = 0.0\n"
        "die = lambda done, total: os.kill(os.getpid(), signal.SIGKILL)\n"
        "routes.run(sys.argv[1].encode(), die, None, disable_link=False)\n"
    )
    destination = tmp_path / "persist/sealed/s-t01000-1"
    task = json.dumps({"routes": [route(file, destination)]})
    assert subprocess.run([sys.executable, "-c", program, task]).returncode == -9
    (left,) = destination.parent.iterdir()
    assert left.name.startswith(f".{destination.name}.tmp-")
    carry_out(route(file, destination))
    assert list(destination.parent.iterdir()) == [destination]


@pytest.mark.parametrize(
    ("source", "destination", "cause"),
    [
        ("relative", "/x", "src path is relative: relative"),
        ("{tmp}/none", "/x", "src path not exists: {tmp}/none"),
        ("{tmp}/sealed", "relative", "dest path is relative: relative"),
        ("{tmp}/sealed", "{tmp}", "dest entry type is different with src, is_dir=true: {tmp}"),
        ("{tmp}", "{tmp}/sealed", "dest entry type is different with src, is_dir=false: {tmp}/sealed"),
    ],
)
def test_routes_that_can_not_be(
    tmp_path: Path, file: Path, source: str, destination: str, cause: str
) -> None:
    places = [text.format(tmp=tmp_path) for text in (source, destination)]
    with pytest.raises(WorkerError) as caught:
        carry_out(route(*places))
    assert caught.value.cause == cause.format(tmp=tmp_path)
    assert file.exists(), "nothing was removed"


def test_first_error_ends_the_task(tmp_path: Path, file: Path) -> None:
    with pytest.raises(WorkerError, match="not exists"):
        carry_out(route(file, tmp_path / "a"), route(tmp_path / "none", tmp_path / "b"))


def test_what_is_no_task_is_named() -> None:
    with pytest.raises(WorkerError, match=r"no transfer task: .*routes"):
        routes.run(b"{}", None, None, disable_link=False)


def test_task_for_a_sector_and_its_store(tmp_path: Path) -> None:
    pairs = [(tmp_path / "a", tmp_path / "b")]
    task = routes.request(pairs, destination="persist", meta={"kind": "s3"})
    assert json.loads(msgspec.json.encode(task)) == {
        "routes": [
            {
                "src": {"uri": f"{tmp_path}/a", "store_name": None},
                "dest": {"uri": f"{tmp_path}/b", "store_name": "persist"},
                "opt": None,
            }
        ],
        "stores": {"persist": {"name": "persist", "meta": {"kind": "s3"}}},
    }
    linked = json.loads(msgspec.json.encode(routes.request(pairs, allow_link=True)))
    assert linked["routes"][0]["opt"] == {"is_dir": False, "allow_link": True}
    assert linked["stores"] == {}


def test_stop(tmp_path: Path, file: Path) -> None:
    flag = _native.Cancel()
    flag.cancel()
    task = msgspec.json.encode({"routes": [route(file, tmp_path / "copy")]})
    with pytest.raises(WorkerError, match="stopped"):
        routes.run(task, None, flag, disable_link=False)
    assert not (tmp_path / "copy").exists()


@pytest.mark.parametrize(
    ("args", "envs", "linked"),
    [
        (None, {}, True),
        (("processor", "transfer", "--disable-link"), {}, False),
        (("processor", "transfer", "--disable_link"), {}, False),
        (None, {"DISABLE_LINK": "true"}, False),
    ],
)
def test_transfer_children(
    tmp_path: Path, file: Path, args: tuple[str, ...] | None, envs: dict[str, str], linked: bool
) -> None:
    task = msgspec.json.encode({"routes": [route(file, tmp_path / "there", allow_link=True)]})

    async def main() -> None:
        async with pool(ChildSpec("transfer", 0, args=args, envs=envs, stable_wait=30.0)) as running:
            assert await running.run("transfer", task) == b"true"

    run(main())
    assert (tmp_path / "there").is_symlink() is linked
