"""What passes between terminal and devices, for whoever watches: masked, decoded, or as an invented person's."""

from yikatong.drivers.trace.lines import DisplayWords, LineTrace, PinPadWords, PrinterWords
from yikatong.drivers.trace.observed import ObservedReader
from yikatong.drivers.trace.trace import Trace

__all__ = ["DisplayWords", "LineTrace", "ObservedReader", "PinPadWords", "PrinterWords", "Trace"]
