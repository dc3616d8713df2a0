"""Readers behind a vendor's shared library (the SSSE32 family), which runs in a process of its own."""
