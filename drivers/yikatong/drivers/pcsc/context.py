"""A context of the PC/SC service, typed: one per thread, as pcsc-lite asks. Nothing else calls pyscard."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from smartcard import scard

from yikatong.core.reasons import Reason, YikatongError
from yikatong.drivers.characters import is_shown
from yikatong.drivers.pcsc.errors import check, refused_by_polkit, translate
from yikatong.drivers.pcsc.part10 import GET_FEATURE_REQUEST

_PROTOCOLS: Final = scard.SCARD_PROTOCOL_T0 | scard.SCARD_PROTOCOL_T1
_COUNTER_SHIFT: Final = 16
_FEATURES: Final = scard.SCARD_CTL_CODE(GET_FEATURE_REQUEST)
_SOCKET: Final = "/run/pcscd/pcscd.comm"
_SOCKET_VARIABLE: Final = "PCSCLITE_CSOCK_NAME"
_NEXT: Final = "; "
_OPEN: Final = "open a session"
_COUNTED_WITHIN_S: Final = 0.5
_LOOK_AGAIN_S: Final = 0.005
_GONE: Final = {scard.SCARD_E_NO_SERVICE, scard.SCARD_E_SERVICE_STOPPED, scard.SCARD_F_COMM_ERROR}


@dataclass(frozen=True, slots=True)
class Events:
    """A reader's event word: flags, and in its upper half how often cards came and went since pcscd knows it."""

    word: int

    @property
    def reader_known(self) -> bool:
        return not self.word & (scard.SCARD_STATE_UNKNOWN | scard.SCARD_STATE_UNAVAILABLE)

    @property
    def card_present(self) -> bool:
        return bool(self.word & scard.SCARD_STATE_PRESENT)

    @property
    def card_mute(self) -> bool:
        return bool(self.word & scard.SCARD_STATE_MUTE)

    @property
    def counter(self) -> int:
        return self.word >> _COUNTER_SHIFT

    @property
    def known_state(self) -> int:
        """What to hand back to the service as already seen."""
        word: int = self.word & ~scard.SCARD_STATE_CHANGED
        return word


UNAWARE: Final = Events(scard.SCARD_STATE_UNAWARE)


