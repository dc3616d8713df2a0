"""One code of an e-voucher pays once: at the router and its store, under races, repeats, losses and reversals.

The proofs are the gateway's own, as ResolveVoucher makes them: several of one code are what several scans of it bring.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.gateway_world import FAR, HERE, OTHER_TERMINAL, TERMINAL, order, person
from tests.service.test_router_alone import ANY, TTL, Gate, world
from yikatong.core.credit_orders import Credited, CreditKind, CreditOrder
from yikatong.core.orders import (
    AlreadyReversed,
    Confirmed,
    DebitAnswer,
    DebitOrder,
    Declined,
    IdCardPayer,
    Posted,
    ReversalCause,
    Reversed,
    VoucherPayer,
)
from yikatong.core.reasons import Reason, YikatongError
from yikatong.core.values import Fen, PersonName, Region, RequestId, TransactionId, VoucherCode
from yikatong.core.voucher import VoucherHolder
from yikatong.gateway import route_log
from yikatong.gateway.voucher_proofs import LIFE_MS

CODE = VoucherCode("9800000000000000001")
HOMES = pytest.mark.parametrize("number", [1, 2], ids=["far city", "city in the gateway's file"])


@pytest.fixture
async def gate(tmp_path: Path) -> AsyncIterator[Gate]:
    async with world(tmp_path) as made:
        yield made


def resolved(
    gate: Gate, number: int, *, code: VoucherCode = CODE, terminal: str = TERMINAL, region: Region | None = None
) -> VoucherPayer:
    assert gate.partition is not None
    holder = VoucherHolder(person(number), PersonName("测试"), region)
    return gate.partition.proofs.made(code, holder, terminal).payer


def by_voucher(gate: Gate, number: int, *, code: VoucherCode = CODE, terminal: str = TERMINAL) -> DebitOrder:
    return order(payer=resolved(gate, number, code=code, terminal=terminal), terminal_id=terminal)


async def debit(gate: Gate, asked: DebitOrder, *, attempt: int = 1, ttl_ms: int = TTL) -> DebitAnswer:
    assert gate.partition is not None
    return await gate.partition.router.debit(asked, attempt=attempt, ttl_ms=ttl_ms)


def reason(answer: DebitAnswer) -> Reason:
    assert isinstance(answer, Declined), answer
    return answer.reason


def time_passes(gate: Gate, ms: int = LIFE_MS) -> None:
    gate.clock.days += ms / 86_400_000  # type: ignore[assignment]  # timedelta takes parts of days


async def debited(gate: Gate) -> list[str]:
    """The debits that are in some city's ledger, undone or not."""
    sql = "SELECT transaction_id FROM posting WHERE kind = 'DEBIT' AND amount_fen > 0"
    return [str(row[0]) for rows in (await gate.rows(sql), await gate.far_rows(sql)) for row in rows]


@HOMES
async def test_two_terminals_race_with_one_code(gate: Gate, number: int) -> None:
    asked = [by_voucher(gate, number, terminal=terminal) for terminal in (TERMINAL, OTHER_TERMINAL)]
    answers = await asyncio.gather(*(debit(gate, one) for one in asked))
    assert Counter(map(type, answers)) == {Posted: 1, Declined: 1}
    (refused,) = [answer for answer in answers if isinstance(answer, Declined)]
    assert (refused.reason, refused.other_transaction) == (Reason.VOUCHER_USED, "")
    assert len(await debited(gate)) == 1
    for one, answer in zip(asked, answers, strict=True):
        assert await debit(gate, one, attempt=2) == answer, "the same id, the same answer"


@HOMES
async def test_a_repeat_is_answered_alike_after_the_proof_has_expired(gate: Gate, number: int) -> None:
    asked = by_voucher(gate, number)
    first = await debit(gate, asked)
    assert isinstance(first, Posted)
    time_passes(gate)
    assert await debit(gate, asked, attempt=2) == first
    assert await debit(gate, asked.unproven, attempt=3) == first
    await gate.again(forget=ANY)
    assert await debit(gate, asked, attempt=4) == first, "its guards say that it was here, and its city how it ended"
    assert await debited(gate) == [asked.transaction_id]


