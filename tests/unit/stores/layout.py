"""The directories of a sector in a sealing store, as the stages make them."""

from __future__ import annotations

from damocles_worker.stores.sealing import SealingStore


def make_sector_dirs(store: SealingStore, sector: str) -> None:
    for directory in (
        store.staged(sector).parent,
        store.prepared_dir(sector),
        store.cache_dir(sector),
        store.sealed(sector).parent,
    ):
        directory.mkdir(parents=True, exist_ok=True)
