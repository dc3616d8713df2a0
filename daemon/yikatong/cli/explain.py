"""`yikatong explain REASON`: a reason code in words."""

from __future__ import annotations

import click

from yikatong.cli import output
from yikatong.cli.reference import reasons_page
from yikatong.core.reasons import MEANING, Reason


@click.command()
@click.argument("code", metavar="[REASON]", required=False)
@click.option("--page", is_flag=True, help="输出参考页 / print the reference page (docs/reasons.md)")
@output.with_json
@output.with_language
def explain(code: str | None, page: bool) -> None:
    """解释原因代码；不带参数则列出全部 / Explain a reason code, or all of them.

    退出码：0 已解释，2 没有这个代码。 / Exit status: 0 explained, 2 there is no such code.
    """
    if page:
        click.echo(reasons_page(), nl=False)
        return
    if code is not None and code not in Reason.__members__:
        raise click.BadParameter(f"没有这个原因代码 / no such reason: {code}", param_hint="REASON")
    reasons = [Reason(code)] if code else list(Reason)
    if output.wants_json():
        rows = [_row(reason) for reason in reasons]
        output.echo_json(rows[0] if code else rows)
        return
    for reason in reasons:
        meaning = MEANING[reason]
        click.echo(reason.value)
        output.say(f"  {meaning.zh}{meaning.next_zh}", f"  {meaning.en} {meaning.next_en}")
        click.echo(f"  outcome={meaning.moved.value} retry={meaning.retry.value}")


def _row(reason: Reason) -> dict[str, str]:
    meaning = MEANING[reason]
    return {
        "reason": reason.value,
        "status": meaning.status.value,
        "outcome": meaning.moved.value,
        "retry": meaning.retry.value,
        "zh": meaning.zh + meaning.next_zh,
        "en": f"{meaning.en} {meaning.next_en}",
    }
