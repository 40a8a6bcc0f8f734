"""The settings of a sealing thread that are in force, and what is wrong with its hot file."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from damocles_worker.config.settings import Thread
from damocles_worker.errors import WorkerError
from damocles_worker.sealing.machine.events import Failure
from damocles_worker.stores.sealing import SealingStore

log = logging.getLogger(__name__)

HOT_NEXT_STEP = "Correct the file: until then the values before it stay in force"


class ActiveSettings:
    """``settings`` are taken anew where a thread may begin anew; the file is looked at more often.

    :param refresh: answers the settings with the hot file over them, and what is to be shown of the file.
        Blocks.
    """

    def __init__(self, config: Thread, refresh: Callable[[Thread], tuple[Thread, Failure | None]]) -> None:
        self._config = config
        self._refresh = refresh
        self.settings = config
        #: What is wrong with the hot file.
        self.error: Failure | None = None

    async def renew(self, store: SealingStore | None) -> bool:
        """Take the settings of this moment; True if they, or what is wrong with them, are others."""
        before = (self.settings, self.error)
        self.settings = await self._look(store) or self.settings
        return (self.settings, self.error) != before

    async def watch(self, store: Callable[[], SealingStore | None], renewed: Callable[[], bool]) -> None:
        """Show what is wrong with the hot file, and that it was mended, while a sector is under way.

        :param renewed: whether :meth:`renew` is called often enough at the moment.
        """
        while True:
            await asyncio.sleep(self.settings.sealing.recover_interval)
            if renewed():
                continue
            try:
                await self._look(store())
            except OSError as error:
                log.warning("the hot file can't be looked at: %s", error)

    async def _look(self, store: SealingStore | None) -> Thread | None:
        """The settings of this moment.

        The hot file of a store that went away is not a removed one: None until the store is back.
        """
        found = await asyncio.to_thread(self._read, store)
        if found is None:
            return None
        settings, error = found
        if error is not None and error != self.error:
            log.error("%s", error.text)
        self.error = error
        return settings

    def _read(self, store: SealingStore | None) -> tuple[Thread, Failure | None] | None:
        if store is not None:
            try:
                store.check()
            except WorkerError:
                return None
        return self._refresh(self._config)