class Context:
    """Raises YikatongError only. Used and closed by the thread that made it."""

    def __init__(self) -> None:
        self._context = _establish()
        self._empty: dict[str, int] = {}
        """Readers, and what their count was when they were last seen empty."""

    def find_reader(self, wanted: str) -> str:
        """The one reader that is called so, or else whose name contains it. Raises NO_READER."""
        code, names = scard.SCardListReaders(self._context, [])
        check(code, "list readers")
        matching = [name for name in names if name == wanted] or [name for name in names if wanted in name]
        if len(matching) != 1:
            raise _not_one(wanted, matching, names)
        found: str = matching[0]
        return found

    def events(self, reader: str, known: Events = UNAWARE, *, wait_ms: int = 0) -> Events:
        """The reader's events; waits up to `wait_ms` for ones that differ from `known`. Raises NO_READER, …

        pcscd shows a card that is put in a moment before it is done with powering it, and counts it after that. Whoever
        connects between the two has the card's power taken away again, and finds a card counted that has not moved
        (eventhandler.c, 1.9.9). So one that is not counted yet is looked at again.
        """
        found = self._look(reader, known, wait_ms)
        until = time.monotonic() + _COUNTED_WITHIN_S
        while self._is_uncounted(reader, found):
            if time.monotonic() > until:  # it lies in a reader that has come since, whose count begins anew
                del self._empty[reader]
                return found
            time.sleep(_LOOK_AGAIN_S)
            found = self._look(reader, UNAWARE, 0)
        if not found.card_present:
            self._empty[reader] = found.counter
        return found

    def _is_uncounted(self, reader: str, found: Events) -> bool:
        return found.card_present and found.counter == self._empty.get(reader)

    def _look(self, reader: str, known: Events, wait_ms: int) -> Events:
        code, states = scard.SCardGetStatusChange(self._context, wait_ms, [(reader, known.known_state)])
        if code == scard.SCARD_E_TIMEOUT and known != UNAWARE:
            return known
        check(code, "tell a reader's state")
        return Events(states[0][1])

    def connect(self, reader: str) -> tuple[int, int, bytes]:
        """Exclusively. Returns handle, protocol, ATR. Raises NO_CARD, CARD_MUTE, DEVICE_BUSY, NO_READER, …"""
        code, handle, protocol = scard.SCardConnect(self._context, reader, scard.SCARD_SHARE_EXCLUSIVE, _PROTOCOLS)
        check(code, "connect to the card")
        code, _reader, _state, _protocol, atr = scard.SCardStatus(handle)
        if code != scard.SCARD_S_SUCCESS:
            self.disconnect(handle)
            raise translate(code, "read the ATR")
        return handle, protocol, bytes(atr)

    def transmit(self, handle: int, protocol: int, apdu: bytes | bytearray) -> bytes:
        """One exchange; empty where the card gave nothing. The copy that pyscard wants is overwritten."""
        pci: Any = scard.SCARD_PCI_T1 if protocol == scard.SCARD_PROTOCOL_T1 else scard.SCARD_PCI_T0
        command = list(apdu)
        try:
            code, answer = scard.SCardTransmit(handle, pci, command)
        finally:
            command[:] = [0] * len(command)
        check(code, "transmit")  # before the answer is looked at: on an error pyscard fills it with stale memory
        return bytes(answer)

    def connect_to_reader(self, reader: str) -> int:
        """To the reader and not to a card in it. Returns the handle. Raises DEVICE_BUSY, NO_READER, …"""
        code, handle, _protocol = scard.SCardConnect(self._context, reader, scard.SCARD_SHARE_DIRECT, 0)
        check(code, "connect to the reader")
        return int(handle)

    def disconnect_from_reader(self, handle: int) -> None:
        """A card in it is left as it is."""
        scard.SCardDisconnect(handle, scard.SCARD_LEAVE_CARD)

    def features(self, handle: int) -> bytes:
        """What the reader can do besides (PC/SC part 10); nothing where it does not know the question."""
        result, answer = scard.SCardControl(handle, _FEATURES, [])
        return bytes(answer) if result == scard.SCARD_S_SUCCESS else b""

    def control(self, handle: int, code: int, data: bytes = b"") -> bytes:
        """Asks the reader itself; returns its answer. Raises READER_FAILED, CARD_REMOVED, …"""
        result, answer = scard.SCardControl(handle, code, list(data))
        check(result, "ask the reader")
        return bytes(answer)

    def disconnect(self, handle: int) -> None:
        """Takes the card's power away, and with it every right. A card or service that is gone needs no goodbye."""
        scard.SCardDisconnect(handle, scard.SCARD_UNPOWER_CARD)

    def close(self) -> None:
        """A service that is gone has forgotten us already."""
        scard.SCardReleaseContext(self._context)


def _not_one(wanted: str, matching: Sequence[str], names: Sequence[str]) -> YikatongError:
    """Never the first one: which reader a card goes into is for people to say. Names are the devices' own words."""
    known = _NEXT.join("".join(filter(is_shown, name)) for name in matching or names)
    if matching:
        what = f"several readers have a name like {wanted!r}: {known}"
    elif names:
        what = f"no reader has a name like {wanted!r}; there are: {known}"
    else:
        what = "no reader is connected"
    return YikatongError(Reason.NO_READER, what, reader=wanted, matching=len(matching), readers=known)


def _establish() -> Any:
    """A context. pcscd 2 hangs up on whom polkit does not let use it; one that just ends hangs up too, but not twice
    while somebody listens at its socket. Raises PCSCD_NOT_RUNNING, PCSCD_REFUSED, READER_FAILED.
    """
    code, context = scard.SCardEstablishContext(scard.SCARD_SCOPE_USER)
    hung_up = code in _GONE and _listens()
    if hung_up:
        code, context = scard.SCardEstablishContext(scard.SCARD_SCOPE_USER)
    if hung_up and code in _GONE and _listens():
        raise refused_by_polkit(_OPEN)
    check(code, _OPEN)
    return context


def _listens() -> bool:
    with socket.socket(socket.AF_UNIX) as line:
        line.settimeout(1.0)
        try:
            line.connect(os.environ.get(_SOCKET_VARIABLE) or _SOCKET)
        except OSError:
            return False
        return True
