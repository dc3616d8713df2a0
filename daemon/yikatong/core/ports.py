"""What the core and the services ask of the world. Declared here, implemented outside, chosen in `main`."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import Protocol, TypeVar

from yikatong.core.card import CardIdentity, ReaderState, ResidentCard
from yikatong.core.card_authentication import CardKey, CardQuestion, KeyHolder
from yikatong.core.pin import PinAnswer
from yikatong.core.trace import TraceEvent
from yikatong.core.values import Institution, Pin, ReaderName, VoucherCode
from yikatong.core.voucher import ResolvedVoucher, VoucherHolder

T = TypeVar("T")


class CardLink(Protocol):
    """A powered card, held exclusively. Used only inside the reader's own thread."""

    @property
    def atr(self) -> bytes:
        """The answer to reset, at most 33 bytes."""

    def transmit(self, apdu: bytes | bytearray) -> bytes:
        """Sends one command APDU; returns data and SW1 SW2, at least two bytes. Keeps no copy of a bytearray.

        Raises YikatongError CARD_REMOVED, CARD_MUTE, READER_FAILED.
        """


class CardVisit(Protocol):
    """One card's stay in a reader, from power-on to the end of our use of it. Another card is another visit."""

    async def run(self, job: Callable[[CardLink], T]) -> T:
        """Runs `job` in the reader's thread. Cancelling stops the waiting, not a job that runs.

        Raises what `job` raises, and CARD_REMOVED when the card has left, even for a moment, since the visit began.
        """


class CardReader(Protocol):
    """A reader that takes one card at a time."""

    @property
    def name(self) -> ReaderName: ...

    def visit(self, *, wait_ms: int = 0) -> AbstractAsyncContextManager[CardVisit]:
        """Opens the card that is in the reader, waiting up to `wait_ms` for one.

        Raises NO_CARD, CARD_MUTE, NO_READER, READER_FAILED, DEVICE_BUSY.
        """

    async def state(self) -> ReaderState:
        """Never raises for a missing reader: that is a state."""

    def watch(self) -> AsyncGenerator[ReaderState, None]:
        """The present state, then every change, until the consumer leaves."""

    async def close(self) -> None: ...


class CardDocument(Protocol):
    """The social security card as a document. What takes a link runs inside the reader's thread."""

    async def read(self, visit: CardVisit) -> CardIdentity:
        """Reads the card of this visit, authenticated first where it wants that.

        Raises NOT_A_SOCIAL_SECURITY_CARD, CARD_MALFORMED, CARD_NEEDS_AUTHENTICATION where nothing here can do that,
        what `CardAuthenticator` and the visit raise, and CARD_NOT_GENUINE, CARD_ALGORITHM_UNSUPPORTED,
        CARD_AUTHENTICATION_REFUSED, CARD_AUTHENTICATION_BLOCKED.
        """

    def recognise(self, link: CardLink, identity: CardIdentity) -> None:
        """Asks the card, in the session in which it was read, whether it is still the one.

        Raises CARD_REMOVED where it has left or lost its power since, CARD_CHANGED where another card answers, and what
        the link raises.
        """

    def verify_pin(self, link: CardLink, pin: Pin) -> PinAnswer:
        """Presents the PIN once, whatever comes. Raises what the link raises before that: then none was presented."""

    def pin_command(self, link: CardLink) -> bytes:
        """Enters the environment whose PIN it is; CLA, INS, P1 and P2 of VERIFY for keys that add the rest themselves.

        Raises what the link raises.
        """

    def pin_answer(self, answer: bytes) -> PinAnswer:
        """What an answer to such a VERIFY means: SW1 and SW2, or nothing where none came."""

    def pin_tries_left(self, link: CardLink) -> int | None:
        """Asks the card without presenting a PIN (assumption, card-facts §4); None where it does not say.

        Raises what the link raises.
        """


class PinAttempt(Protocol):
    """One try at the PIN of the card that was read. One of the two is called, at most once.

    Cancelling stops the waiting; what became of a PIN that is on its way is heard all the same.
    """

    async def present(self, pin: Pin) -> None:
        """Takes the PIN over, presents it and wipes it. Raises where the card did not accept it."""

    async def leave_to(self, keys: Callable[[bytes], Awaitable[bytes]]) -> None:
        """`keys` get a VERIFY up to its P2, have the PIN typed behind it, and return the card's answer (or nothing).

        Where they raise, no PIN has reached the card. Raises where the card did not accept it.
        """


class CardAuthenticator(Protocol):
    """Where the keys are that open cards: a PSAM in the terminal, or the centre."""

    async def check(self) -> str:
        """What answers there, for people: a PSAM's terminal number, or nothing. Moves no card.

        Raises NO_PSAM, PSAM_FAILED, PSAM_UNSUITABLE, HSM_UNAVAILABLE, and DEVICE_BUSY while a card is authenticated.
        """


class CardCentre(Protocol):
    """The centre (省平台), whose security module authenticates cards in two steps (card-facts §5.4)."""

    async def authenticate(self, question: CardQuestion) -> bytes:
        """The card's challenge answered, 8 bytes; nothing where none was asked. Ends within a time of its own.

        Raises CARD_NOT_GENUINE, NO_CARD_KEY, CARD_ALGORITHM_UNSUPPORTED, HSM_UNAVAILABLE, TOO_MANY_AUTHENTICATIONS,
        GATEWAY_UNREACHABLE, and why this terminal may not ask.
        """

    async def check(self) -> None:
        """Raises HSM_UNAVAILABLE where the centre is known to have no security module."""


