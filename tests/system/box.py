"""A throw-away Debian with a booted systemd, so that units, timers, watchdogs and sandboxes are tried for real.

The base system is made once (debootstrap, about a minute) under build/box; every boot sees it through an overlay in
memory, in namespaces of its own, with a loopback of its own. It takes a second or two.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PROJECT = Path(__file__).parents[2]
SUITE = "bookworm"
"""Debian 12: its Python is the 3.11 whose compiled packages stand in the checkout's virtual environment."""
PACKAGES = (
    "systemd,systemd-sysv,libpam-systemd,udev,dbus,polkitd,procps,"  # the machine
    "python3,libpcsclite1,pcscd,vsmartcard-vpcd"  # what the program needs
)
SOURCE = "/opt/yikatong/src"
BOOT_LIMIT_S = 60
NEEDED = ("debootstrap", "unshare", "nsenter", "ip")


def why_not() -> str | None:
    """What is missing for a box on this machine; None where nothing is."""
    if os.geteuid() != 0:
        return "a box needs root"
    if missing := [name for name in NEEDED if shutil.which(name) is None]:
        return f"a box needs {', '.join(missing)} (deploy/setup.sh installs it)"
    if sys.version_info[:2] != (3, 11):
        return "the box runs the checkout's compiled packages under Debian 12's Python 3.11; .venv has another one"
    trial = subprocess.run(
        ["unshare", "--mount", "--pid", "--fork", "--net", "--cgroup", "true"], check=False, capture_output=True
    )
    return None if trial.returncode == 0 else f"no namespaces here: {trial.stderr.decode().strip()}"


def user_namespaces() -> bool:
    """Whether the kernel makes user namespaces for us (PrivateUsers=); for a process in a chroot it never does."""
    return subprocess.run(["unshare", "--user", "true"], check=False, capture_output=True).returncode == 0


def base() -> Path:
    """The base system's folder; made where there is none yet for this list of packages."""
    folder = PROJECT / "build" / "box"
    folder.mkdir(parents=True, exist_ok=True)
    made = folder / hashlib.sha256(f"{SUITE} {PACKAGES}".encode()).hexdigest()[:12]
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # two test runs at once make it once
        if not made.exists():
            unfinished = folder / "unfinished"
            if unfinished.exists():
                shutil.rmtree(unfinished)
            # In namespaces of its own: what it mounts ends with it, also where it is interrupted.
            alone = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--"]
            command = [*alone, "debootstrap", "--variant=minbase", f"--include={PACKAGES}", SUITE, str(unfinished)]
            result = subprocess.run(command, check=False, capture_output=True, text=True)
            if result.returncode != 0:
                raise RuntimeError(f"debootstrap failed:\n{result.stdout[-2000:]}{result.stderr[-2000:]}")
            (unfinished / "etc/hosts").write_text("127.0.0.1 localhost box\n::1 localhost\n")
            (unfinished / "etc/hostname").write_text("box\n")
            unfinished.rename(made)
    return made


