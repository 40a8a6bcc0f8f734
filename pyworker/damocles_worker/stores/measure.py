"""Space of the stores, asked for so that a file system that never answers holds up nothing."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from msgspec import Struct

from damocles_worker.errors import WorkerError
from damocles_worker.stores.attached import AttachedStore
from damocles_worker.stores.space import SpaceLedger

#: Seconds that all stores together get to answer a scrape.
_ANSWER_TIME = 2.0

Space = Mapping[str, int]


class StoreSpace(Struct, frozen=True):
    """A store and the bytes of its file system by kind (size, free, reserved); None: no answer."""

    name: str
    #: ``sealing`` or ``attached``.
    role: str
    space: Space | None
    #: What keeps it from being used, where that is known.
    problem: str = ""


class Store(Struct, frozen=True):
    """A store to ask; ``measure`` may block, and raise ``OSError`` or ``WorkerError``."""

    name: str
    role: str
    measure: Callable[[], Space]


def sealing_store(location: str, ledger: SpaceLedger, check: Callable[[], None]) -> Store:
    """The store of a sealing thread, whose free space is promised to sectors.

    ``check`` raises :class:`WorkerError` when what is at ``location`` is not the store that was opened.
    """

    def measure() -> Space:
        check()
        path = Path(location)
        space = _of_file_system(path)
        return {**space, "reserved": max(0, space["free"] - ledger.free(path))}

    return Store(location, "sealing", measure)


def attached_store(store: AttachedStore) -> Store:
    """A persistent store, by the name that the manager knows."""

    def measure() -> Space:
        store.check()
        return _of_file_system(store.root)

    return Store(store.name, "attached", measure)


def _of_file_system(path: Path) -> dict[str, int]:
    stat = os.statvfs(path)
    return {"size": stat.f_blocks * stat.f_frsize, "free": stat.f_bavail * stat.f_frsize}


class StoreSampler:
    """Asks all stores at once, each in a thread of its own, at most one per store at a time."""

    def __init__(self, stores: Sequence[Store], answer_time: float = _ANSWER_TIME) -> None:
        self._stores = stores
        self._answer_time = answer_time
        self._asking: dict[str, threading.Thread] = {}

    def sample(self) -> list[StoreSpace]:
        """The stores' space; blocks for ``answer_time`` at the longest. Not for two threads at once."""
        answers: dict[str, Space | str] = {}
        for store in self._stores:
            previous = self._asking.get(store.name)
            if previous is None or not previous.is_alive():
                thread = threading.Thread(target=_ask, args=(store, answers), daemon=True)
                self._asking[store.name] = thread
                thread.start()
        deadline = time.monotonic() + self._answer_time
        for thread in self._asking.values():
            thread.join(max(0.0, deadline - time.monotonic()))
        return [_answered(store, answers.get(store.name)) for store in self._stores]


def _answered(store: Store, answer: Space | str | None) -> StoreSpace:
    if isinstance(answer, str):
        return StoreSpace(store.name, store.role, None, answer)
    return StoreSpace(store.name, store.role, answer)


def _ask(store: Store, answers: dict[str, Space | str]) -> None:
    try:
        answers[store.name] = store.measure()
    except WorkerError as error:
        answers[store.name] = str(error)
    except OSError:
        pass  # no answer is what store_up tells
