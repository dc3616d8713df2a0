"""Which processes use PC/SC, as /proc tells: where a reader is held by another program, it is one of these."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_LIBRARY: Final = "/libpcsclite"


@dataclass(frozen=True, slots=True)
class Client:
    """A process that has PC/SC's client library loaded."""

    pid: int
    command: str


@dataclass(frozen=True, slots=True)
class Clients:
    """What was found. `complete` is false where this user may not look at every process: root may."""

    found: tuple[Client, ...]
    complete: bool


def clients(proc: Path = Path("/proc")) -> Clients:
    """All but this process, by number. A process that ends meanwhile is left out."""
    found, complete = [], True
    for folder in proc.iterdir():
        if not folder.name.isdigit() or int(folder.name) == os.getpid():
            continue
        try:
            if _LIBRARY in (folder / "maps").read_text(errors="replace"):
                found.append(Client(int(folder.name), _command(folder)))
        except PermissionError:
            complete = False
        except OSError:  # it has just ended
            continue
    return Clients(tuple(sorted(found, key=lambda client: client.pid)), complete)


def _command(folder: Path) -> str:
    """The program's name as it was started, without its arguments: they may hold anything."""
    program = (folder / "cmdline").read_bytes().split(b"\0")[0].decode(errors="replace")
    return Path(program).name or (folder / "comm").read_text(errors="replace").strip()