class Box:
    """The running machine; `pid` is its systemd, seen from here."""

    def __init__(self, pid: int) -> None:
        self._enter = [
            # Its root is named as well: a caller that lives in a chroot would come out at the namespace's own.
            *("nsenter", f"--target={pid}", "--mount", "--pid", "--uts", "--ipc", "--cgroup", "--net"),
            *(f"--root=/proc/{pid}/root", "--"),
            *("env", "--ignore-environment", "--chdir=/", "PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LANG=C.UTF-8"),
        ]
        self.root = Path(f"/proc/{pid}/root")
        self._journal_from: tuple[str, ...] = ()

    def run(
        self, *command: str, check: bool = True, user: str | None = None, timeout_s: float = 60
    ) -> subprocess.CompletedProcess[str]:
        """Runs a command inside, as root or as `user`; raises AssertionError with its output where it fails."""
        switch = ["runuser", f"--user={user}", "--"] if user else []
        result = subprocess.run(
            [*self._enter, *switch, *command],
            check=False,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            stdin=subprocess.DEVNULL,
        )
        if check and result.returncode != 0:
            raise AssertionError(f"{' '.join(command)} exited {result.returncode}:\n{result.stdout}{result.stderr}")
        return result

    def out(self, *command: str) -> str:
        return self.run(*command).stdout.strip()

    def show(self, unit: str, name: str) -> str:
        """One property of a unit, as `systemctl show` gives it."""
        return self.out("systemctl", "show", "--value", f"--property={name}", unit)

    def write(self, path: str, text: str, *, mode: int = 0o644) -> None:
        target = self.root / path.lstrip("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text, encoding="utf-8")
        target.chmod(mode)

    def journal(self, unit: str) -> str:
        """What a unit, and systemd about it, has logged since `begin_journal()`, or since the boot."""
        return self.out("journalctl", "--no-pager", "--output=cat", f"--unit={unit}", *self._journal_from)

    def begin_journal(self) -> None:
        """What was logged until now is of no interest any more."""
        self.run("journalctl", "--sync")
        cursor = self.out("journalctl", "--lines=0", "--show-cursor").rpartition("cursor: ")[2]
        self._journal_from = (f"--after-cursor={cursor}",)

    def start(self, *units: str) -> None:
        """Returns when each of them is ready; raises AssertionError with the units' journal."""
        if self.run("systemctl", "start", *units, check=False).returncode != 0:
            raise AssertionError("\n".join(self.journal(unit) for unit in units))

    def wait_journal(self, unit: str, text: str, *, limit_s: float = 30) -> None:
        """Waits until a unit has logged `text`; raises AssertionError with what it logged."""
        deadline = time.monotonic() + limit_s
        while text not in (said := self.journal(unit)):
            if time.monotonic() > deadline:
                raise AssertionError(f"{unit} has not said {text!r}:\n{said}")
            time.sleep(0.05)

    def wait(self, unit: str, name: str, *values: str, limit_s: float = 30) -> str:
        """Waits until a unit's property has one of `values`; raises AssertionError with the unit's journal."""
        deadline = time.monotonic() + limit_s
        while (value := self.show(unit, name)) not in values:
            if time.monotonic() > deadline:
                raise AssertionError(f"{unit}: {name} is {value}, not {values}\n{self.journal(unit)}")
            time.sleep(0.05)
        return value


@contextmanager
def booted() -> Iterator[Box]:
    """A machine that has finished booting, to the end of the block; then it is switched off and every trace is gone."""
    system = base()
    with (
        tempfile.TemporaryDirectory(prefix="yikatong-box-") as mounts,
        tempfile.TemporaryFile() as console,
        _cgroups(Path(mounts).name) as groups,
    ):
        join = "".join(f"echo $$ >{group}/cgroup.procs; " for group in groups)
        outer = subprocess.Popen(
            [
                *("sh", "-ec", f'{join} exec "$@"', "sh"),
                *("unshare", "--mount", "--pid", "--fork", "--kill-child", "--uts", "--ipc", "--cgroup", "--net", "--"),
                *("sh", str(Path(__file__).with_name("boot.sh")), str(system), mounts, str(PROJECT)),
            ],
            stdin=subprocess.DEVNULL,
            stdout=console,
            stderr=console,
            start_new_session=True,
        )
        try:
            box = Box(_first_process(outer))
            _wait_for_boot(box, outer)
            yield box
            box.run("systemctl", "poweroff")  # an orderly end removes the machine's cgroups from the host's
            outer.wait(30)
        except BootFailed as failure:
            console.seek(0)
            raise RuntimeError(f"the box did not boot: {failure}\n{console.read().decode(errors='replace')}") from None
        finally:
            outer.kill()
            outer.wait()


@contextmanager
def _cgroups(name: str) -> Iterator[list[Path]]:
    """A control group of its own for the machine, so that two of them do not meet in the host's root group."""
    root = Path("/sys/fs/cgroup")
    groups = [
        folder / name for folder in (root, root / "systemd", root / "unified") if (folder / "cgroup.procs").exists()
    ]
    for group in groups:
        group.mkdir()
    try:
        yield groups
    finally:
        deadline = time.monotonic() + 10
        while groups:
            try:
                for folder, _, _ in os.walk(groups[-1], topdown=False):
                    Path(folder).rmdir()
            except OSError as error:  # the kernel is still burying the last processes of a machine that was killed
                if error.errno != errno.EBUSY or time.monotonic() > deadline:
                    raise
                time.sleep(0.05)
            else:
                groups.pop()


class BootFailed(Exception):
    """The machine did not come up; the console says more."""


def _first_process(outer: subprocess.Popen[bytes]) -> int:
    deadline = time.monotonic() + BOOT_LIMIT_S
    children = Path(f"/proc/{outer.pid}/task/{outer.pid}/children")
    while time.monotonic() < deadline and outer.poll() is None:
        pids = children.read_text().split()
        if pids and Path(f"/proc/{pids[0]}/comm").read_text() == "systemd\n":
            return int(pids[0])
        time.sleep(0.02)
    raise BootFailed("systemd was not started")


def _wait_for_boot(box: Box, outer: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + BOOT_LIMIT_S
    state = ""
    while time.monotonic() < deadline and outer.poll() is None:
        state = box.run("systemctl", "is-system-running", check=False).stdout.strip()
        if state in {"running", "degraded"}:
            return
        time.sleep(0.1)
    raise BootFailed(f"state {state or 'unknown'}")
