"""A receipt as an ESC/POS printer takes it: blocks of commands and text. Pure but for the import of python-escpos.

Assumptions: the printer has Chinese characters, in GB18030 (a cheap one in GBK, of which it is the extension), FS &
switches them on, and a line takes 48 columns (paper of 80 mm), for which receipts are laid out (core/receipt.py).
"""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, Final

from yikatong.core.reasons import Reason, YikatongError
from yikatong.drivers.characters import is_shown

if TYPE_CHECKING:
    from escpos.printer import Dummy

BLOCK_MAX: Final = 1024
"""Bytes that are sent at once; then the printer has to say that it is done with them. The smallest printers buffer
4 KiB (assumption), and one without a wire for flow control loses what comes too fast."""
LINE_MAX: Final = 256
"""Bytes; 48 columns of the longest characters take 96."""
LINES_MAX: Final = 2000

_CHINESE: Final = b"\x1c&"


def blocks(text: str, profile: str) -> list[bytes]:
    """The receipt in blocks of whole lines, the last one with the cut that `profile` (python-escpos) has.

    Raises INVALID_FIELD where the text is no receipt (a line or all of it too long), CONFIGURATION_INVALID where the
    profile is unknown, PRINTER_FAILED where the library can't be loaded.
    """
    lines = [
        "".join(char if is_shown(char) else "?" for char in line).encode("gb18030") + b"\n" for line in text.split("\n")
    ]
    if len(lines) > LINES_MAX or max(map(len, lines)) > LINE_MAX:
        raise YikatongError(Reason.INVALID_FIELD, "no receipt is that long or that wide", lines=len(lines))
    printer = _composer(profile)
    printer.hw("INIT")
    done = [printer.output + _CHINESE]
    for line in lines:
        if len(done[-1]) + len(line) > BLOCK_MAX:
            done.append(b"")
        done[-1] += line
    printer.clear()
    printer.cut()
    done[-1] += printer.output
    return done


def _composer(profile: str) -> Dummy:
    """python-escpos is imported by the first receipt: it takes 18 MB, a quarter of a second and a temporary folder.

    What hangs on that (a full disk) then belongs to the receipt, and not to the start of a daemon.
    """
    try:
        from escpos import capabilities
        from escpos.printer import Dummy
    except OSError as error:
        raise YikatongError(Reason.PRINTER_FAILED, "the printer library can't be loaded") from error
    shutil.rmtree(capabilities.pickle_dir, ignore_errors=True)  # its cache, which the next start does not look for
    try:
        return Dummy(profile=profile)
    except (KeyError, capabilities.NotSupported) as error:
        raise YikatongError(Reason.CONFIGURATION_INVALID, "no such printer profile", profile=profile) from error
