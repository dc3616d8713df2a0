"""What passes between terminal and devices, for whoever watches: masked, decoded, or as an invented person's."""

from yikatong.drivers.trace.lines import DisplayWords, IdCardWords, LineTrace, PinPadWords, PrinterWords, ScannerWords
from yikatong.drivers.trace.observed import ObservedReader
from yikatong.drivers.trace.trace import Trace

__all__ = [
    "DisplayWords",
    "IdCardWords",
    "LineTrace",
    "ObservedReader",
    "PinPadWords",
    "PrinterWords",
    "ScannerWords",
    "Trace",
]
