"""Card, code or identity card: what each way asks of its devices, and what a debit takes along and leaves behind."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import cast

import pytest

from tests.support.rows import PAYER, request
from tests.support.runner_world import World, fresh, restarted, until
from yikatong.core.card import ResidentCard
from yikatong.core.orders import Credential, DebitAnswer, DebitOrder, IdCardPayer, VoucherPayer
from yikatong.core.reasons import Reason, YikatongError
from yikatong.core.terminal_table import State
from yikatong.core.values import PersonName, Region, VoucherCode
from yikatong.core.voucher import ResolvedVoucher, VoucherHolder
from yikatong.runtime.clock import SystemClock
from yikatong.terminal.desk import Desk
from yikatong.terminal.stages import Stage
from yikatong.terminal.who_pays import ByIdCard, ByVoucher, Way, WhoPays

NUMBER, NAME = PAYER.social_security_number, PersonName("测试甲")
CODE = VoucherCode("9800000000000000001")


class Scanner:
    """Somebody shows the code as soon as it is asked for."""

    def __init__(self) -> None:
        self.scans = list[int]()

    async def scan(self, *, timeout_ms: int, listening: Callable[[], None] = lambda: None) -> VoucherCode:
        self.scans.append(timeout_ms)
        await asyncio.to_thread(listening)  # as the driver does: in a thread of its own
        return CODE

    async def check(self) -> None: ...

    async def close(self) -> None: ...


class Resolver:
    def __init__(self) -> None:
        self.asked = list[VoucherCode]()
        self.refusal: YikatongError | None = None

    async def resolve(self, code: VoucherCode) -> ResolvedVoucher:
        self.asked.append(code)
        return ResolvedVoucher(VoucherHolder(NUMBER, NAME, Region("371000")), b"proof")

    async def check(self) -> None:
        if self.refusal is not None:
            raise self.refusal


class IdCards:
    def __init__(self, valid_from: str = "2020-01-01", valid_until: str = "") -> None:
        self.card = ResidentCard(NUMBER, NAME, valid_from, valid_until)

    async def read(self, *, timeout_ms: int) -> ResidentCard:
        return self.card

    async def check(self) -> None: ...

    async def close(self) -> None: ...


class At(SystemClock):
    """A moment of 2026-03-01 by the window's clock in China."""

    def __init__(self, hour: int, minute: int = 0) -> None:
        super().__init__()
        self._now = datetime(2026, 3, 1, hour, minute, tzinfo=timezone(timedelta(hours=8)))

    def now(self) -> datetime:
        return self._now.astimezone(UTC)


def who(ways: dict[Credential, Way]) -> WhoPays:
    return WhoPays(cast("Desk", None), ways)


async def test_a_code_is_scanned_after_the_gateway_is_known_to_take_it_and_resolved_once() -> None:
    scanner, resolver, stages = Scanner(), Resolver(), list[Stage]()
    way = who({Credential.VOUCHER: ByVoucher(scanner, resolver)}).by(Credential.VOUCHER)
    async with way.identify(wait_ms=7_000, stage=stages.append) as identified:
        assert identified.payer == VoucherPayer(NUMBER, Region("371000"))
        assert (identified.number_masked, str(identified.name)) == (str(NUMBER), "测**")
        await identified.demand_same()
    assert (scanner.scans, resolver.asked) == ([7_000], [CODE])
    assert stages == [Stage.WAITING_FOR_CODE, Stage.RESOLVING_CODE]
    resolver.refusal = YikatongError(Reason.VOUCHER_NOT_ACCEPTED)
    with pytest.raises(YikatongError) as caught:
        await way.look(wait_ms=0)
    assert caught.value.reason is Reason.VOUCHER_NOT_ACCEPTED
    assert len(scanner.scans) == 1, "nobody is asked to show a code for nothing"


@pytest.mark.parametrize(
    ("valid_from", "valid_until", "clock", "valid"),
    [
        ("2020-01-01", "", At(12), True),
        ("2026-03-01", "2026-03-01", At(12), True),
        ("2026-03-02", "", At(12), False),
        ("2020-01-01", "2026-02-28", At(12), False),
        ("2020-01-01", "2026-03-01", At(23, 59), True),
        ("2026-03-02", "", At(23, 59), False),
        ("2026-03-01", "", At(0, 1), True),  # in UTC it is still February
        ("2020-01-01", "2026-02-28", At(0, 1), False),
    ],
)
async def test_an_identity_card_is_valid_by_the_date_in_china(
    valid_from: str, valid_until: str, clock: At, valid: bool
) -> None:
    way, stages = ByIdCard(IdCards(valid_from, valid_until), clock), list[Stage]()
    if valid:
        async with way.identify(wait_ms=0, stage=stages.append) as identified:
            assert (identified.payer, str(identified.name)) == (IdCardPayer(NUMBER), "测**")
    else:
        with pytest.raises(YikatongError) as caught:
            await way.look(wait_ms=0)
        assert caught.value.reason is Reason.ID_CARD_NOT_VALID
    assert stages == ([Stage.WAITING_FOR_ID_CARD] if valid else [])