@HOMES
@pytest.mark.parametrize("forget", ["", ANY])
async def test_a_code_whose_debit_is_undone_is_used_all_the_same(gate: Gate, number: int, forget: str) -> None:
    first = by_voucher(gate, number)
    assert isinstance(await debit(gate, first), Posted)
    assert gate.partition is not None
    assert isinstance(await gate.partition.router.reverse(first.unproven, ReversalCause.TIMEOUT), Reversed)
    await gate.again(forget=forget)
    for terminal in (TERMINAL, OTHER_TERMINAL):
        again = by_voucher(gate, number, terminal=terminal)
        assert reason(await debit(gate, again)) is Reason.VOUCHER_USED
    assert await debited(gate) == [first.transaction_id]
    fresh = by_voucher(gate, number, code=VoucherCode("another"))
    assert isinstance(await debit(gate, fresh), Posted)


async def test_a_request_that_was_refused_for_its_code_is_decided_at_every_window(gate: Gate) -> None:
    """One request id, one answer: at another window it is told that it was used, whatever it was refused for."""
    assert isinstance(await debit(gate, by_voucher(gate, 1)), Posted)
    for proof, why in ((resolved(gate, 1), Reason.VOUCHER_USED), (VoucherPayer(person(1)), Reason.VOUCHER_INVALID)):
        first = order(payer=proof)
        assert reason(await debit(gate, first)) is why
        fresh = by_voucher(gate, 1, code=VoucherCode(f"after-{why.value}"), terminal=OTHER_TERMINAL)
        again = replace(fresh, request_id=first.request_id, order_no=first.order_no)
        assert await debit(gate, again) == Declined(Reason.REQUEST_ID_REUSED, first.transaction_id), why
        paid = by_voucher(gate, 1, code=VoucherCode(f"later-{why.value}"), terminal=OTHER_TERMINAL)
        assert isinstance(await debit(gate, replace(paid, order_no=first.order_no)), Posted), "the bill itself is free"


async def test_a_code_that_the_city_declined_is_used(gate: Gate) -> None:
    dear = replace(by_voucher(gate, 1), amount=Fen(10**7))
    assert reason(await debit(gate, dear)) is Reason.INSUFFICIENT_BALANCE
    assert reason(await debit(gate, by_voucher(gate, 1))) is Reason.VOUCHER_USED


@HOMES
async def test_an_expired_proof_moves_nothing_and_uses_nothing_up(gate: Gate, number: int) -> None:
    late = by_voucher(gate, number)
    time_passes(gate, LIFE_MS)
    assert reason(await debit(gate, late)) is Reason.VOUCHER_EXPIRED
    assert reason(await debit(gate, late, attempt=2)) is Reason.VOUCHER_EXPIRED, "refused for good"
    assert await debited(gate) == []
    assert isinstance(await debit(gate, by_voucher(gate, number)), Posted)


async def test_a_proof_is_good_until_its_last_moment(gate: Gate) -> None:
    asked = by_voucher(gate, 1)
    time_passes(gate, LIFE_MS - 5_000)
    assert isinstance(await debit(gate, asked), Posted)


@HOMES
async def test_a_repeat_whose_first_sending_was_lost_is_shut_out_once_the_proof_is_over(
    gate: Gate, number: int
) -> None:
    """The gateway can't know that it never was here: it has the city refuse the id for ever, and the code is free."""
    asked = by_voucher(gate, number)
    time_passes(gate)
    assert await debit(gate, asked, attempt=2) == AlreadyReversed()
    assert await debited(gate) == []
    assert isinstance(await debit(gate, by_voucher(gate, number)), Posted)


