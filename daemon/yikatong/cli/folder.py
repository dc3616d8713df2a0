"""Folders that a command works in: why one can't be used, in words, before anything is written there."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pwd
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from yikatong.core.reasons import Reason, YikatongError

SERVICE_USER: Final = "yikatong"
"""Whom the packaged units run as (deploy/sysusers)."""
_MARK: Final = ".yikatong-demo"
"""Lies in every folder of a demo, and is locked while one runs in it."""
_PATH_MAX: Final = 80
"""The longest socket in a demo's folder is 22 characters longer, and Linux takes 107."""


class FolderUnusable(YikatongError):
    """Nothing can be kept in a folder: why, and the next step, in two languages."""

    def __init__(self, reason: Reason, zh: str, en: str, next_zh: str, next_en: str) -> None:
        super().__init__(reason, en)
        self.zh, self.en, self.next_zh, self.next_en = zh, en, next_zh, next_en


def check_exists(folder: Path, reason: Reason, *, owner: str) -> None:
    """Raises FolderUnusable with `reason` and the command that makes the folder of a service where there is none."""
    if not folder.exists():
        make = _command(folder, owner)
        raise FolderUnusable(
            reason,
            f"数据文件夹 {folder} 不存在。",
            f"The state folder {folder} does not exist.",
            f"请运行：{make}",
            f"Run: {make}",
        )


def check_state(folder: Path, reason: Reason, *, owner: str) -> None:
    """Raises FolderUnusable with `reason` where a service of the user `owner` finds no folder for what it keeps."""
    check_exists(folder, reason, owner=owner)
    make = _command(folder, owner)
    if not folder.is_dir() or not os.access(folder, os.W_OK | os.X_OK):
        raise FolderUnusable(
            reason,
            f"用户 {owner} 无法写入数据文件夹 {folder}。",
            f"The user {owner} can't write to the state folder {folder}.",
            f"请核对磁盘和权限：ls -ld {folder}；文件夹应属于 {owner}（{make}）。",
            f"Look at disk and permissions: ls -ld {folder}; it belongs to {owner} ({make}).",
        )


def _command(folder: Path, owner: str) -> str:
    return f"sudo install -d -m 700 -o {owner} {shlex.quote(str(folder))}"


def user() -> str:
    """Who runs this process: a name, or the number where it has none."""
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return str(os.geteuid())


@contextlib.contextmanager
def kept(folder: Path) -> Iterator[None]:
    """Takes `folder` for a demo, which makes it where it is missing, until the block ends.

    Raises FolderUnusable where it can't be written, holds something that is no demo's, or another demo runs in it.
    """
    with contextlib.ExitStack() as stack:
        try:
            _take(folder, stack)
        except BlockingIOError as error:
            raise _refused(
                f"另一个演示正在使用文件夹 {folder}。",
                f"Another demo is running in {folder}.",
                "请等它结束，或换一个文件夹。",
                "Wait until it has ended, or take another folder.",
            ) from error
        except OSError as error:
            raise _refused(
                f"无法写入文件夹 {folder}（{error.strerror}）。",
                f"The folder {folder} can't be written ({error.strerror}).",
                "请换一个当前用户可写的文件夹。",
                "Take one that this user may write to.",
            ) from error
        yield


def _take(folder: Path, stack: contextlib.ExitStack) -> None:
    if len(str(folder)) > _PATH_MAX:
        raise _refused(
            f"路径超过 {_PATH_MAX} 个字符，套接字放不下。",
            f"Its path is longer than {_PATH_MAX} characters: sockets could not be made there.",
            "请换一个路径较短的文件夹。",
            "Take a folder with a shorter path.",
        )
    folder.mkdir(parents=True, exist_ok=True)
    if any(folder.iterdir()) and not (folder / _MARK).exists():
        raise _refused(
            f"文件夹 {folder} 不是空的，也不是演示留下的；没有改动其中任何内容。",
            f"The folder {folder} is not empty and no demo made it; nothing in it was touched.",
            "请换一个空文件夹或尚不存在的文件夹。",
            "Take an empty folder, or one that does not exist yet.",
        )
    mark = stack.enter_context((folder / _MARK).open("ab"))
    fcntl.flock(mark, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _refused(zh: str, en: str, next_zh: str, next_en: str) -> FolderUnusable:
    return FolderUnusable(Reason.CONFIGURATION_INVALID, zh, en, next_zh, next_en)