@pytest.mark.parametrize(
    ("credential", "reason"),
    [(Credential.VOUCHER, Reason.NO_SCANNER), (Credential.RESIDENT_ID, Reason.NO_ID_CARD_READER)],
)
def test_a_way_that_this_terminal_has_not(credential: Credential, reason: Reason) -> None:
    with pytest.raises(YikatongError) as caught:
        who({}).by(credential)
    assert caught.value.reason is reason


# --- the runner ---------------------------------------------------------------------------------------------------


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with fresh(tmp_path) as made:
        made.runner._who._ways[Credential.VOUCHER] = ByVoucher(Scanner(), Resolver())
        made.runner._who._ways[Credential.RESIDENT_ID] = ByIdCard(IdCards(), SystemClock())
        yield made


async def test_the_proof_goes_with_the_debit_and_is_not_kept(world: World, tmp_path: Path) -> None:
    sent = list[DebitOrder]()

    def decide(order: DebitOrder) -> DebitAnswer | None:
        sent.append(order)
        return None

    world.far_end.decide = decide
    paid = await world.debit(request(credential=Credential.VOUCHER))
    (order,) = sent
    assert isinstance(order.payer, VoucherPayer)
    assert order.payer.proof == b"proof"
    assert (paid.state, paid.credential, paid.card_number_masked) == (State.APPROVED, Credential.VOUCHER, str(NUMBER))
    assert paid.fingerprint == order.fingerprint.hex() == order.unproven.fingerprint.hex()
    kept = world.runner.order_of(paid)
    assert isinstance(kept.payer, VoucherPayer)
    assert (kept.payer.proof, kept.fingerprint) == (b"", order.fingerprint)
    files = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    assert paid.transaction_id.encode() in files
    for secret in (CODE.reveal().encode(), b"proof", NUMBER.reveal().encode()):
        assert secret not in files


@pytest.mark.parametrize("credential", [Credential.VOUCHER, Credential.RESIDENT_ID])
async def test_what_was_sent_is_reversed_after_a_restart_without_code_or_card(
    world: World, tmp_path: Path, credential: Credential
) -> None:
    world.far_end.gate = asyncio.Event()
    caller = asyncio.create_task(world.debit(request(credential=credential)))
    await until(lambda: world.far_end.calls.count("debit") >= 1)
    caller.cancel()
    await world.runner.close()
    (sent,) = await world.journal.newest(1, open_only=False)
    world.far_end.gate = None
    async with restarted(world, tmp_path) as again:
        undone = await again.settled(sent)
        assert (undone.state, undone.credential) == (State.REVERSED, credential)
    assert sent.transaction_id in world.far_end.undone


class SlowScanner(Scanner):
    """Its port opens slowly; somebody gives up meanwhile."""

    def __init__(self) -> None:
        super().__init__()
        self.opening, self.open = threading.Event(), threading.Event()

    async def scan(self, *, timeout_ms: int, listening: Callable[[], None] = lambda: None) -> VoucherCode:
        def wait() -> None:  # in a thread, which nobody can cancel
            self.opening.set()
            self.open.wait(10)
            listening()

        await asyncio.to_thread(wait)
        return CODE


async def test_a_scanner_that_is_ready_too_late_asks_nobody_for_a_code(world: World) -> None:
    scanner = SlowScanner()
    world.runner._who._ways[Credential.VOUCHER] = ByVoucher(scanner, Resolver())
    caller = asyncio.create_task(world.debit(request(credential=Credential.VOUCHER)))
    assert await asyncio.to_thread(scanner.opening.wait, 10)
    (live,) = world.runner._live.values()
    taken_back = await world.runner.take_back(live.row.transaction_id, patience_s=1)
    assert taken_back is not None
    assert taken_back.state is State.ABORTED
    with pytest.raises(YikatongError):
        await caller
    assert world.runner._hub.present() == []
    scanner.open.set()
    await asyncio.sleep(0.2)
    assert world.runner._hub.present() == [], "screens ask for a code, for ever"
