"""Authentication by the centre's security module (加密机), in two steps (card-facts §5.4)."""

from __future__ import annotations

import secrets
from collections.abc import Callable

from yikatong.core.card_authentication import BLOCK, CardChallenge, CardQuestion, demand_known
from yikatong.core.ports import CardCentre
from yikatong.drivers.card.authentication import CardAtHand


class CentreAuthenticator:
    """Implements `Authenticator` and `core.ports.CardAuthenticator`.

    Of two challenges the `last` one makes the session and the earlier one is the data, or the other way round: sources
    contradict each other (card-facts §5.2). `random` makes the data of the proof.
    """

    def __init__(
        self, centre: CardCentre, *, last: bool = True, random: Callable[[int], bytes] = secrets.token_bytes
    ) -> None:
        self._centre, self._last, self._random = centre, last, random

    async def authenticate(self, card: CardAtHand, *, opening: bool) -> None:
        """See `Authenticator`; raises what the centre raises. The centre answers no challenge of a card that it does
        not know to be genuine.
        """
        known = card.known
        demand_known(known.algorithm)
        holder = known.key_holder
        proof = await card.prove(self._random(BLOCK), self._random(BLOCK))
        challenge = await self._challenge(card) if opening else None
        cryptogram = await self._centre.authenticate(
            CardQuestion(known.algorithm, holder.historical_bytes, known.identification_code, proof, challenge)
        )
        if challenge is not None:
            await card.open(cryptogram, challenge.data)

    async def check(self) -> str:
        await self._centre.check()
        return ""

    async def _challenge(self, card: CardAtHand) -> CardChallenge:
        earlier, later = await card.challenges(2)
        return CardChallenge(later, earlier) if self._last else CardChallenge(earlier, later)
