"""Reference pages that are made from the code, so that they can't differ from it."""

from __future__ import annotations

from typing import Final

from yikatong.core.reasons import MEANING, Reason, Status

_HEAD: Final = """\
# Reasons / 原因代码

Made from `yikatong.core.reasons` by `yikatong explain --page`. `outcome` says whether money moved, `retry` how the
caller may go on. Where the status is *decision*, a debit answers OK with the declined transaction in it; an enquiry
answers FAILED_PRECONDITION.

| reason | status | outcome | retry | 说明与下一步 | meaning and next step |
| --- | --- | --- | --- | --- | --- |
"""


def reasons_page() -> str:
    """The page docs/reasons.md."""
    rows = []
    for reason in Reason:
        meaning = MEANING[reason]
        status = "*decision*" if meaning.status is Status.DECLINED else meaning.status.value
        rows.append(
            f"| `{reason.value}` | {status} | {meaning.moved.value} | {meaning.retry.value} "
            f"| {meaning.zh}{meaning.next_zh} | {meaning.en} {meaning.next_en} |\n"
        )
    return _HEAD + "".join(rows)
