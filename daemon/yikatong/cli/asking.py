"""How the operator's commands ask the gateway: who asks, the channel, and failures in an operator's words."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable, Coroutine
from datetime import UTC
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click
import msgspec

from yikatong.cli import client, output
from yikatong.core.reasons import Reason, YikatongError
from yikatong.runtime.clock import CHINA

if TYPE_CHECKING:
    import grpc.aio
    from google.protobuf.message import Message
    from google.protobuf.timestamp_pb2 import Timestamp

OPERATOR_DEFAULT: Final = Path("/etc/yikatong/operator.toml")
OPERATOR_VARIABLE: Final = "YIKATONG_OPERATOR"
CALL_S: Final = 60.0

_SENTENCES: Final = {
    Reason.INSTITUTION_UNKNOWN: ("没有这家机构。", "There is no such institution."),
    Reason.GATEWAY_UNREACHABLE: ("无法连接网关。", "The gateway can't be reached."),
    Reason.TERMINAL_UNKNOWN: ("没有这台终端。", "There is no such terminal."),
    Reason.TRANSACTION_NOT_FOUND: ("没有待决定的这笔交易。", "No such transaction waits for a decision."),
    Reason.INVALID_FIELD: ("输入不符合要求。", "What was entered is not valid."),
    Reason.INTERNAL: ("网关内部错误，操作是否生效未知。", "The gateway failed inside; whether it took effect is open."),
    Reason.CERTIFICATE_INVALID: ("证书或私钥无效。", "The certificate or its key is not valid."),
}  # fmt: skip
_NEXT: Final = {
    Reason.INSTITUTION_UNKNOWN: (
        "请用 yikatong ops institutions 核对机构编码；新机构须先写入网关配置。",
        "Look the code up with yikatong ops institutions; a new one has to be in the gateway's configuration first.",
    ),
    Reason.TRANSACTION_NOT_FOUND: (
        "请用 yikatong ops unresolved 核对交易号。",
        "Look the transaction up with yikatong ops unresolved.",
    ),
    Reason.GATEWAY_UNREACHABLE: (
        "请核对网关地址和证书，并在网关上查看 systemctl status yikatong-gateway。",
        "Check the gateway's address and the certificates; on the gateway look at systemctl status yikatong-gateway.",
    ),
    Reason.NOT_ALLOWED: (
        "请使用通用名以 operator- 开头的证书。",
        "Use a certificate whose common name begins with operator-.",
    ),
    Reason.TERMINAL_UNKNOWN: (
        "请用 yikatong ops fleet 核对终端编号；新终端须先写入网关配置。",
        "Look its id up with yikatong ops fleet; a new one has to be in the gateway's configuration first.",
    ),
    Reason.INVALID_FIELD: ("请改正后重试。", "Correct it and try again."),
    Reason.CERTIFICATE_INVALID: (
        "请核对 operator.toml 中的三个文件；需要时换发操作员证书。",
        "Check the three files that operator.toml names; renew the operator's certificate if need be.",
    ),
    Reason.STORE_UNAVAILABLE: (
        "请在网关上查看磁盘和日志：journalctl -u yikatong-gateway；重启后再查是否已生效。",
        "Look at disk and log of the gateway: journalctl -u yikatong-gateway; ask again after its restart.",
    ),
    Reason.INTERNAL: (
        "请在网关日志中按事件号查找原因，并再查一次是否已生效。",
        "Find the incident in the gateway's log, and look again whether it took effect.",
    ),
}
"""An operator is nobody's cashier: where the table of reasons speaks to a window, this is said instead."""

_WHY: Final = {
    "NO_PROPOSAL": ("没有可撤回的提议，或已复核。", "There is no proposal to take back, or it is approved."),
    "ENDED": ("原终端已自行了结这笔交易，无须决定。", "Its old machine has ended it: there is nothing to decide."),
    "NOT_SETTLED": ("参保地尚未答复这笔交易的状态。", "Its home city has not said yet how it stands."),
    "NOTHING_MOVED": ("这笔交易没有动钱，只能退回（reverse）。", "No money has moved: it can only be reversed."),
    "CONTENT_DIFFERS": (
        "终端与账本的内容不一致，须与机构、参保地和厂商一起核查。",
        "Terminal and ledger hold different content: look into it with institution, city and vendor.",
    ),
    "MONTH_NOT_OVER": ("该月尚未结束。", "The month is not over."),
    "LATER_MONTH_CLOSED": ("之后的月份已关账；迟到的计入下一个未关账的月份。", "A later month is closed already."),
    "MONTH_BEING_CLOSED": ("另一个月份正在关账，请先完成它。", "Another month is being closed: finish that first."),
    "CLOSURE_TIME": ("关闭的结束须晚于开始和现在。", "A closure ends after it begins, and not before now."),
    "NO_SUCH_CITY": ("没有这个参保地；见 yikatong ops cities。", "There is no such city; see yikatong ops cities."),
    "NO_SUCH_STATEMENT": (
        "没有这张清算单；见 yikatong ops clearing。",
        "No such statement; see yikatong ops clearing.",
    ),
}
"""What is in the way, by the fact `why` of the error."""

_FACTS: Final = (
    ("field", "字段", "field"),
    ("month", "月份", "month"),
    ("decision", "已提出的决定", "proposed decision"),
    ("proposed_by", "提出人", "proposed by"),
    ("incident", "事件号", "incident"),
)

Answer = TypeVar("Answer")
Command = TypeVar("Command", bound=Callable[..., Any])


