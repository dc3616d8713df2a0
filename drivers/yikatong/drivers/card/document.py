"""The social security card as the terminal sees it: read who it is, present the PIN."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final
from weakref import WeakKeyDictionary

from yikatong.core.card import CardAlgorithm, CardIdentity
from yikatong.core.pin import PinAnswer, PinBlocked, PinRight, PinUnclear, PinWrong
from yikatong.core.ports import CardLink, CardVisit
from yikatong.core.reasons import Reason, YikatongError
from yikatong.core.values import CardIdentificationCode, PersonName, Pin
from yikatong.drivers.card import records, text, tlv
from yikatong.drivers.card.authentication import Authenticator, CardAtHand, OpenedCard
from yikatong.drivers.card.chain import Budget, CorrectedLength, FetchedResponse, Limited
from yikatong.drivers.card.records import Files, GatedError, Item, Numbering, split

_SELECT_SSSE: Final = b"\x00\xa4\x04\x00" + bytes((len(records.SSSE_AID),)) + records.SSSE_AID
_VERIFY: Final = b"\x00\x20\x00\x00"
_NOT_OURS: Final = frozenset({0x6700, 0x6A80, 0x6A82, 0x6A86, 0x6A88, 0x6B00, 0x6D00, 0x6E00})
"""What cards of other kinds answer to the name of our environment."""
_ALGORITHM_TAG: Final = 0x9F0C
_ALGORITHMS: Final = {1: CardAlgorithm.TRIPLE_DES, 2: CardAlgorithm.SSF33, 3: CardAlgorithm.SM4}
_REFUSING_KEPT: Final = 1000


@dataclass(slots=True)
class _Stay:
    """A powered card: what it may still cost, and whether its environment has been entered."""

    budget: Budget = field(default_factory=Budget)
    entered: bool = False


class SocialSecurityCard:
    """Implements `core.ports.CardDocument`. One object serves any number of readers.

    A card that cannot be read for want of authentication is authenticated once, where an authenticator is given, and
    read again in the same session; with `every_card` those that read freely have to prove that they are genuine. A card
    that has refused is not authenticated again by this object: each refusal costs it one of its tries.

    Limits (`drivers.card.chain`) hold for a link's whole life. `clock` is monotonic, in seconds.
    """

    def __init__(
        self,
        *,
        authenticator: Authenticator | None = None,
        every_card: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._authenticator, self._every_card, self._clock = authenticator, every_card, clock
        self._stays: WeakKeyDictionary[CardLink, _Stay] = WeakKeyDictionary()
        self._refusing: deque[CardIdentificationCode] = deque(maxlen=_REFUSING_KEPT)

    async def read(self, visit: CardVisit) -> CardIdentity:
        """See the port. Between the steps the visit holds the card, and its reader's thread is free."""
        opened, outcome = await visit.run(self._attempt)
        gated = isinstance(outcome, GatedError)
        if self._authenticator is not None and (gated or self._every_card):
            await self._authenticate(self._authenticator, CardAtHand(opened, visit, self._limited), opening=gated)
            if gated:
                outcome = await visit.run(lambda link: _identity_or_gate(Files(self._chain(link)), opened))
        return _read(outcome)

    def read_identity(self, link: CardLink) -> CardIdentity:
        """A read without authentication, in the reader's thread. Raises as `read`.

        What is not needed for a debit and cannot be read is named in `unreadable_fields`.
        """
        _, outcome = self._attempt(link)
        return _read(outcome)

    def recognise(self, link: CardLink, identity: CardIdentity) -> None:
        """See the port. The environment is not selected again: a card that was without power for a moment is back in
        its master file, without its rights, and gives itself away even where its number is the same.
        """
        files = Files(self._chain(link))
        try:
            value = files.read(records.CARD_NUMBER, records.numbering(identity.spec_version))
        except GatedError as error:
            raise _session_lost(error.status) from error
        except YikatongError as error:
            if error.reason is not Reason.CARD_MUTE:  # silence of a card that has just answered: it has no power
                raise
            raise _session_lost() from error
        if value is None:
            raise _session_lost(records.ABSENT)
        if text.card_number(value) != identity.card_number:
            raise YikatongError(Reason.CARD_CHANGED, "another card answers")

    def verify_pin(self, link: CardLink, pin: Pin) -> PinAnswer:
        """See the port. VERIFY goes to the card exactly once, whatever it answers; buffers are wiped."""
        header = self.pin_command(link)
        command = bytearray(5 + (len(pin.digits) + 1) // 2)  # its full size at once: growing would leave a copy behind
        try:
            _write_verify(command, header, pin)
            return self.pin_answer(self._limited(link).transmit(command))
        except YikatongError as error:  # from here on it may have been counted, whatever the link says
            return PinUnclear(error.reason)
        finally:
            for i in range(len(command)):
                command[i] = 0

    def pin_command(self, link: CardLink) -> bytes:
        if not self._stay(link).entered:  # entered again, it may take the rights away that authentication gave
            _select(self._chain(link))
        return _VERIFY

    def pin_answer(self, answer: bytes) -> PinAnswer:
        if not answer:
            return PinUnclear(Reason.CARD_MUTE)
        _, status = split(answer)
        tries_left = _tries_left(status)
        if status == records.OK:
            return PinRight()
        if tries_left is None:
            return PinUnclear(Reason.CARD_MALFORMED, f"{status:04X}")
        return PinWrong(tries_left) if tries_left else PinBlocked()

    def pin_tries_left(self, link: CardLink) -> int | None:
        """See the port. A VERIFY without data: some cards answer it with what is left, most are not known to."""
        _, status = split(self._limited(link).transmit(self.pin_command(link)))
        return _tries_left(status)

    def _attempt(self, link: CardLink) -> tuple[OpenedCard, CardIdentity | GatedError]:
        """Enters the environment and reads: what is known of the card, and what was read or the refusal."""
        chain = self._chain(link)
        algorithm = _select(chain)
        self._stay(link).entered = True
        files = Files(chain)
        opened = OpenedCard(chain.atr, algorithm, *_version_and_code(files))
        return opened, _identity_or_gate(files, opened)

    async def _authenticate(self, authenticator: Authenticator, card: CardAtHand, *, opening: bool) -> None:
        code = card.known.identification_code
        if opening and code in self._refusing:
            raise YikatongError(
                Reason.CARD_AUTHENTICATION_REFUSED, "it has refused before, and is not tried again until a restart"
            )
        try:
            await authenticator.authenticate(card, opening=opening)
        except YikatongError as error:
            if error.reason is Reason.CARD_AUTHENTICATION_REFUSED:
                self._refusing.append(code)
            raise

    def _stay(self, link: CardLink) -> _Stay:
        return self._stays.setdefault(link, _Stay())

    def _chain(self, link: CardLink) -> CardLink:
        return FetchedResponse(CorrectedLength(self._limited(link)))

    def _limited(self, link: CardLink) -> Limited:
        return Limited(link, self._stay(link).budget, self._clock)


def _select(chain: CardLink) -> CardAlgorithm:
    """Enters the environment. Raises NOT_A_SOCIAL_SECURITY_CARD, CARD_MALFORMED."""
    data, status = split(chain.transmit(_SELECT_SSSE))
    if status in _NOT_OURS:
        raise YikatongError(
            Reason.NOT_A_SOCIAL_SECURITY_CARD, "the card has no social security environment", sw=f"{status:04X}"
        )
    if status != records.OK:
        raise tlv.malformed("the card refuses its social security environment", sw=f"{status:04X}")
    value = tlv.single(tlv.parse_ber(data), _ALGORITHM_TAG)
    if value is None or value[:2] != b"\x86\x01":
        return CardAlgorithm.TRIPLE_DES
    algorithm = _ALGORITHMS.get(value[2]) if len(value) == 3 else None
    if algorithm is None:
        raise tlv.malformed("the card names an algorithm that nobody knows")
    return algorithm


def _version_and_code(files: Files) -> tuple[str, CardIdentificationCode]:
    """Both are free on every generation (card-facts §2.6), and their record numbers never changed."""
    try:
        version = _needed(files, records.SPEC_VERSION, records.LATER_GENERATIONS)
        code = _needed(files, records.IDENTIFICATION_CODE, records.LATER_GENERATIONS)
    except GatedError as error:
        raise tlv.malformed("the card refuses what every card gives", sw=f"{error.status:04X}") from error
    return text.spec_version(version), text.identification_code(code)


def _may_be_gated(card: OpenedCard, error: GatedError) -> bool:
    """Third-generation cards refuse in several ways, older ones only for want of a right (card-facts §2.6)."""
    return card.spec_version.startswith("3.") or error.status in {0x6982, 0x6985}


def _session_lost(status: int = 0) -> YikatongError:
    facts = {"sw": f"{status:04X}"} if status else {}
    return YikatongError(Reason.CARD_REMOVED, "the card is no longer in the session in which it was read", **facts)


def _read(outcome: CardIdentity | GatedError) -> CardIdentity:
    if isinstance(outcome, GatedError):
        raise YikatongError(
            Reason.CARD_NEEDS_AUTHENTICATION, "the card does not give this item", **outcome.facts
        ) from outcome
    return outcome


def _identity_or_gate(files: Files, opened: OpenedCard) -> CardIdentity | GatedError:
    """Raises CARD_MALFORMED where a card refuses that has no gate."""
    try:
        return _identity(files, opened)
    except GatedError as error:
        if not _may_be_gated(opened, error):
            raise tlv.malformed("the card refuses an item", **error.facts) from error
        return error


def _identity(files: Files, opened: OpenedCard) -> CardIdentity:
    numbers = records.numbering(opened.spec_version)
    unreadable: list[str] = []
    number = text.card_number(_needed(files, records.CARD_NUMBER, numbers))
    issued = _issue_date(files, numbers, unreadable)
    expires = files.read(records.EXPIRY_DATE, numbers)
    person = text.social_security_number(_needed(files, records.SOCIAL_SECURITY_NUMBER, numbers))
    return CardIdentity(
        atr=opened.atr,
        algorithm=opened.algorithm,
        identification_code=opened.identification_code,
        spec_version=opened.spec_version,
        card_number=number,
        social_security_number=person,
        name=_name(files, opened, numbers, unreadable),
        issue_date=issued,
        expiry_date=text.calendar_date(expires) if expires is not None else "",
        unreadable_fields=tuple(unreadable),
    )


def _needed(files: Files, item: Item, numbers: Numbering) -> bytes:
    value = files.read(item, numbers)
    if value is None:  # on a gated card it may only seem to be absent
        raise GatedError(item, records.ABSENT)
    return value


def _issue_date(files: Files, numbers: Numbering, unreadable: list[str]) -> str:
    """Nothing depends on it: a bad one is noted. The expiry date decides, so a bad one there is an error."""
    value = files.read(records.ISSUE_DATE, numbers)
    if value is None:
        return ""
    try:
        return text.calendar_date(value)
    except YikatongError:
        unreadable.append(records.ISSUE_DATE.name)
        return ""


def _name(files: Files, card: OpenedCard, numbers: Numbering, unreadable: list[str]) -> PersonName:
    """A name that cannot be shown stops nothing: it is noted."""
    name = None
    try:
        value = files.read(records.NAME, numbers)
        extension = files.read(records.NAME_EXTENSION, numbers) if records.NAME_EXTENSION.tag in numbers else None
        name = text.person_name(value, extension or b"") if value is not None else None
    except GatedError as error:
        if _may_be_gated(card, error):
            raise
    except YikatongError as error:
        if error.reason is not Reason.CARD_MALFORMED:
            raise
    if name is None:
        unreadable.append(records.NAME.name)
        return PersonName("")
    return name


def _write_verify(command: bytearray, header: bytes, pin: Pin) -> None:
    """VERIFY: header, Lc and the PIN, two digits a byte, an odd count padded with F (card-facts §4)."""
    for i, byte in enumerate(header):
        command[i] = byte
    command[4] = len(command) - 5
    for i in range(command[4]):
        high = pin.digits[2 * i] & 0x0F
        low = pin.digits[2 * i + 1] & 0x0F if 2 * i + 1 < len(pin.digits) else 0x0F
        command[5 + i] = high << 4 | low


def _tries_left(status: int) -> int | None:
    """As a status word counts them: 63Cx, or 6983 where none is left; None where it speaks of something else."""
    if status & 0xFFF0 == 0x63C0:
        return status & 0x0F
    return 0 if status == 0x6983 else None
