"""Devices on serial lines: the port they share, and the PIN keypad."""
