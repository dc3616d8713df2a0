"""`yikatong ops institutions|suspend|resume|cities|replace`: who takes part, and since when not."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Final

import click

from yikatong.cli import output
from yikatong.cli.asking import CALL_S, Operator, asked, china_time, plain, run, to_gateway, with_operator
from yikatong.core.reasons import Reason, YikatongError

if TYPE_CHECKING:
    from yikatong.api.operations.v1 import registry_pb2 as api
    from yikatong.api.operations.v1.registry_pb2_grpc import RegistryServiceAsyncStub

_reason = click.option("--reason", required=True, help="原因，写入操作留痕 / why; it is kept on record")


class Moment(click.ParamType[datetime]):
    """A time with its zone, as ISO 8601."""

    name = "time"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> datetime:
        try:
            moment = datetime.fromisoformat(str(value))
        except ValueError:
            self.fail(f"{value!r}: 例如 / for example 2026-04-01T22:00+08:00", param, ctx)
        if moment.tzinfo is None:
            self.fail(f"{value!r}: 缺少时区 / the zone is missing, such as +08:00", param, ctx)
        return moment


@click.command()
@with_operator
@output.with_json
@output.with_language
@output.with_debug
def institutions(operator: Operator) -> None:
    """定点机构和协议状态 / Institutions and their agreements. Exit status 0, or 2 where the gateway can't be asked."""
    from yikatong.api.operations.v1 import registry_pb2 as api

    async def work() -> api.ListInstitutionsResponse:
        async with to_gateway(operator) as channel:
            return await asked(_stub(channel).ListInstitutions(api.ListInstitutionsRequest(), timeout=CALL_S))

    listed = run(work())
    if output.wants_json():
        output.echo_json(plain(listed))
        return
    for institution in listed.institutions:
        _show_institution(institution)


@click.command()
@with_operator
@output.with_json
@output.with_language
@output.with_debug
@click.argument("institution")
@click.option("--terminated", is_flag=True, help="解除协议，而不是暂停 / terminate the agreement instead")
@_reason
def suspend(operator: Operator, institution: str, terminated: bool, reason: str) -> None:
    """暂停或解除一家机构的协议，立即生效 / Suspend or terminate an institution's agreement, at once.

    只拒绝新的扣款；冲正、确认、撤销、退费照常 / Only new debits are refused; reversals, confirmations and credits pass.
    """
    _set_agreement(operator, institution, "TERMINATED" if terminated else "SUSPENDED", reason)


@click.command()
@with_operator
@output.with_json
@output.with_language
@output.with_debug
@click.argument("institution")
@_reason
def resume(operator: Operator, institution: str, reason: str) -> None:
    """恢复一家机构的协议，立即生效 / Resume an institution's agreement, at once."""
    _set_agreement(operator, institution, "ACTIVE", reason)


@click.group(invoke_without_command=True)
@with_operator
@output.with_json
@output.with_language
@output.with_debug
@click.pass_context
def cities(context: click.Context, operator: Operator) -> None:
    """参保地：状态、开闭时间、链路、待送冲正和退费 / Home cities: state, closures, link, and what waits for them."""
    from yikatong.api.operations.v1 import registry_pb2 as api

    context.obj = operator
    if context.invoked_subcommand is not None:
        return

    async def work() -> api.ListCitiesResponse:
        async with to_gateway(operator) as channel:
            return await asked(_stub(channel).ListCities(api.ListCitiesRequest(), timeout=CALL_S))

    listed = run(work())
    if output.wants_json():
        output.echo_json(plain(listed))
        return
    for city in listed.cities:
        _show_city(city)


cities.no_args_is_help = False


