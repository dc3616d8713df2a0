"""Stands in for the program where a test is about the units only: opens the daemon's sockets, asks one of them.

stand_in.py daemon --config FILE | selftest --report
"""

from __future__ import annotations

import asyncio
import signal
import socket
import sys

from yikatong.runtime.notify import Notifier

SOCKETS = ("/run/yikatong/his/his.sock", "/run/yikatong/tech/tech.sock")


async def serve() -> None:
    for path in SOCKETS:
        await asyncio.start_unix_server(lambda _, writer: writer.close(), path)
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    Notifier.from_environment().ready()
    await stop.wait()


if __name__ == "__main__":
    if sys.argv[1] == "selftest":
        with socket.socket(socket.AF_UNIX) as line:
            line.connect(SOCKETS[1])
    else:
        asyncio.run(serve())
