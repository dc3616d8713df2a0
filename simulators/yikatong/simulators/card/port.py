"""What every pretend card is: five methods, whatever is behind them."""

from __future__ import annotations

from typing import Protocol


class CardPulledError(Exception):
    """The card leaves the reader in the middle of a command. Raised by a pretend card, handled by what holds it."""


class PretendCard(Protocol):
    """A chip with contacts, held by an in-process reader or by the virtual reader's slot, by one thread at a time."""

    @property
    def atr(self) -> bytes:
        """The answer to reset, or nothing where the chip is dead."""

    def power_on(self) -> None: ...

    def power_off(self) -> None: ...

    def reset(self) -> None: ...

    def execute(self, apdu: bytes) -> bytes:
        """Answers one command: data and SW1 SW2; nothing where the card stays mute. May raise CardPulledError."""
