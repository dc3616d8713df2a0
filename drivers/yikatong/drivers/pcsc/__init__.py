"""Readers that speak PC/SC, through pcscd."""

from yikatong.drivers.pcsc.reader import PcscReader

__all__ = ["PcscReader"]