async def test_a_proof_pays_for_nobody_else_and_nowhere_else(gate: Gate) -> None:
    good = resolved(gate, 1)
    swapped = good.proof[:20] + bytes([good.proof[20] ^ 1]) + good.proof[21:]
    forged = [
        order(payer=resolved(gate, 1, terminal=OTHER_TERMINAL)),
        order(payer=replace(good, social_security_number=person(2))),
        order(payer=replace(good, region=HERE)),
        *(order(payer=replace(good, proof=proof)) for proof in (b"", b"x", bytes(27), bytes(28), bytes(512), swapped)),
    ]
    for one in forged:
        assert reason(await debit(gate, one)) is Reason.VOUCHER_INVALID
    assert await debited(gate) == []
    assert isinstance(await debit(gate, order(payer=good)), Posted), "none of them has used the code up"


async def test_what_is_decided_later_needs_no_proof(gate: Gate) -> None:
    asked = by_voucher(gate, 1)
    assert isinstance(await debit(gate, asked), Posted)
    time_passes(gate)
    assert gate.partition is not None
    router, bare = gate.partition.router, asked.unproven
    assert await router.confirm(bare) == Confirmed()
    refund = CreditOrder(
        TransactionId("0" * 8 + asked.transaction_id[8:]), CreditKind.REFUND, bare, Fen(50), RequestId("r")
    )
    assert isinstance(await router.credits.credit(refund, attempt=1), Credited)


async def test_the_proof_is_neither_kept_nor_sent_on(gate: Gate, tmp_path: Path) -> None:
    seen: list[DebitOrder] = []
    honest = gate.far.debit

    async def watched(asked: DebitOrder, *, attempt: int, ttl_ms: int) -> DebitAnswer:
        seen.append(asked)
        return await honest(asked, attempt=attempt, ttl_ms=ttl_ms)

    gate.far.debit = watched  # type: ignore[method-assign]
    asked = by_voucher(gate, 1)
    assert isinstance(await debit(gate, asked), Posted)
    (sent,) = seen
    assert isinstance(sent.payer, VoucherPayer)
    assert sent.payer.proof == b""
    assert sent.fingerprint == asked.fingerprint
    assert isinstance(asked.payer, VoucherPayer)
    kept = b"".join(path.read_bytes() for path in sorted(tmp_path.glob("gateway.db*")))
    assert asked.transaction_id.encode() in kept
    for secret in (asked.payer.proof, asked.payer.proof[12:44], CODE.reveal().encode(), person(1).reveal().encode()):
        assert secret not in kept


async def test_a_repeat_a_confirmation_and_a_reversal_bring_no_proof_either(gate: Gate) -> None:
    """Terminals keep the proof as long as the debit is open: what they send later may have it still."""
    seen: list[DebitOrder] = []
    honest = gate.far._carry

    def watch(order: DebitOrder) -> DebitOrder:
        seen.append(order)
        return order

    link = gate.far.ledger
    gate.far.debit = lambda asked, **more: honest("debit", lambda: link.debit(watch(asked), **more))  # type: ignore[method-assign]
    gate.far.reverse = lambda asked, cause: honest("reverse", lambda: link.reverse(watch(asked), cause))  # type: ignore[method-assign]
    gate.far.confirm = lambda asked: honest("confirm", lambda: link.confirm(watch(asked)))  # type: ignore[method-assign]
    confirmed, undone, silent = (by_voucher(gate, 1, code=VoucherCode(f"code-{n}")) for n in range(3))
    gate.far.silent = True
    assert not isinstance(await debit(gate, confirmed), Posted)
    gate.far.silent = False
    assert isinstance(await debit(gate, confirmed, attempt=2), Posted)
    assert isinstance(await debit(gate, undone), Posted)
    assert gate.partition is not None
    router = gate.partition.router
    assert await router.confirm(confirmed) == Confirmed()
    assert isinstance(await router.reverse(undone, ReversalCause.TIMEOUT), Reversed)
    assert len(seen) == 4
    assert [asked.payer.proof for asked in seen if isinstance(asked.payer, VoucherPayer)] == [b""] * 4
    gate.far.silent = True
    await router.reverse(silent, ReversalCause.TIMEOUT)
    kept = await gate.partition.store.commit(lambda c: route_log.find(c, silent.transaction_id))
    assert kept is not None
    assert kept.sealed is not None
    payer = router._routing._seal.open(kept).payer
    assert isinstance(payer, VoucherPayer)
    assert payer.proof == b"", "it is in the gateway's file"


