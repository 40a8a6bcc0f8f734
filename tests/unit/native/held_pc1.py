"""A PC1 in a process of its own that stops for ever in its second layer, once the first one's file is there.

``held_pc1.py DIRECTORY``: DIRECTORY holds ``task.json``, the PC1 task, and the sector's ``cache``. Prints
``held`` when it has stopped; ends if PC1 was over before.
"""

from __future__ import annotations

import sys
import threading
from pathlib import Path

from damocles_worker import _native


def main() -> None:
    directory = Path(sys.argv[1])
    first = directory / "cache" / "sc-02-data-layer-1.dat"

    def progress(done: int, total: int) -> None:
        if done > total // 2 and first.exists():
            print("held", flush=True)
            threading.Event().wait()

    _native.pc1((directory / "task.json").read_bytes(), progress)


if __name__ == "__main__":
    main()
