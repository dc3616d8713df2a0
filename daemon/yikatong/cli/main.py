"""The command `yikatong`. Each group lives in a file of its own and is imported when it is called."""

from __future__ import annotations

import importlib
import os
from typing import Final

import click

# grpcio's C core writes notes of its own to standard error; only its errors are anybody's business here.
os.environ.setdefault("GRPC_VERBOSITY", "ERROR")

_COMMANDS: Final = {
    "demo": "demo",
    "daemon": "services",
    "gateway": "services",
    "check-config": "services",
    "card": "window",
    "pay": "window",
    "cancel": "window",
    "refund": "window",
    "transactions": "window",
    "receipt": "window",
    "doctor": "doctor",
    "selftest": "selftest",
    "simulate": "simulate",
    "bench": "bench",
    "ops": "ops",
    "explain": "explain",
}


class Lazy(click.Group):
    """Finds a command in its module: `doctor` does not wait for the imports of `daemon`."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return None
        module = importlib.import_module(f"yikatong.cli.{_COMMANDS[cmd_name]}")
        command = getattr(module, cmd_name.replace("-", "_"))
        assert isinstance(command, click.Command)
        return command


@click.group(cls=Lazy, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="yikatong")
def main() -> None:
    """一卡通：社会保障卡异地扣款中间件 / Yikatong: payment with the social security card in another city."""


if __name__ == "__main__":
    main()