# --- where a city takes it ----------------------------------------------------------------------------------------


def city_takes(gate: Gate, region: Region, **changes: bool) -> None:
    assert gate.registry is not None
    gate.registry.cities[region] = replace(gate.registry.cities[region], **changes)


async def test_a_resident_id_pays_only_where_the_home_city_takes_it(gate: Gate) -> None:
    assert gate.partition is not None
    router = gate.partition.router
    for number, region in ((1, FAR), (2, HERE)):
        asked = order(payer=IdCardPayer(person(number)))
        assert reason(await debit(gate, asked)) is Reason.RESIDENT_ID_NOT_ACCEPTED
        with pytest.raises(YikatongError) as caught:
            await router.account(IdCardPayer(person(number)))
        assert caught.value.reason is Reason.RESIDENT_ID_NOT_ACCEPTED
        city_takes(gate, region, takes_resident_id=True)
        assert reason(await debit(gate, asked, attempt=2)) is Reason.RESIDENT_ID_NOT_ACCEPTED, "refused for good"
        again = order(payer=IdCardPayer(person(number)))
        assert isinstance(await debit(gate, again), Posted)
        assert (await router.account(IdCardPayer(person(number)))).balance == Fen(100_000) + Fen(-again.amount.count)


async def test_a_city_that_takes_no_vouchers(gate: Gate) -> None:
    city_takes(gate, FAR, takes_voucher=False)
    assert reason(await debit(gate, by_voucher(gate, 1))) is Reason.VOUCHER_NOT_ACCEPTED
    city_takes(gate, FAR, takes_voucher=True)
    assert isinstance(await debit(gate, by_voucher(gate, 1)), Posted), "a refusal has used nothing up"


# --- under faults -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(12))
async def test_however_it_goes_wrong_a_code_pays_at_most_once(gate: Gate, seed: int) -> None:
    """Terminals repeat, race and reverse; the city falls silent, the gateway dies and forgets rows."""
    dice = random.Random(seed)
    codes = [VoucherCode(f"code-{n}") for n in range(3)]
    asked: dict[str, VoucherCode] = {}
    doubtful: list[DebitOrder] = []

    async def at_the_window() -> None:
        code, number = dice.choice(codes), dice.choice((1, 2))
        one = by_voucher(gate, number, code=code, terminal=dice.choice((TERMINAL, OTHER_TERMINAL)))
        asked[one.transaction_id] = code
        answer = await debit(gate, one)
        for attempt in range(2, dice.randint(2, 4)):
            await asyncio.sleep(dice.random() * 0.02)
            answer = await debit(gate, one if dice.random() < 0.5 else one.unproven, attempt=attempt)
        if not isinstance(answer, Posted | Declined) or dice.random() < 0.3:
            doubtful.append(one.unproven)

    async def undone(one: DebitOrder) -> None:
        assert gate.partition is not None
        await gate.partition.router.reverse(one, ReversalCause.TIMEOUT)

    for turn in range(4):
        gate.far.silent = turn > 0 and dice.random() < 0.5
        waiting = [undone(one) for one in doubtful if dice.random() < 0.5]
        await asyncio.gather(*(at_the_window() for _ in range(4)), *waiting)
        if dice.random() < 0.6:
            time_passes(gate, dice.choice((0, LIFE_MS)))
            await gate.again(forget=dice.choice(("", ANY)))
    gate.far.silent = False
    await gate.again()
    await asyncio.gather(*map(undone, doubtful))
    await gate.becomes("SELECT count(*) FROM route WHERE state IN ('FWD', 'REV')", [(0,)])
    used = Counter(asked[transaction_id].reveal() for transaction_id in await debited(gate))
    assert used, "nothing was paid: the seed says nothing"
    assert max(used.values()) == 1, used
