"""Every system call that guards money, failed once: killed at it, EIO, ENOSPC; in terminal, gateway and city.

    python -m tests.crash.syscall_sweep --all

A point is (process, what it is doing, system call, its N-th call by a thread, fault). At each, `strace` is attached to
the running process for the length of one debit, or of one reversal; or the process starts under it after it was
killed in the middle of a debit (`recovery`; then only calls on its own files count). Then it is killed, if it still
lives, and started without strace. The transaction must become final, and nothing that was ever told may turn out false.

How many calls there are is counted by a run without faults. A process that shares its calls among threads a little
differently the next time may not reach a point: it is then counted as passed, not as hit.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path

from tests.support.aftermath import operators_view, settle
from tests.support.cashiers import NOTHING, Heard, Window, windows
from tests.support.judgement import Books, judge
from yikatong.api.money.v1 import money_pb2 as money
from yikatong.api.terminal.v1 import terminal_pb2 as api
from yikatong.cli.province import Province

SYSCALLS = ("pwrite64", "write", "fdatasync", "fsync", "openat", "rename", "ftruncate", "unlink", "sendmsg", "sendto")
FAULTS = {"KILL": "signal=KILL", "EIO": "error=EIO", "ENOSPC": "error=ENOSPC"}
PROCESSES = ("daemon", "gateway", "city")
FLOWS = ("debit", "reversal", "recovery")
_CALL = re.compile(r"^(\d+) +(\w+)\(", re.MULTILINE)
_LEAVES = {0, 1, -signal.SIGKILL, -signal.SIGABRT}
"""Exit statuses that a fault may bring about: in order, store failed, killed, a library's own assertion."""
_PATIENCE_S = 6.0
_HELD_MS = 2_000
_ACKNOWLEDGED_S = 0.3
"""What the terminal still has to do once the gateway has its confirmation; nothing says when that is over."""
_STARTS_WITHIN_S = 20.0
_LETS_GO_WITHIN_S = 5.0
_OUTCOME_WITHIN_S = 300.0
"""I6: final within five minutes. A reversal that was promised is asked about after 30, 90 and 210 s."""


@dataclass(frozen=True, slots=True, order=True)
class Point:
    process: str
    flow: str
    syscall: str
    number: int
    fault: str

    def __str__(self) -> str:
        return f"{self.fault} at {self.syscall} {self.number} of the {self.process}'s {self.flow}"


@dataclass
class Result:
    """`outcomes` counts how the transactions ended, `hit` how many points were reached."""

    points: int = 0
    hit: Counter[str] = field(default_factory=Counter)
    outcomes: Counter[str] = field(default_factory=Counter)
    left: Counter[str] = field(default_factory=Counter)
    findings: list[str] = field(default_factory=list)

    def __iadd__(self, other: Result) -> Result:
        self.points += other.points
        self.hit += other.hit
        self.outcomes += other.outcomes
        self.left += other.left
        self.findings += other.findings
        return self


def why_not() -> str:
    """Why no process can be traced here; empty where it can."""
    if shutil.which("strace") is None:
        return "strace is not installed"
    probe = subprocess.run(["strace", "-o", "/dev/null", "true"], capture_output=True, text=True, check=False)
    return "" if probe.returncode == 0 else f"no process can be traced here: {probe.stderr.strip()}"


class Tracer:
    """strace on a running process and all its threads. `log` holds every call that was looked at."""

    def __init__(self, pid: int, log: Path, *options: str) -> None:
        self._log = log
        command = ["strace", "-f", "-p", str(pid), "-o", str(log), *options]
        self._strace = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        assert self._strace.stderr is not None
        self._said = self._strace.stderr.readline()

    def end(self) -> str:
        """Lets the process go; returns the log."""
        assert self._strace.stderr is not None
        # Told to let go of a process that is just dying, strace may wait for ever: so first it is given time to see it
        # dead, and at last it is killed, which lets go of everything.
        dying = "+++ " in self._log.read_text(encoding="utf-8", errors="replace")
        for how in (None, signal.SIGINT, signal.SIGKILL) if dying else (signal.SIGINT, signal.SIGKILL):
            if how is not None:
                self._strace.send_signal(how)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._strace.wait(_LETS_GO_WITHIN_S)
                break
        self._strace.wait()
        self._strace.stderr.close()
        assert " attached" in self._said, self._said
        return self._log.read_text(encoding="utf-8", errors="replace")


