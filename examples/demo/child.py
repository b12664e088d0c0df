"""How a child process and the one that started it talk: JSON lines over pipes.

The child gets its settings, says that it is ready, and gets the moment at which the run starts, as monotonic
time, which all processes of a machine share. When its standard input ends, whoever started it is gone, and it
goes too."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator
from typing import Any


def tell(message: dict[str, Any], /) -> None:
    """One line to the process that started this one."""
    sys.stdout.write(json.dumps(message, separators=(",", ":")) + "\n")
    sys.stdout.flush()


class Inbox:
    """The lines that come from the process that started this one."""

    def __init__(self) -> None:
        self._reader = asyncio.StreamReader()
        self._watch: asyncio.Task[None] | None = None

    async def open(self) -> dict[str, Any]:
        """The settings, which are the first line."""
        loop = asyncio.get_running_loop()
        await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(self._reader), sys.stdin)
        settings: dict[str, Any] = json.loads(await self._line())
        return settings

    async def ready(self) -> None:
        """Say that this process is ready."""
        tell({"ready": True})

    async def start(self) -> float:
        """Say that this process is ready; the moment at which the run starts."""
        await self.ready()
        line = await self._line()
        self._watch = asyncio.create_task(self._leave_when_alone())
        return float(json.loads(line)["start"])

    async def messages(self) -> AsyncIterator[dict[str, Any]]:
        """All further lines; this process ends with them."""
        while True:
            yield json.loads(await self._line())

    async def _line(self) -> bytes:
        line = await self._reader.readline()
        if not line:
            sys.exit(0)  # the run was called off
        return line

    async def _leave_when_alone(self) -> None:
        await self._reader.read()
        os._exit(0)
