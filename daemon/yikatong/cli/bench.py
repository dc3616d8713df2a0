"""`yikatong bench`: what our software adds, measured against a floor in the same run on the same machine.

Rounds take turns (ours, floor, ours, floor …), so that a machine whose speed drifts does not decide the ratio. A
figure is the ratio of medians; nothing in the test suite asserts a time.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import multiprocessing
import socket
import statistics
import sys
import tempfile
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import apsw
import click
import grpc.aio

from yikatong.api.money.v1 import money_pb2 as money
from yikatong.api.terminal.v1 import terminal_pb2 as api
from yikatong.api.terminal.v1.terminal_pb2_grpc import TerminalServiceStub
from yikatong.cli import output
from yikatong.cli.province import Province
from yikatong.core.ports import CardLink
from yikatong.core.values import ReaderName
from yikatong.drivers.card import SocialSecurityCard
from yikatong.drivers.pcsc import PcscReader
from yikatong.drivers.trace import ObservedReader, Trace
from yikatong.runtime.clock import SystemClock
from yikatong.runtime.tls import Identity
from yikatong.simulators.card.deck import find
from yikatong.simulators.reader import SimulatedReader
from yikatong.terminal.desk import Desk

_WARM_UP: Final = 5
_PAUSE_S: Final = 0.005
"""Before each measurement: what a debit leaves to be done after its answer must not fall into the next one's time."""
_BYTE_MS: Final = 12 / 9600 * 1000
"""Start, eight bits, parity and two of pause (card-facts §1.1)."""
_ECHO: Final = "/yikatong.bench/Echo"
_PAYLOAD: Final = bytes(600)
"""About the size of a debit on the wire."""

_DEBITS: Final = (
    # line, card of the deck; what no implementation can do without besides one call on this machine: durable commits,
    # and calls over mutual TLS, to the gateway and from there to the city
    ("P2 debit, same city", "works-qingdao", 3, 1),
    ("P2 debit, cross city, ledger at the gateway", "works-yantai", 3, 1),
    ("P2 debit, cross city, home city with a core of its own", "works", 5, 2),
)