@dataclass
class Bench:
    """A province in which one point after the other is tried."""

    province: Province
    window: Window
    heard: list[Heard]
    serial: int = 0

    async def count(self, process: str, flow: str) -> dict[str, int]:
        """How often the busiest thread calls each system call in a flow without faults."""
        heard, log = await self._flow(process, flow, f"trace={','.join(SYSCALLS)}")
        await self._outcome(heard)  # before the next flow, for each card pays one bill at a time
        calls = Counter((name, thread) for thread, name in _CALL.findall(log))
        return {name: max((n for (called, _), n in calls.items() if called == name), default=0) for name in SYSCALLS}

    async def try_out(self, point: Point) -> Result:
        """The fault, the restart, and the first look at what came of it."""
        result = Result(points=1)
        inject = f"inject={point.syscall}:{FAULTS[point.fault]}:when={point.number}"
        heard, log = await self._flow(point.process, point.flow, f"trace={point.syscall}", "-e", inject)
        result.hit[point.fault] += "(INJECTED)" in log or "+++ killed by SIGKILL +++" in log
        status = self.province.ended(point.process)
        result.left["still ran" if status is None else f"had ended with {status}"] += 1
        if status is not None and status not in _LEAVES:
            result.findings.append(f"{point}: ended with {status}")
        await asyncio.to_thread(self.province.kill, point.process)
        await asyncio.to_thread(self.province.start, point.process)
        try:
            async with asyncio.timeout(_OUTCOME_WITHIN_S):
                final = await self._outcome(heard)
            result.outcomes[f"{point.flow} {final.told}"] += 1
            if point.process == "daemon" and heard.told == NOTHING:
                result.outcomes[f"{point.flow} where the caller heard nothing"] += 1
        except TimeoutError:
            result.findings.append(f"{point}: not final after {_OUTCOME_WITHIN_S:.0f} s: {self.heard[-1]}")
        return result

    async def _flow(self, process: str, flow: str, *options: str) -> tuple[Heard, str]:
        """A debit, or the reversal of one that nobody confirmed, under strace. Returns what the caller was told."""
        async with asyncio.timeout(_OUTCOME_WITHIN_S):
            while not (await self.window.stub.GetTerminal(api.GetTerminalRequest(), wait_for_ready=True)).ready:
                await asyncio.sleep(0.05)
        request = self._request(0)
        if flow == "recovery":
            return await self._recovery(process, options)
        if flow == "debit":
            async with self._traced(process, options) as log:
                heard = await self.window.debit(request, timeout_s=_PATIENCE_S)
                if heard.told == "APPROVED":
                    await self._logged(process, "gateway", heard.transaction_id, '"confirmed"', within_s=_PATIENCE_S)
                    await asyncio.sleep(_ACKNOWLEDGED_S)
            return heard, log[0]
        while (heard := await self.window.debit(self._request(_HELD_MS), timeout_s=_PATIENCE_S)).told != "APPROVED":
            await asyncio.sleep(0.2)  # the last point's restart is still felt
        async with self._traced(process, options) as log:
            within_s = _HELD_MS / 1000 + _PATIENCE_S
            await self._logged(process, "daemon", heard.transaction_id, '"REVERSED"', within_s=within_s)
        return heard, log[0]

    async def _recovery(self, process: str, options: Sequence[str]) -> tuple[Heard, str]:
        """The far city has posted a debit and nobody has heard of it; the process dies, and starts under strace."""
        province = self.province
        kept = (province.folder / "city.log").read_text(encoding="utf-8").count("keeps the answer")
        province.lose_answers()
        asking = asyncio.create_task(self.window.debit(self._request(0), timeout_s=_PATIENCE_S))
        async with asyncio.timeout(_OUTCOME_WITHIN_S):
            while (province.folder / "city.log").read_text(encoding="utf-8").count("keeps the answer") == kept:
                assert not asking.done(), asking.result()
                await asyncio.sleep(0.02)
        await asyncio.to_thread(province.kill, process)
        province.heal()
        file = province.folder / "strace.log"
        paths = [part for path in sorted((province.folder / process).iterdir()) for part in ("-P", str(path))]
        under = ["strace", "-D", "-f", "-o", str(file), *paths, "-e", *options]
        await asyncio.to_thread(province.start, process, until_it_serves=False, under=under)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_STARTS_WITHIN_S):
                while province.ended(process) is None and not await asyncio.to_thread(province.serves, process):
                    await asyncio.sleep(0.05)
        return await asking, file.read_text(encoding="utf-8", errors="replace")

    def _request(self, confirm_within_ms: int) -> api.DebitRequest:
        self.serial += 1
        name = f"{self.province.folder.name}.{self.serial}"
        return api.DebitRequest(
            request_id=name,
            order_no=name,
            amount_fen=1,
            purpose=money.PURPOSE_PHARMACY_PURCHASE,
            confirm_within_ms=confirm_within_ms,
        )

    @contextlib.asynccontextmanager
    async def _traced(self, process: str, options: Sequence[str]) -> AsyncIterator[list[str]]:
        """The log is there once the body is left."""
        log: list[str] = []
        file = self.province.folder / "strace.log"
        tracer = await asyncio.to_thread(Tracer, self.province.pid(process), file, "-e", *options)
        try:
            yield log
        finally:
            log.append(await asyncio.to_thread(tracer.end))

    async def _logged(self, process: str, teller: str, transaction_id: str, word: str, *, within_s: float) -> None:
        """Until the log of `teller` says so, the traced process has ended, or it takes too long. Asks nobody."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(within_s):
                while self.province.ended(process) is None:
                    log = (self.province.folder / f"{teller}.log").read_text(encoding="utf-8")
                    if any(transaction_id in line and word in line for line in log.splitlines()[-50:]):
                        return
                    await asyncio.sleep(0.05)

    async def _outcome(self, heard: Heard) -> Heard:
        """What the request came to, once that is known; TRANSACTION_NOT_FOUND where it never left."""
        while True:
            final = await self.window.ask(heard.request_id, heard.order_no)
            open_ = final.told in {NOTHING, "PENDING"} or (final.told == "APPROVED" and not final.confirmed)
            if not open_:
                return final
            await asyncio.sleep(0.1)


async def worker(folder: Path, points: Iterable[Point]) -> Result:
    """Tries points in a province of its own until there are none left, then judges all of it."""
    result, heard = Result(), list[Heard]()
    folder.mkdir(exist_ok=True)
    province = Province(folder, card="works", in_process=True, pin_keypad=False)
    await asyncio.to_thread(province.__enter__)
    try:
        async with windows([("daemon", province.his_socket)], heard) as (window,):
            bench = Bench(province, window, heard)
            for point in points:
                result += await bench.try_out(point)
            rows = await settle(province, [window])
        result.findings += await operators_view(province)
        for name in ("daemon", "gateway", "city"):
            await asyncio.to_thread(province.stop, name)
        books = Books.read(rows, folder / "gateway" / "gateway.db", folder / "city" / "city.db")
        result.findings += judge(heard, books).findings
    finally:
        await asyncio.to_thread(province.close)
    return result


async def counted(folder: Path) -> dict[tuple[str, str], dict[str, int]]:
    """The calls of every process in every flow."""
    folder.mkdir(exist_ok=True)
    province = Province(folder, card="works", in_process=True, pin_keypad=False)
    await asyncio.to_thread(province.__enter__)
    try:
        async with windows([("daemon", province.his_socket)], []) as (window,):
            bench = Bench(province, window, window.record)
            return {(process, flow): await bench.count(process, flow) for process, flow in product(PROCESSES, FLOWS)}
    finally:
        await asyncio.to_thread(province.close)


def all_points(calls: dict[tuple[str, str], dict[str, int]]) -> list[Point]:
    return [
        Point(process, flow, syscall, number, fault)
        for (process, flow), counts in calls.items()
        for syscall, most in counts.items()
        for number in range(1, most + 1)
        for fault in FAULTS
    ]


async def sweep(folder: Path, points: Sequence[Point], workers: int) -> Result:
    """Workers share the points; each has a province of its own."""
    queue, result = iter(points), Result()
    tasks = [asyncio.create_task(worker(folder / f"w{number}", queue)) for number in range(workers)]
    for task in asyncio.as_completed(tasks):
        result += await task
    return result


def main() -> int:
    parser = argparse.ArgumentParser(prog="tests.crash.syscall_sweep", description=__doc__)
    parser.add_argument("--all", action="store_true", help="every point, not every seventh")
    parser.add_argument("--process", choices=PROCESSES, action="append", help="only this one")
    parser.add_argument("--flow", choices=FLOWS, action="append", help="only this one")
    parser.add_argument("--workers", type=int, default=6)
    parser.add_argument("--keep", type=Path, help="keep files and logs in this folder")
    arguments = parser.parse_args()
    if obstacle := why_not():
        parser.error(obstacle)
    with contextlib.ExitStack() as stack:
        folder = arguments.keep or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="yikatong-sweep-")))
        folder.mkdir(exist_ok=True)
        calls = asyncio.run(counted(folder / "count"))
        wanted = [
            point
            for point in all_points(calls)
            if point.process in (arguments.process or PROCESSES) and point.flow in (arguments.flow or FLOWS)
        ]
        points = wanted[:: 1 if arguments.all else 7]
        result = asyncio.run(sweep(folder, points, arguments.workers))
    for (process, flow), counts in calls.items():
        print(f"{process} {flow}: {', '.join(f'{n} {name}' for name, n in counts.items() if n)}")
    print(f"points {result.points}, hit: {dict(result.hit)}")
    for name, count in sorted((result.outcomes + result.left).items()):
        print(f"{name:60} {count:>6}")
    print(f"findings {len(result.findings)}")
    for finding in result.findings:
        print(finding)
    return int(bool(result.findings))


if __name__ == "__main__":
    sys.exit(main())
