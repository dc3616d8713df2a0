"""A question about a card travels whole, and what is no question is refused."""

from __future__ import annotations

from dataclasses import replace

import pytest

from yikatong.core.card import CardAlgorithm
from yikatong.core.card_authentication import CardChallenge, CardProof, CardQuestion
from yikatong.core.reasons import Reason, YikatongError
from yikatong.core.values import CardIdentificationCode
from yikatong.runtime.wire_authentication import question_from_wire, question_to_wire

QUESTION = CardQuestion(
    CardAlgorithm.TRIPLE_DES,
    bytes.fromhex("00815443309999250101000001"),
    CardIdentificationCode(bytes.fromhex("990001D1560000050100000133445566")),
    CardProof(b"factor 1", b"data   1", b"answer 1"),
    CardChallenge(b"factor 2", b"data   2"),
)


@pytest.mark.parametrize("algorithm", CardAlgorithm)
@pytest.mark.parametrize("challenge", [QUESTION.challenge, None])
def test_a_question_travels_whole(algorithm: CardAlgorithm, challenge: CardChallenge | None) -> None:
    question = replace(QUESTION, algorithm=algorithm, challenge=challenge)
    assert question_from_wire(question_to_wire(question)) == question


def test_a_code_that_names_no_region() -> None:
    odd = replace(QUESTION, identification_code=CardIdentificationCode(b"\xab" * 16))
    with pytest.raises(YikatongError) as caught:
        question_from_wire(question_to_wire(odd))
    assert (caught.value.reason, caught.value.facts) == (Reason.INVALID_FIELD, {"field": "identification_code"})