class Hsm(Protocol):
    """The security module (加密机) of the centre. Keys never leave it: it is asked for cryptograms."""

    async def cryptogram(self, key: CardKey, holder: KeyHolder, factor: bytes, data: bytes) -> bytes:
        """`data` under the session key that `factor` makes of the holder's own key; 8 bytes each.

        Raises NO_CARD_KEY, CARD_ALGORITHM_UNSUPPORTED, HSM_UNAVAILABLE.
        """

    def close(self) -> None:
        """Keys that were in this process are wiped."""


class PinEntry(Protocol):
    """Where the cardholder types the PIN: a keypad, never a message."""

    async def enter(self, attempt: PinAttempt, *, timeout_ms: int) -> None:
        """Prompts, waits, and has what was typed presented. Returns once the card has accepted it.

        Raises PIN_CANCELLED, PIN_TIMEOUT, NO_PIN_KEYPAD, PIN_KEYPAD_FAILED, DEVICE_BUSY, and what the attempt raises.
        """

    async def check(self) -> None:
        """Raises NO_PIN_KEYPAD or PIN_KEYPAD_FAILED where the keypad does not answer."""

    async def close(self) -> None: ...


class CodeScanner(Protocol):
    """Where the cardholder holds the code of an e-voucher."""

    async def scan(self, *, timeout_ms: int, listening: Callable[[], None] = lambda: None) -> VoucherCode:
        """Waits for one code, scanned from now on: `listening` is called then, in whatever thread.

        Raises SCAN_TIMEOUT, SCAN_UNREADABLE, NO_SCANNER, SCANNER_FAILED, DEVICE_BUSY.
        """

    async def check(self) -> None:
        """Raises NO_SCANNER, SCANNER_FAILED or DEVICE_BUSY where its line can't be opened."""

    async def close(self) -> None: ...


class ResidentCardReader(Protocol):
    """Where the cardholder lays a resident identity card."""

    async def read(self, *, timeout_ms: int) -> ResidentCard:
        """Waits for a card and reads it.

        Raises NO_ID_CARD, ID_CARD_MALFORMED, NO_ID_CARD_READER, ID_CARD_READER_FAILED, DEVICE_BUSY.
        """

    async def check(self) -> None:
        """Raises NO_ID_CARD_READER, ID_CARD_READER_FAILED or DEVICE_BUSY where it does not answer."""

    async def close(self) -> None: ...


class VoucherResolver(Protocol):
    """The terminal's way to the gateway, which has codes of e-vouchers resolved."""

    async def resolve(self, code: VoucherCode) -> ResolvedVoucher:
        """Ends within a time of its own.

        Raises VOUCHER_INVALID, VOUCHER_EXPIRED, VOUCHER_USED, VOUCHER_NOT_ACCEPTED, VOUCHER_SERVICE_UNREACHABLE,
        TOO_MANY_VOUCHERS, GATEWAY_UNREACHABLE, and why this terminal may not ask.
        """

    async def check(self) -> None:
        """Raises VOUCHER_NOT_ACCEPTED where the gateway is known to have no service, and why it can't be asked."""


class VoucherService(Protocol):
    """The national e-voucher service (医保电子凭证), as the gateway asks it. What it does is assumed."""

    async def holder_of(self, code: VoucherCode, institution: Institution) -> VoucherHolder:
        """Whose code that is; `institution` is where it was shown. Ends within a time of its own.

        Raises VOUCHER_INVALID, VOUCHER_EXPIRED, VOUCHER_USED, VOUCHER_NOT_ACCEPTED, VOUCHER_SERVICE_UNREACHABLE.
        """


class ReceiptPrinter(Protocol):
    """Where slips are printed. No transaction waits for it."""

    async def print_receipt(self, text: str) -> None:
        """Prints a receipt as `core.receipt.as_text` lays it out, cuts it off; where it raises, part may be on paper.

        Raises PRINTER_OUT_OF_PAPER, PRINTER_NOT_READY, NO_PRINTER, PRINTER_FAILED, DEVICE_BUSY.
        """

    async def check(self) -> None:
        """Raises what `print_receipt` would raise now."""

    async def close(self) -> None: ...


class CustomerDisplay(Protocol):
    """Two lines that the customer reads, 20 columns each. No transaction waits for it."""

    async def show(self, upper: str, lower: str) -> None:
        """What does not fit is cut off. Raises NO_CUSTOMER_DISPLAY, CUSTOMER_DISPLAY_FAILED, DEVICE_BUSY."""

    async def clear(self) -> None:
        """Raises as `show` does."""

    async def check(self) -> None:
        """Raises as `show` does where its line can't be opened; what is shown stays."""

    async def close(self) -> None: ...


class Tracer(Protocol):
    """What passes between terminal and devices, for whoever watches, without anybody's data."""

    def watch(self, *, recording: bool) -> AsyncGenerator[TraceEvent, None]:
        """First TraceBegun, then everything from now on, until the consumer leaves or the terminal stops.

        `recording`: an invented person takes the real one's place, always the same one for the same person, and bytes
        come with it. Otherwise what is a person's is masked. One who does not keep up is told how much was missed.
        Raises DEVICE_BUSY where too many watch already.
        """
