"""An operator at the command line: asks a gateway of `tests.gateway_world` in the name of a certificate."""

from __future__ import annotations

import json
from typing import Any

from tests.gateway_world import World
from tests.support.terminal_world import command


async def ops(
    province: World, port: int, *words: str, name: str = "operator-1", lang: str = "en"
) -> tuple[int, str, str]:
    """Runs `yikatong ops …`: exit status, standard output, standard error."""
    identity = province.ca.client(name)
    file = province.folder / f"{name}.toml"
    file.write_text(
        f'gateway = "localhost:{port}"\nauthority = "{identity.authority}"\n'
        f'certificate = "{identity.certificate}"\nkey = "{identity.key}"\n'
    )
    return await command("ops", *words, "--lang", lang, YIKATONG_OPERATOR=str(file))


async def asked(province: World, port: int, *words: str, name: str = "operator-1") -> dict[str, Any]:
    """As `ops`, with --json; it must succeed."""
    status, out, error = await ops(province, port, *words, "--json", name=name)
    assert status == 0, out + error
    told = json.loads(out)
    assert isinstance(told, dict)
    return told