@cities.command("close")
@output.with_json
@output.with_language
@output.with_debug
@click.argument("city")
@click.option("--from", "begins_at", type=Moment(), help="开始，带时区；默认现在 / begin, with its zone (now)")
@click.option("--to", "ends_at", type=Moment(), help="结束，带时区；默认到重新开通为止 / end (until it is opened)")
@_reason
@click.pass_obj
def close_city(
    operator: Operator, city: str, begins_at: datetime | None, ends_at: datetime | None, reason: str
) -> None:
    """关闭一个参保地（编码或名称），现在或以后 / Close a city (code or name), now or later.

    期间新扣款被拒；冲正、确认、撤销、退费先受理，开通后送达 / New debits are refused meanwhile; reversals,
    confirmations and credits are accepted, and delivered once it is open.
    """
    from yikatong.api.operations.v1 import registry_pb2 as api

    async def work() -> api.CloseCityResponse:
        async with to_gateway(operator) as channel:
            stub = _stub(channel)
            request = api.CloseCityRequest(region=await _region(stub, city), reason=reason)
            if begins_at is not None:
                request.begins_at.FromDatetime(begins_at)
            if ends_at is not None:
                request.ends_at.FromDatetime(ends_at)
            return await asked(stub.CloseCity(request, timeout=CALL_S))

    _show_changed(run(work()))


@cities.command("open")
@output.with_json
@output.with_language
@output.with_debug
@click.argument("city")
@_reason
@click.pass_obj
def open_city(operator: Operator, city: str, reason: str) -> None:
    """开通一个参保地（编码或名称）/ Open a city (code or name) now.

    尚未开始的关闭一并取消；等候的冲正和退费随即送达 / Coming closures are taken back; what waits is delivered.
    """
    from yikatong.api.operations.v1 import registry_pb2 as api

    async def work() -> api.OpenCityResponse:
        async with to_gateway(operator) as channel:
            stub = _stub(channel)
            request = api.OpenCityRequest(region=await _region(stub, city), reason=reason)
            return await asked(stub.OpenCity(request, timeout=CALL_S))

    _show_changed(run(work()))


@click.command()
@with_operator
@output.with_json
@output.with_language
@output.with_debug
@click.argument("terminal_id", metavar="TERMINAL")
@_reason
def replace(operator: Operator, terminal_id: str, reason: str) -> None:
    """终端的机器或磁盘已失，由新机器接替 / A terminal's machine or disk is gone, and another takes its place.

    持有旧流水者从此不能签到和扣款；未确认的扣款列入 ops unresolved，由两人决定 / Whoever has the old journal is shut
    out; debits that were not confirmed are listed by ops unresolved, for two persons to decide.
    """
    from yikatong.api.operations.v1 import registry_pb2 as api

    async def work() -> api.ReplaceTerminalResponse:
        async with to_gateway(operator) as channel:
            request = api.ReplaceTerminalRequest(terminal_id=terminal_id, reason=reason)
            return await asked(_stub(channel).ReplaceTerminal(request, timeout=CALL_S))

    done = run(work())
    if output.wants_json():
        output.echo_json(plain(done))
        return
    click.echo(f"✓ {terminal_id}  {_act(done.act)}")
    output.say(
        "新机器以空的状态目录和原编号、原证书启动即可签到。",
        "The new machine signs in with an empty state folder, the same id and its certificate.",
    )
    for transaction_id in done.adopted_transaction_ids:
        click.echo(f"! {transaction_id}  {output.choose('待两人决定', 'for two persons to decide')}")


COMMANDS: Final[tuple[click.Command, ...]] = (institutions, suspend, resume, cities, replace)


# --- asking -----------------------------------------------------------------------------------------------------


def _stub(channel: object) -> RegistryServiceAsyncStub:
    from yikatong.api.operations.v1.registry_pb2_grpc import RegistryServiceStub

    return RegistryServiceStub(channel)  # type: ignore[call-overload, no-any-return]  # grpc.aio.Channel, imported late


def _set_agreement(operator: Operator, institution: str, agreement: str, reason: str) -> None:
    from yikatong.api.operations.v1 import registry_pb2 as api

    async def work() -> api.SetAgreementResponse:
        async with to_gateway(operator) as channel:
            value = api.Agreement.Value(f"AGREEMENT_{agreement}")
            request = api.SetAgreementRequest(institution=institution, agreement=value, reason=reason)
            return await asked(_stub(channel).SetAgreement(request, timeout=CALL_S))

    changed = run(work())
    if output.wants_json():
        output.echo_json(plain(changed))
    else:
        _say_in_force()
        _show_institution(changed.institution)


