"""Questions about cards, between protobuf and the core's types."""

from __future__ import annotations

from typing import Final

from yikatong.api.gateway.v1 import gateway_pb2 as gateway
from yikatong.core.card import CardAlgorithm
from yikatong.core.card_authentication import CardChallenge, CardProof, CardQuestion
from yikatong.core.reasons import Reason, YikatongError
from yikatong.core.values import CardIdentificationCode

_ALGORITHMS: Final = {
    CardAlgorithm.TRIPLE_DES: gateway.CARD_ALGORITHM_TRIPLE_DES,
    CardAlgorithm.SSF33: gateway.CARD_ALGORITHM_SSF33,
    CardAlgorithm.SM4: gateway.CARD_ALGORITHM_SM4,
}
_ALGORITHMS_BACK: Final = {value: algorithm for algorithm, value in _ALGORITHMS.items()}


def question_to_wire(question: CardQuestion) -> gateway.AuthenticateCardRequest:
    proof, challenge = question.proof, question.challenge
    return gateway.AuthenticateCardRequest(
        algorithm=_ALGORITHMS[question.algorithm],
        historical_bytes=question.historical_bytes,
        identification_code=question.identification_code.reveal(),
        proof=gateway.CardProof(factor=proof.factor, data=proof.data, answer=proof.answer),
        challenge=gateway.CardChallenge(factor=challenge.factor, data=challenge.data) if challenge else None,
    )


def question_from_wire(request: gateway.AuthenticateCardRequest) -> CardQuestion:
    """Of a request whose rules were checked. Raises INVALID_FIELD where the code names no region."""
    proof, challenge = request.proof, request.challenge
    question = CardQuestion(
        _ALGORITHMS_BACK[request.algorithm],
        request.historical_bytes,
        CardIdentificationCode(request.identification_code),
        CardProof(proof.factor, proof.data, proof.answer),
        CardChallenge(challenge.factor, challenge.data) if request.HasField("challenge") else None,
    )
    try:
        _ = question.holder
    except ValueError as error:
        raise YikatongError(Reason.INVALID_FIELD, "the code names no region", field="identification_code") from error
    return question
