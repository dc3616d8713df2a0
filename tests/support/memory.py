"""What a process holds, for tests that look for what must not be there."""

from __future__ import annotations

from pathlib import Path


def memory_of(pid: int) -> bytes:
    """What the process can write to: heap, stacks, anonymous memory."""
    pieces = []
    with Path(f"/proc/{pid}/mem").open("rb", buffering=0) as memory:
        for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
            span, rights, *_ = line.split()
            if rights.startswith("rw"):
                start, end = (int(edge, 16) for edge in span.split("-"))
                memory.seek(start)
                pieces.append(memory.read(end - start))
    return b"\n".join(pieces)