Step = Callable[[], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Figure:
    """Milliseconds of one thing over all rounds."""

    name: str
    min_ms: float
    median_ms: float
    max_ms: float


@dataclass(frozen=True, slots=True)
class Result:
    """`ratio` is ours over the floor, of medians; `goal` is what performance should be."""

    line: str
    figures: tuple[Figure, ...]
    ratio: float
    goal: float


@click.group()
def bench() -> None:
    """性能与下限之比（同一次运行）/ Our times against their floors, measured in one run."""


@bench.command()
@output.with_json
@output.with_language
@click.option("--rounds", type=click.IntRange(5, 1000), default=40, help="轮数 / rounds")
def read(rounds: int) -> None:
    """读卡：ReadCard 对比同样 APDU 的裸 pyscard 循环加一次裸 gRPC 调用 / ReadCard against a bare pyscard loop.

    另一行：9600 bit/s 的真实速度卡，对比线路时间。
    And a card as slow as a real one, 9,600 bit/s, against the time of its bytes on the wire.

    退出码：0 已测量。 / Exit status: 0 measured.
    """
    with (
        tempfile.TemporaryDirectory(prefix="yikatong-") as folder,
        Province(Path(folder), card="works", pin_keypad=False) as province,
    ):
        province.use_pcsc_here()
        quick = asyncio.run(_read(province, rounds))
        province.insert(find("slow").make())
        _print([quick, asyncio.run(_read_slowly(province, max(rounds // 8, 5)))])


@bench.command()
@output.with_json
@output.with_language
@click.option("--rounds", type=click.IntRange(5, 1000), default=100, help="轮数 / rounds")
def debit(rounds: int) -> None:
    """扣款：Debit 对比 3 次落盘提交加 2 次裸 gRPC 调用 / Debit against 3 durable commits and 2 bare gRPC calls.

    独立核心的城市另有其自身的开销：多一次提交、一次调用。
    A city with a core of its own costs what it must: its own commit, one more at the gateway, one more call.

    退出码：0 已测量。 / Exit status: 0 measured.
    """
    results = []
    for line, card, commits, calls in _DEBITS:
        with (
            tempfile.TemporaryDirectory(prefix="yikatong-") as folder,
            Province(Path(folder), card=card, in_process=True, pin_keypad=False) as province,
        ):
            results.append(asyncio.run(_debit(province, rounds, line, card, commits, calls)))
    _print(results)


@bench.command()
@output.with_json
@output.with_language
@click.option("--rows", type=click.IntRange(200, 10_000_000), default=1_000_000, help="每方笔数 / rows of each side")
def reconcile(rows: int) -> None:
    """对账：三方百万笔核对，预埋六类差异 / Reconcile three sides, with differences of all six classes planted.

    退出码：0 全部找到，1 有漏报或误报。
    Exit status: 0 all were found, 1 a planted difference was not found, or anything else was.
    """
    from yikatong.cli.bench_reconcile import measure

    measured = measure(rows)
    if output.wants_json():
        output.echo_json(asdict(measured))
    else:
        for step, seconds in measured.seconds.items():
            click.echo(f"  {step:32} {seconds:9.2f} s")
        click.echo(
            f"  {output.choose('合计', 'total'):32} {measured.total_s:9.2f} s  ({measured.rows_per_s:,.0f} rows/s)"
        )
        click.echo(f"  {output.choose('其中处理器时间', 'of which processor'):32} {measured.processor_s:9.2f} s")
        click.echo(f"  {output.choose('内存峰值', 'peak RSS'):32} {measured.peak_rss_mib:9.1f} MiB")
        for name, planted in measured.planted.items():
            click.echo(f"  {name:32} {measured.found[name]:6} / {planted}")
        click.echo(f"  {output.choose('误报', 'false'):32} {measured.false:6}")
    sys.exit(int(measured.found != measured.planted or measured.false > 0))


# --- P1 ---------------------------------------------------------------------------------------------------------


async def _read(province: Province, rounds: int) -> Result:
    apdus = [apdu for apdu, _ in await _exchanges_of_a_read()]
    async with _echo(_on_socket(province)) as echo, _his(province) as his:

        async def ours() -> None:
            await his.ReadCard(api.ReadCardRequest())

        async def floor_card() -> None:
            await asyncio.to_thread(_bare_loop, apdus)

        times = await _in_turn(rounds, {"ReadCard": ours, "bare pyscard loop": floor_card, "bare gRPC call": echo})
    floor = times["bare pyscard loop"].median_ms + times["bare gRPC call"].median_ms
    line = f"P1 read, {len(apdus)} APDUs, real PC/SC"
    return Result(line, tuple(times.values()), times["ReadCard"].median_ms / floor, 1.25)


async def _read_slowly(province: Province, rounds: int) -> Result:
    wire_ms = sum(len(apdu) + len(answer) for apdu, answer in await _exchanges_of_a_read()) * _BYTE_MS
    async with _his(province) as his:

        async def ours() -> None:
            await his.ReadCard(api.ReadCardRequest())

        times = await _in_turn(rounds, {"ReadCard": ours})
    shown = (*times.values(), Figure("floor: the bytes on the wire", wire_ms, wire_ms, wire_ms))
    return Result("read of a card at 9,600 bit/s", shown, times["ReadCard"].median_ms / wire_ms, 1.05)


async def _exchanges_of_a_read() -> list[tuple[bytes, bytes]]:
    """The commands that our driver sends for a full identity, as they leave it, and what the card answers."""
    exchanges: list[tuple[bytes, bytes]] = []

    class Recording:
        def __init__(self, link: CardLink) -> None:
            self._link = link
            self.atr = link.atr

        def transmit(self, apdu: bytes | bytearray) -> bytes:
            answer = self._link.transmit(apdu)
            exchanges.append((bytes(apdu), answer))
            return answer

    reader = PcscReader(ReaderName(Province.VIRTUAL_READER))
    try:
        async with reader.visit(wait_ms=5000) as visit:
            await visit.run(lambda link: SocialSecurityCard().read_identity(Recording(link)))
    finally:
        await reader.close()
    return exchanges


def _bare_loop(apdus: list[bytes]) -> None:
    """What pyscard alone needs: connect, the same commands, disconnect."""
    from smartcard.scard import SCARD_SHARE_EXCLUSIVE, SCARD_UNPOWER_CARD
    from smartcard.System import readers

    reader = next(found for found in readers() if str(found) == Province.VIRTUAL_READER)
    connection = reader.createConnection()
    connection.connect(mode=SCARD_SHARE_EXCLUSIVE, disposition=SCARD_UNPOWER_CARD)
    for apdu in apdus:
        connection.transmit(list(apdu))
    connection.disconnect()
    connection.release()


# --- P2 ---------------------------------------------------------------------------------------------------------


async def _debit(province: Province, rounds: int, line: str, card: str, commits: int, secured: int) -> Result:
    bare = _BareCommits(province.folder / "floor.db")
    mutual = province.ca.server("echo"), province.ca.client("bench")
    async with (
        _echo(_on_socket(province)) as call_here,
        _echo(f"127.0.0.1:{_free_port()}", mutual) as call_secured,
        _card_alone(card) as card_alone,
        _his(province) as his,
    ):

        async def ours() -> None:
            number = uuid.uuid4().hex
            request = api.DebitRequest(
                request_id=number, order_no=number, amount_fen=1, purpose=money.PURPOSE_PHARMACY_PURCHASE
            )
            told = (await his.Debit(request, timeout=30)).transaction
            assert told.state == api.TRANSACTION_STATE_APPROVED, told

        async def commit() -> None:
            bare.one()

        steps = {
            "Debit": ours,
            "of which the card": card_alone,
            "one durable commit": commit,
            "one bare gRPC call, unix socket": call_here,
            "one bare gRPC call, mutual TLS": call_secured,
        }
        times = await _in_turn(rounds, steps)
    bare.close()
    here, over_tls = (times[f"one bare gRPC call, {how}"].median_ms for how in ("unix socket", "mutual TLS"))
    floor = commits * times["one durable commit"].median_ms + here + secured * over_tls
    money_ms = times["Debit"].median_ms - times["of which the card"].median_ms  # which is P1's subject
    shown = (*times.values(), Figure(f"floor: {commits} commits + {1 + secured} calls", floor, floor, floor))
    return Result(f"{line} (less the card)", shown, money_ms / floor, 1.5)


@contextlib.asynccontextmanager
async def _card_alone(name: str) -> AsyncIterator[Step]:
    """What a debit does with the card, in a reader as the daemon has it: opened, read, asked again, let go."""
    simulated = SimulatedReader()
    simulated.insert(find(name).make())
    reader = ObservedReader(simulated, Trace())
    desk = Desk(reader, SocialSecurityCard(), SystemClock(), pin=None)

    async def one() -> None:
        async with desk.identify(wait_ms=0, stage=lambda _: None) as presented:
            await presented.demand_same_card()

    try:
        yield one
    finally:
        await reader.close()


class _BareCommits:
    """One row of a debit's size, durable, with the settings of the journal and nothing of ours."""

    def __init__(self, path: Path) -> None:
        self._connection = apsw.Connection(str(path))
        for pragma in ("synchronous=EXTRA", "locking_mode=EXCLUSIVE", "journal_mode=WAL"):
            self._connection.execute(f"PRAGMA {pragma}").fetchall()
        self._connection.execute("CREATE TABLE row(number INTEGER PRIMARY KEY, content BLOB)")

    def one(self) -> None:
        self._connection.execute("BEGIN IMMEDIATE")
        self._connection.execute("INSERT INTO row(content) VALUES(?)", (_PAYLOAD,))
        self._connection.execute("COMMIT")

    def close(self) -> None:
        self._connection.close()


# --- what every line shares -------------------------------------------------------------------------------------


async def _in_turn(rounds: int, steps: dict[str, Step]) -> dict[str, Figure]:
    taken: dict[str, list[float]] = {name: [] for name in steps}
    gc.disable()
    try:
        for number in range(rounds + _WARM_UP):
            for name, step in steps.items():
                await asyncio.sleep(_PAUSE_S)
                begun = time.perf_counter()
                await step()
                if number >= _WARM_UP:
                    taken[name].append((time.perf_counter() - begun) * 1000)
    finally:
        gc.enable()
    return {name: Figure(name, min(ms), statistics.median(ms), max(ms)) for name, ms in taken.items()}


@contextlib.asynccontextmanager
async def _his(province: Province) -> AsyncIterator[Any]:
    async with grpc.aio.insecure_channel(f"unix:{province.his_socket}") as channel:
        his = TerminalServiceStub(channel)
        async with asyncio.timeout(30):
            while not (await his.GetTerminal(api.GetTerminalRequest(), wait_for_ready=True)).ready:  # noqa: ASYNC110
                await asyncio.sleep(0.05)
        yield his


def _on_socket(province: Province) -> str:
    return f"unix:{province.folder / 'echo.sock'}"


def _free_port() -> int:
    with socket.socket() as line:
        line.bind(("127.0.0.1", 0))
        return int(line.getsockname()[1])


@contextlib.asynccontextmanager
async def _echo(address: str, mutual: tuple[Identity, Identity] | None = None) -> AsyncIterator[Step]:
    """A bare grpcio server in a process of its own, and one call to it; `mutual`: its identity, and the caller's."""
    server, client = mutual or (None, None)
    process = multiprocessing.get_context("spawn").Process(target=_serve_echo, args=(address, server), daemon=True)
    process.start()
    try:
        async with (
            grpc.aio.secure_channel(address, client.channel_credentials())
            if client
            else grpc.aio.insecure_channel(address)
        ) as channel:
            call: Any = channel.unary_unary(_ECHO)
            await call(_PAYLOAD, wait_for_ready=True, timeout=30)

            async def one() -> None:
                await call(_PAYLOAD)

            yield one
    finally:
        process.terminate()
        process.join()


def _serve_echo(address: str, identity: Identity | None) -> None:
    async def serve() -> None:
        async def echo(request: bytes, context: Any) -> bytes:
            return request

        server = grpc.aio.server()
        handler: Any = grpc.unary_unary_rpc_method_handler(echo)
        service, method = _ECHO.strip("/").split("/")
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, {method: handler}),))
        if identity is None:
            server.add_insecure_port(address)
        else:
            server.add_secure_port(address, identity.server_credentials())
        await server.start()
        await server.wait_for_termination()

    asyncio.run(serve())


def _print(results: list[Result]) -> None:
    if output.wants_json():
        output.echo_json([asdict(result) for result in results])
        return
    for result in results:
        click.echo(result.line)
        click.echo(f"  {'':32} {'min':>9} {'median':>9} {'max':>9}  ms")
        for figure in result.figures:
            click.echo(f"  {figure.name:32} {figure.min_ms:9.3f} {figure.median_ms:9.3f} {figure.max_ms:9.3f}")
        word = output.choose("目标", "goal")
        click.echo(f"  {output.choose('比值', 'ratio'):32} {result.ratio:9.2f}  ({word} ≤ {result.goal})")
