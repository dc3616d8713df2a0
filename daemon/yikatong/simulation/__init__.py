"""Terminals, gateway and city in one process, under virtual time and seeded faults; the wiring of the simulation."""
