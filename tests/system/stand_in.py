"""Stands in for the program in tests of the units: speaks sd_notify, opens the sockets, and does no more.

    stand_in.py daemon --config FILE | gateway --config FILE | selftest --report

With a file `refuse` beside its configuration it ends as a daemon ends that must not be restarted.
"""

from __future__ import annotations

import asyncio
import signal
import socket
import sys
from pathlib import Path

from yikatong.runtime.clock import SystemClock
from yikatong.runtime.notify import Notifier, Watchdog, watchdog_limit_s

SOCKETS = {"daemon": ("/run/yikatong/his/his.sock", "/run/yikatong/tech/tech.sock"), "gateway": ()}


async def serve(role: str, config: Path) -> int:
    if config.with_name("refuse").exists():
        return 78
    SystemClock()
    for name in SOCKETS[role]:
        await asyncio.start_unix_server(lambda _, writer: writer.close(), name)  # it removes an earlier one's socket
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    notifier = Notifier.from_environment()
    notifier.ready("stand-in")

    async def alive() -> None: ...

    watchdog = asyncio.create_task(Watchdog(notifier, alive, limit_s=watchdog_limit_s()).run())
    await stop.wait()
    notifier.stopping()
    watchdog.cancel()
    return 0


def main() -> int:
    role = sys.argv[1]
    if role == "selftest":
        with socket.socket(socket.AF_UNIX) as line:
            line.connect("/run/yikatong/tech/tech.sock")
        return 0
    return asyncio.run(serve(role, Path(sys.argv[3])))


if __name__ == "__main__":
    sys.exit(main())
