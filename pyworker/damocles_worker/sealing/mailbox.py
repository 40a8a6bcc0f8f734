"""The operator's commands to a sealing thread, in the order they came."""

from __future__ import annotations

import asyncio
from collections import deque

from damocles_worker.sealing.machine.events import Drain, Pause, Resume

Command = Pause | Resume | Drain


class Mailbox:
    """Commands that the thread has not taken yet; of pauses one at most."""

    def __init__(self) -> None:
        self._commands: deque[Command] = deque()
        #: Set while a command waits.
        self.waiting = asyncio.Event()

    def put(self, command: Command) -> bool:
        """Add a command; False for a pause while one is waiting already."""
        if isinstance(command, Pause) and Pause() in self._commands:
            return False
        self._commands.append(command)
        self.waiting.set()
        return True

    async def get(self) -> Command:
        """The next command, once there is one."""
        await self.waiting.wait()
        command = self.take()
        assert command is not None, "one reader at a time"
        return command

    def take(self) -> Command | None:
        """The next command, if one is there."""
        command = self._commands.popleft() if self._commands else None
        if not self._commands:
            self.waiting.clear()
        return command
