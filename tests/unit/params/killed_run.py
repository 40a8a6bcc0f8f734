"""A generation in a process of its own that is killed (signal 9) at the N-th change of a file's name.

``killed_run.py N GENERATED DIRECTORY``: the points come from GENERATED, so that only the naming of files
takes part. Exits 0 if there are fewer changes than N.
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from damocles_worker import _native
from damocles_worker.params import ParameterSet, generate
from damocles_worker.sectors import SECTOR_SIZES

WINDOW = ParameterSet(SECTOR_SIZES["2KiB"], "window")


def main() -> None:
    point, generated, directory = int(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3])
    changes = 0

    def counted(change: Callable[..., Any]) -> Callable[..., Any]:
        def call(path: Path, *arguments: Any, **options: Any) -> Any:
            nonlocal changes
            if path.exists() or not path.name.endswith(".tmp"):
                if changes == point:
                    os.kill(os.getpid(), signal.SIGKILL)
                changes += 1
            return change(path, *arguments, **options)

        return call

    def copied(_kind: str, _size: int, path: str, *_rest: object) -> tuple[bytes, bytes]:
        shutil.copyfile(generated / WINDOW.params_file, path)
        return (generated / WINDOW.vk_file).read_bytes(), (generated / WINDOW.meta_file).read_bytes()

    _native.generate_parameters = copied  # type: ignore[assignment]
    for name in ("hardlink_to", "replace", "unlink"):
        setattr(Path, name, counted(getattr(Path, name)))
    generate(WINDOW, directory)


if __name__ == "__main__":
    main()