async def _region(stub: RegistryServiceAsyncStub, city: str) -> str:
    """The region of a city that is named by code or name. Raises YikatongError INVALID_FIELD."""
    from yikatong.api.operations.v1 import registry_pb2 as api

    if city.isdecimal():
        return city
    listed = await asked(stub.ListCities(api.ListCitiesRequest(), timeout=CALL_S))
    for home in listed.cities:
        if city.casefold() in (home.name_zh, home.name_en.casefold()):
            return home.region
    raise YikatongError(Reason.INVALID_FIELD, f"no city is named {city}", field="city", why="NO_SUCH_CITY")


# --- showing ----------------------------------------------------------------------------------------------------

_AGREEMENTS: Final = {
    "AGREEMENT_ACTIVE": ("✓", "有效", "active"),
    "AGREEMENT_SUSPENDED": ("✗", "暂停", "suspended"),
    "AGREEMENT_TERMINATED": ("✗", "解除", "terminated"),
}
_STATES: Final = {
    "CITY_STATE_OPEN": ("✓", "开通", "open"),
    "CITY_STATE_NOT_OPEN": ("✗", "未开通", "not open"),
    "CITY_STATE_CLOSED_FOR_MAINTENANCE": ("✗", "维护中", "closed for maintenance"),
}
_LINKS: Final = {
    "CITY_LINK_EMBEDDED": ("账本在网关", "ledger at the gateway"),
    "CITY_LINK_UP": ("链路正常", "link up"),
    "CITY_LINK_DOWN": ("链路中断", "link down"),
}


def _show_institution(institution: api.Institution) -> None:
    from yikatong.api.operations.v1 import registry_pb2 as api

    mark, zh, en = _AGREEMENTS[api.Agreement.Name(institution.agreement)]
    click.echo(f"{mark} {institution.code}  {institution.name}  {institution.region}  {output.choose(zh, en)}")
    if institution.HasField("act"):
        click.echo(f"    {_act(institution.act)}")


def _show_changed(changed: api.CloseCityResponse | api.OpenCityResponse) -> None:
    if output.wants_json():
        output.echo_json(plain(changed))
    else:
        _say_in_force()
        _show_city(changed.city)


def _say_in_force() -> None:
    output.say("✓ 已生效，并已留痕。", "✓ It is in force, and on record.")


def _show_city(city: api.HomeCity) -> None:
    from yikatong.api.operations.v1 import registry_pb2 as api

    mark, zh, en = _STATES[api.CityState.Name(city.state)]
    name, link = output.choose(city.name_zh, city.name_en), output.choose(*_LINKS[api.CityLink.Name(city.link)])
    waits = output.choose(
        f"待送：冲正 {city.waiting_reversals}，确认 {city.waiting_confirmations}，退费 {city.waiting_credits}",
        f"waiting: {city.waiting_reversals} reversals, {city.waiting_confirmations} confirmations,"
        f" {city.waiting_credits} credits",
    )
    click.echo(f"{mark} {city.region}  {name}  {output.choose(zh, en)}  {link}  {waits}")
    if city.open_from or city.open_to:
        dates = f"{city.open_from or '…'} – {city.open_to or '…'}"
        click.echo(f"    {output.choose('开通的记账日', 'accounting dates')}: {dates}")
    for closure in city.closures:
        end = china_time(closure.ends_at) if closure.HasField("ends_at") else output.choose("重新开通", "it is opened")
        begin = china_time(closure.begins_at)
        click.echo(f"    {output.choose(f'关闭 {begin} 至 {end}', f'closed {begin} until {end}')}  {_act(closure.act)}")
    if city.HasField("act") and not city.closures:
        click.echo(f"    {_act(city.act)}")


def _act(act: api.Act) -> str:
    return f"[{act.number}] {china_time(act.at)}  {act.operator}  {act.reason}"
