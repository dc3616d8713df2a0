"""A PIN on its way between two threads that do not wait for each other."""

from __future__ import annotations

import threading

from yikatong.core.reasons import Reason, YikatongError
from yikatong.core.values import Pin


class PinHandover:
    """One side leaves a PIN, the other takes it, at most once; whichever sees last that nobody wants it wipes it.

    A job in a device's thread can't be stopped, and a task that left takes no result: neither may count on the other.
    """

    def __init__(self, pin: Pin | None = None) -> None:
        self.unwanted = threading.Event()
        """Set by `abandon`: for those who prompt, to stop."""
        self._lock = threading.Lock()
        self._pin = pin

    def leave(self, pin: Pin) -> None:
        """Wipes it at once where nobody wants it any more."""
        with self._lock:
            if self.unwanted.is_set():
                pin.wipe()
            else:
                self._pin = pin

    def take(self) -> Pin:
        """The PIN, from now on the caller's to wipe. Raises PIN_CANCELLED where it was abandoned."""
        with self._lock:
            pin, self._pin = self._pin, None
        if pin is None:
            raise YikatongError(Reason.PIN_CANCELLED, "those who asked for the PIN have left")
        return pin

    def abandon(self) -> None:
        """Nobody waits any more: a PIN that is or comes here is wiped."""
        with self._lock:
            self.unwanted.set()
            if self._pin is not None:
                self._pin.wipe()
                self._pin = None
