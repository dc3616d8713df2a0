"""The process that holds a vendor's library: `python -m yikatong.drivers.vendor.host SOCKET LIBRARY DEVICE`.

It may crash, hang and overwrite its memory; the daemon kills it and starts another one. It imports the standard library
only, and ends when the daemon does. What the library prints goes nowhere: it may be a person's.

Entry points (card-facts §9; signatures as vendors' headers and programs have them): ICC_Reader_Open, _Close, _PowerOn,
_PowerOff, _GetStatus, _Application; for PIN entry ICC_DispSound and ICC_GetInputPass, where the library has them.
"""

from __future__ import annotations

import ctypes
import signal
import socket
import sys
from collections.abc import Callable
from typing import Any, Final

from yikatong.drivers.vendor.wire import ANSWER_MAX, DATA_MAX, PIN_MAX, REPLY, REQUEST, Call, Code

_PR_SET_PDEATHSIG, _PR_SET_DUMPABLE = 1, 4
_OPEN: Final = "ICC_Reader_Open"
_SOUND_ENTER_PIN: Final = 4
_OWN_KEYPAD, _STOP_AT_ENTER = 0, 1  # "start" and "stop", as the programs pass them
_STATUS_MIN: Final = -(2**31)
_SLACK: Final = 64 * 1024
"""Behind each buffer that the library fills: it is told no size, and a small overrun should hit nothing."""


class Library:
    """The library's functions on one open device. Answers go to `answer`, whose first bytes belong to the last call."""

    def __init__(self, path: str, device: str) -> None:
        """Raises OSError (no library), AttributeError (an entry point is missing); see `handle` for the rest."""
        library = ctypes.CDLL(path)
        self.answer = bytearray(ANSWER_MAX + _SLACK)
        self._out = (ctypes.c_ubyte * len(self.answer)).from_buffer(self.answer)
        long, byte, bytes_ = ctypes.c_long, ctypes.c_ubyte, ctypes.POINTER(ctypes.c_ubyte)
        self._status = _function(library, "ICC_Reader_GetStatus", long, byte)
        self._power_on = _function(library, "ICC_Reader_PowerOn", long, byte, bytes_)
        self._power_off = _function(library, "ICC_Reader_PowerOff", long, byte)
        self._application = _function(library, "ICC_Reader_Application", long, byte, long, bytes_, bytes_)
        self._sound = self._input_pass = None
        if hasattr(library, "ICC_GetInputPass") and hasattr(library, "ICC_DispSound"):
            self._sound = _function(library, "ICC_DispSound", long, byte, byte)
            self._input_pass = _function(library, "ICC_GetInputPass", long, byte, bytes_, byte, byte, bytes_)
        self.handle = _function(library, _OPEN, ctypes.c_char_p)(device.encode())

    def call(self, call: int, slot: int, data: bytearray, length: int) -> tuple[int, int]:
        """What the function returned, and how many bytes of `answer` are its data."""
        match call:
            case Call.STATUS:
                return self._status(self.handle, slot), 0
            case Call.POWER_ON:
                return _filled(self._power_on(self.handle, slot, self._out))
            case Call.POWER_OFF:
                return self._power_off(self.handle, slot), 0
            case Call.APPLICATION:
                command = (ctypes.c_ubyte * len(data)).from_buffer(data)
                return _filled(self._application(self.handle, slot, length, command, self._out))
            case Call.INPUT_PASS if self._sound is not None and self._input_pass is not None:
                self._sound(self.handle, _SOUND_ENTER_PIN, 0)
                count = ctypes.c_ubyte(0)
                keypad = (_OWN_KEYPAD, _STOP_AT_ENTER)
                status = self._input_pass(self.handle, data[0], ctypes.byref(count), *keypad, self._out)
                return status, min(count.value, PIN_MAX) if status == Code.OK else 0
            case _:
                return Code.BAD_COMMAND, 0

    def wipe(self, length: int) -> None:
        ctypes.memset(self._out, 0, length)


def _function(library: ctypes.CDLL, name: str, *arguments: Any) -> Callable[..., int]:
    function = getattr(library, name)
    # Headers say long, some libraries return an int: of its register only the lower half is sure. A handle needs all.
    function.argtypes, function.restype = arguments, ctypes.c_long if name == _OPEN else ctypes.c_int
    return function  # type: ignore[no-any-return]  # ctypes knows no signatures


def _filled(status: int) -> tuple[int, int]:
    return (Code.GARBAGE, 0) if status > ANSWER_MAX else (status, max(status, 0))


def serve(channel: socket.socket, path: str, device: str) -> None:
    """First tells what opening the device returned, then answers requests until the daemon hangs up."""
    try:
        library = Library(path, device)
    except (OSError, AttributeError) as error:
        code = Code.NO_LIBRARY if isinstance(error, OSError) else Code.NO_ENTRY_POINT
        channel.sendall(REPLY.pack(code, 0))
        return
    channel.sendall(REPLY.pack(max(min(library.handle, 0), _STATUS_MIN), 0))
    header, data = bytearray(REQUEST.size), bytearray(DATA_MAX)
    while _receive(channel, memoryview(header)):
        call, slot, length = REQUEST.unpack(header)
        with memoryview(data)[:length] as wanted:
            if length > DATA_MAX or not _receive(channel, wanted):
                return
        status, filled = library.call(call, slot, data, length)
        with memoryview(library.answer)[:filled] as answer:
            channel.sendall(REPLY.pack(status, filled))
            channel.sendall(answer)
        library.wipe(max(filled, 2 * PIN_MAX))
        for i in range(length):  # it may have been a PIN
            data[i] = 0


def _receive(channel: socket.socket, into: memoryview) -> bool:
    """Fills `into`; false where the daemon has hung up."""
    filled = 0
    while filled < len(into):
        count = channel.recv_into(into[filled:])
        if not count:
            return False
        filled += count
    return True


def main() -> None:
    number, path, device = sys.argv[1:]
    libc = ctypes.CDLL(None)
    libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)  # a hanging call must not outlive the daemon
    libc.prctl(_PR_SET_DUMPABLE, 0)  # a crash must leave no PIN on the disk
    with socket.socket(fileno=int(number)) as channel:
        serve(channel, path, device)


if __name__ == "__main__":
    main()