class Operator(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """operator.toml: where the gateway is, and who the operator is (PEM files)."""

    gateway: str
    authority: str
    certificate: str
    key: str
    server_name: str = ""


def with_operator(command: Command) -> Command:
    """Adds the options that say who asks; handed on as `operator: Operator`."""

    def made(
        gateway: str, authority: str, certificate: str, key: str, server_name: str, operator: Path | None, **others: Any
    ) -> Any:
        from yikatong.runtime.config import load

        said = {"gateway": gateway, "authority": authority, "certificate": certificate, "key": key}
        missing = [name for name, value in said.items() if not value]
        if not missing:
            return command(operator=Operator(**said, server_name=server_name), **others)
        if len(missing) < len(said):
            raise click.UsageError(f"--{missing[0]} 缺失 / is missing")
        try:
            found = load(operator or OPERATOR_DEFAULT, Operator)
        except YikatongError as error:
            sys.exit(tell(error))
        return command(operator=found, **others)

    made.__name__, made.__doc__ = command.__name__, command.__doc__
    made.__click_params__ = getattr(command, "__click_params__", [])  # type: ignore[attr-defined]  # where click keeps a command's options
    path = click.Path(path_type=str, dir_okay=False)
    for option in (
        click.option("--gateway", default="", metavar="HOST:PORT", help="网关地址 / the gateway's address"),
        click.option("--authority", type=path, default="", help="CA 证书 / the authority's certificate (PEM)"),
        click.option("--certificate", type=path, default="", help="操作员证书 / the operator's certificate (PEM)"),
        click.option("--key", type=path, default="", help="操作员私钥 / the operator's key (PEM)"),
        click.option("--server-name", default="", help="网关证书中的名称 / name in the gateway's certificate"),
        click.option(
            "--operator",
            type=click.Path(path_type=Path, dir_okay=False),
            envvar=OPERATOR_VARIABLE,
            default=None,
            help=f"以上各项的 TOML 文件 / a TOML file with the above ({OPERATOR_DEFAULT})",
        ),
    ):
        made = option(made)
    return made  # type: ignore[return-value]  # it is called as click calls commands, by keyword


# --- asking -----------------------------------------------------------------------------------------------------


def to_gateway(operator: Operator) -> grpc.aio.Channel:
    import grpc.aio

    from yikatong.runtime.tls import CLIENT_OPTIONS, Identity

    identity = Identity(Path(operator.authority), Path(operator.certificate), Path(operator.key))
    options: list[tuple[str, Any]] = list(CLIENT_OPTIONS)
    if operator.server_name:
        options.append(("grpc.ssl_target_name_override", operator.server_name))
    return grpc.aio.secure_channel(operator.gateway, identity.channel_credentials(), options=options)


async def asked(call: Awaitable[Answer]) -> Answer:
    """The answer. Raises YikatongError: what the gateway says, or GATEWAY_UNREACHABLE."""
    import grpc.aio

    from yikatong.runtime import edge

    try:
        return await call
    except grpc.aio.AioRpcError as error:
        told = edge.error_of(error)
        raise told or YikatongError(Reason.GATEWAY_UNREACHABLE, error.code().name) from error


def run(work: Coroutine[Any, Any, Answer]) -> Answer:
    """Runs `work`; a failure is told to the person and ends the command with exit status 2."""
    try:
        return asyncio.run(work)
    except YikatongError as error:
        if output.wants_debug():
            raise
        sys.exit(tell(error))


def tell(error: YikatongError) -> int:
    """Tells a failure in an operator's words. Returns the exit status: 2 not asked, 3 nobody knows, 1 refused."""
    meaning, reason = error.meaning, error.reason
    sentence = output.choose(*_SENTENCES.get(reason, (meaning.zh, meaning.en)))
    next_step = output.choose(*_NEXT.get(reason, (meaning.next_zh, meaning.next_en)))
    if output.wants_json():
        facts = {name: value for name, value in error.facts.items() if name not in {"outcome", "retry"}}
        told = {
            "reason": reason.value,
            "message": sentence,
            "next_step": next_step,
            "detail": error.detail,
            "facts": facts,
        }
        output.echo_json({"error": told})
    else:
        console = output.console(error=True)
        console.print(f"✗ {sentence} [{reason.value}]", style="bold red")
        if (why := str(error.facts.get("why", ""))) in _WHY:
            console.print(f"  {output.choose(*_WHY[why])}")
        elif detail := error.detail.removeprefix(reason.value).removeprefix(": "):
            console.print(f"  {detail}", style="dim")
        for name, zh, en in _FACTS:
            if value := error.facts.get(name):
                console.print(f"  {output.choose(zh, en)}: {value}")
        console.print(f"  {output.choose('下一步', 'next')}: {next_step}")
    if reason in {Reason.GATEWAY_UNREACHABLE, Reason.CERTIFICATE_INVALID, Reason.CONFIGURATION_INVALID}:
        return client.EXIT_NOT_ASKED
    open_still = reason in {Reason.INTERNAL, Reason.STORE_UNAVAILABLE}
    return client.EXIT_PENDING if open_still else client.EXIT_FAILED


def plain(message: Message) -> dict[str, Any]:
    """The message as JSON's dicts and lists, with every field that always has a value."""
    from google.protobuf.json_format import MessageToDict

    return MessageToDict(message, preserving_proto_field_name=True, always_print_fields_with_no_presence=True)


def china_time(stamp: Timestamp) -> str:
    """As people read it: minutes, with the zone."""
    return stamp.ToDatetime(UTC).astimezone(CHINA).strftime("%Y-%m-%d %H:%M +08:00")
