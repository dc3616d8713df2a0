"""Who may have cards authenticated by the gateway, how often, and what is said of it in the log."""

from __future__ import annotations

import asyncio
import io
import json
from dataclasses import replace

import pytest

from tests.support import ciphers
from tests.support.authentication import TERMINAL, card_authentication, soft_hsm
from yikatong.core.card import CardAlgorithm
from yikatong.core.card_authentication import CardChallenge, CardKey, CardProof, CardQuestion, KeyHolder
from yikatong.core.reasons import Reason, YikatongError
from yikatong.core.values import CardIdentificationCode
from yikatong.gateway.card_authentication import Budget, CardAuthentication
from yikatong.gateway.registry import Agreement
from yikatong.runtime import logs
from yikatong.runtime.clock import SystemClock
from yikatong.simulators.card import issuer
from yikatong.simulators.card.personalisation import TRIPLE_DES

HISTORICAL = bytes.fromhex("00815443309999250101000001")
CODE = CardIdentificationCode(bytes.fromhex("990001D1560000050100000133445566"))
FACTOR, DATA = bytes.fromhex("1122334455667788"), bytes.fromhex("8877665544332211")
FIRST, LAST = bytes.fromhex("B1B2B3B4B5B6B7B8"), bytes.fromhex("A1A2A3A4A5A6A7A8")
MASTERS = issuer.MASTERS[TRIPLE_DES]


def own(master: bytes) -> bytes:
    return ciphers.card_key("3DES", master, HISTORICAL, "990001", 2)


PROOF = CardProof(FACTOR, DATA, ciphers.cryptogram("3DES", own(MASTERS.irk), FACTOR, DATA))
QUESTION = CardQuestion(CardAlgorithm.TRIPLE_DES, HISTORICAL, CODE, PROOF, CardChallenge(LAST, FIRST))
RIGHT = ciphers.cryptogram("3DES", own(MASTERS.rkssse), LAST, FIRST)


async def refused(cards: CardAuthentication, question: CardQuestion = QUESTION, terminal: str = TERMINAL) -> Reason:
    with pytest.raises(YikatongError) as caught:
        await cards.answer(terminal, question)
    return caught.value.reason


async def test_a_genuine_cards_challenge_is_answered() -> None:
    cards = card_authentication(soft_hsm())
    assert cards.available
    assert await cards.answer(TERMINAL, QUESTION) == RIGHT
    assert await cards.answer(TERMINAL, replace(QUESTION, challenge=None)) == b""


@pytest.mark.parametrize("answer", [bytes(8), RIGHT, PROOF.answer[:-1] + bytes((PROOF.answer[-1] ^ 1,))])
async def test_a_card_that_has_not_proved_itself_gets_nothing(answer: bytes) -> None:
    asked: list[CardKey] = []

    class Counting:
        async def cryptogram(self, key: CardKey, holder: KeyHolder, factor: bytes, data: bytes) -> bytes:
            asked.append(key)
            return await soft_hsm().cryptogram(key, holder, factor, data)

        def close(self) -> None: ...

    question = replace(QUESTION, proof=replace(PROOF, answer=answer))
    assert await refused(card_authentication(Counting()), question) is Reason.CARD_NOT_GENUINE
    assert asked == [CardKey.IRK]


@pytest.mark.parametrize(
    ("agreement", "reason"),
    [(Agreement.SUSPENDED, Reason.INSTITUTION_SUSPENDED), (Agreement.TERMINATED, Reason.INSTITUTION_TERMINATED)],
)
async def test_an_institution_without_an_agreement_opens_no_card(agreement: Agreement, reason: Reason) -> None:
    assert await refused(card_authentication(soft_hsm(), agreement=agreement)) is reason


async def test_a_terminal_that_nobody_knows() -> None:
    assert await refused(card_authentication(soft_hsm()), terminal="terminal-99") is Reason.TERMINAL_UNKNOWN


async def test_a_gateway_without_a_security_module() -> None:
    cards = card_authentication(None)
    assert not cards.available
    assert await refused(cards) is Reason.HSM_UNAVAILABLE


async def test_a_security_module_that_does_not_answer() -> None:
    class Silent:
        async def cryptogram(self, key: CardKey, holder: KeyHolder, factor: bytes, data: bytes) -> bytes:
            await asyncio.Event().wait()
            raise AssertionError

        def close(self) -> None: ...

    cards = card_authentication(Silent(), hsm_s=0.05)
    assert await refused(cards) is Reason.HSM_UNAVAILABLE


async def test_ssf33_is_refused_by_name() -> None:
    question = replace(QUESTION, algorithm=CardAlgorithm.SSF33)
    assert await refused(card_authentication(soft_hsm()), question) is Reason.CARD_ALGORITHM_UNSUPPORTED


class _Clock(SystemClock):
    ms = 0

    def boot_ms(self) -> int:
        return self.ms


def test_the_budget_of_a_minute() -> None:
    clock = _Clock()
    budget = Budget(clock, 6)

    def spent(terminal: str = "a") -> int:
        """How many pass now."""
        for count in range(100):
            try:
                budget.spend(terminal)
            except YikatongError as error:
                assert (error.reason, error.facts) == (Reason.TOO_MANY_AUTHENTICATIONS, {"per_minute": 6})
                return count
        raise AssertionError("no end")

    assert spent() == 6
    assert spent() == 0
    assert spent("b") == 6, "each terminal has its own"
    clock.ms = 9_999
    assert spent() == 0
    clock.ms = 10_000
    assert spent() == 1
    clock.ms = 40_000
    assert spent() == 3
    clock.ms = 10_000_000
    assert spent() == 6, "no more than a minute's worth is kept"


async def test_a_terminal_that_asks_too_often() -> None:
    cards = card_authentication(soft_hsm(), clock=_Clock(), per_minute=2)
    bad = replace(QUESTION, proof=replace(PROOF, answer=bytes(8)))
    assert await refused(cards, bad) is Reason.CARD_NOT_GENUINE, "guesses count too"
    assert await cards.answer(TERMINAL, QUESTION) == RIGHT
    assert await refused(cards) is Reason.TOO_MANY_AUTHENTICATIONS
    assert await refused(cards, terminal="terminal-99") is Reason.TERMINAL_UNKNOWN, "and takes no room"


async def test_what_the_log_says_and_what_it_does_not() -> None:
    stream = io.StringIO()
    logs.configure(level="DEBUG", stream=stream)
    cards = card_authentication(soft_hsm())
    await cards.answer(TERMINAL, QUESTION)
    await refused(cards, replace(QUESTION, proof=replace(PROOF, answer=bytes(8))))
    logs.configure()
    genuine, forged = map(json.loads, stream.getvalue().splitlines())
    assert (genuine["outcome"], genuine["level"], genuine["terminal_id"]) == ("GENUINE", "info", TERMINAL)
    assert (forged["outcome"], forged["level"], forged["card_region"]) == ("CARD_NOT_GENUINE", "warning", "990001")
    told = stream.getvalue().lower()
    secrets = (MASTERS.irk, MASTERS.rkssse, own(MASTERS.irk), RIGHT, PROOF.answer, LAST, CODE.reveal(), HISTORICAL)
    assert [secret.hex() for secret in secrets if secret.hex() in told or repr(secret)[2:-1] in told] == []
