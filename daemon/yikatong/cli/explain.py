"""`yikatong explain REASON`: a reason code in words."""

from __future__ import annotations

import click

from yikatong.core.reasons import MEANING, Reason


@click.command()
@click.argument("reason", required=False)
@click.option("--json", "as_json", is_flag=True, help="以 JSON 输出 / as JSON")
def explain(reason: str | None, as_json: bool) -> None:
    """解释原因代码（不带参数则列出全部）/ Explain a reason code (all of them without an argument)."""
    names = list(Reason) if reason is None else [Reason(reason)] if reason in Reason.__members__ else []
    if not names:
        raise click.BadParameter(f"没有这个原因代码 / no such reason: {reason}")
    rows = [
        {
            "reason": name.value,
            "status": MEANING[name].status.value,
            "outcome": MEANING[name].moved.value,
            "retry": MEANING[name].retry.value,
            "zh": MEANING[name].zh + MEANING[name].next_zh,
            "en": f"{MEANING[name].en} {MEANING[name].next_en}",
        }
        for name in names
    ]
    if as_json:
        import msgspec

        click.echo(msgspec.json.encode(rows if reason is None else rows[0]))
        return
    for row in rows:
        click.echo(f"{row['reason']}\n  {row['zh']}\n  {row['en']}\n  outcome={row['outcome']} retry={row['retry']}")
