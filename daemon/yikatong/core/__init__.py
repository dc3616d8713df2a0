"""What Yikatong decides: values, reasons, ports and the three transaction tables. No I/O, no clock, no randomness."""
