"""A person at a terminal: a pseudo-terminal that a command has as its own, with what it shows and what is typed."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path
from types import TracebackType
from typing import Self

_OWN_TERMINAL = """
import os, signal, sys
signal.signal(signal.SIGINT, signal.SIG_DFL)  # what a shell starts in the background ignores it, and so do its children
os.setsid()
terminal = os.open(sys.argv[1], os.O_RDWR)  # the first one that a session's leader opens is its own
for end in (0, 1, 2):
    os.dup2(terminal, end)
os.execv(sys.executable, [sys.executable, "-m", "yikatong.cli.main", *sys.argv[2:]])
"""


class Terminal:
    """`yikatong …` in a session of its own, on a terminal of its own, from `with` to the end of the block."""

    def __init__(self, *arguments: str | Path) -> None:
        self._arguments = [str(argument) for argument in arguments]
        self._hand, self._screen = -1, b""
        self.process: asyncio.subprocess.Process | None = None

    async def __aenter__(self) -> Self:
        self._hand, theirs = os.openpty()
        os.set_blocking(self._hand, False)
        self.process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-c",
            _OWN_TERMINAL,
            os.ttyname(theirs),
            *self._arguments,
            env={**os.environ, "LANG": "C.UTF-8", "NO_COLOR": "1"},
        )
        self._theirs = theirs  # held open: the screen can be read after the command has ended
        return self

    async def __aexit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _: TracebackType | None
    ) -> None:
        assert self.process is not None
        if self.process.returncode is None:
            self.process.kill()
        await self.process.wait()
        os.close(self._hand)
        os.close(self._theirs)

    @property
    def screen(self) -> str:
        """All that has been shown."""
        try:
            while piece := os.read(self._hand, 4096):
                self._screen += piece
        except BlockingIOError:
            pass
        return self._screen.decode(errors="replace")

    def type(self, keys: str) -> None:
        os.write(self._hand, keys.encode())

    async def shows(self, text: str, *, times: int = 1) -> None:
        """Returns once it has been shown so often."""
        async with asyncio.timeout(30):
            while self.screen.count(text) < times:
                await asyncio.sleep(0.01)

    async def ended(self) -> int:
        """The exit status."""
        assert self.process is not None
        async with asyncio.timeout(30):
            return await self.process.wait()
