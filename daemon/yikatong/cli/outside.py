"""What can be seen of a terminal from outside, while its daemon does not answer."""

from __future__ import annotations

import fcntl
import os
import shutil
import socket
import ssl
import struct
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from yikatong.cli.client import SocketCause
from yikatong.cli.folder import SERVICE_USER, FolderUnusable, check_exists
from yikatong.core.reasons import Reason
from yikatong.runtime.read_only_store import is_read_only
from yikatong.runtime.tls import Identity
from yikatong.terminal import health, probes
from yikatong.terminal.config import READER_KEYS, SOFTWARE, DaemonConfig
from yikatong.terminal.config import Gateway as GatewayPlace
from yikatong.terminal.probes import Probe, failed, fine

_CONNECT_S: Final = 3.0
# SQLite locks bytes of the database file from here on (its file format, "Locking"); a held one means an open file.
_SQLITE_LOCK_BYTE: Final = 0x4000_0000
_SQLITE_LOCK_LENGTH: Final = 512
# struct flock on 64-bit Linux: l_type, l_whence, l_start, l_len, l_pid.
_FLOCK: Final = struct.Struct("hhqqi4x")


def look(config: DaemonConfig, cause: SocketCause) -> list[Probe]:
    """Every probe that needs no daemon, after the one that says that there is none."""
    now = datetime.now(UTC)
    gateway = config.gateway
    found = [
        failed("daemon", Reason.DAEMON_UNREACHABLE, cause.zh, cause.en, cause.next_zh, cause.next_en),
        probes.configuration(development=config.development, simulated_reader=config.reader.kind == "simulated"),
        journal(config.journal),
    ]
    if Path(config.state).is_dir():
        found.append(_disk(Path(config.state)))
    if config.uses_pcsc:
        found.append(probes.pcscd(health.knock(os.environ.get(health.PCSCD_VARIABLE) or health.PCSCD_SOCKET)))
    if config.pin_keypad is not None and config.pin_keypad.device not in {READER_KEYS, SOFTWARE}:
        found.append(device(config.pin_keypad.device))
    found += [
        probes.certificate(health.validity(gateway.identity), now),
        far_end(gateway),
        probes.hotlines(config.hotlines.policy, config.hotlines.fault),
    ]
    return found


def _disk(folder: Path) -> Probe:
    if is_read_only(folder):
        return failed(
            "disk",
            Reason.JOURNAL_UNAVAILABLE,
            f"磁盘已被挂载为只读：{folder}。守护进程只完成已决定的冲正，不受理新业务。",
            f"The disk is mounted read-only: {folder}. The daemon finishes reversals, and takes nothing new.",
            "请查看 dmesg，检查或更换磁盘；恢复可写后守护进程自动重新启动。",
            "Look at dmesg; check or replace the disk. Once it can be written the daemon starts anew by itself.",
        )
    room = shutil.disk_usage(folder)
    return probes.disk(room.free, room.total)


def journal(path: Path) -> Probe:
    """Whether the file is there and who has it open. It is never opened as a database: it belongs to one process."""
    try:
        with path.open("rb") as file:
            wanted = _FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, _SQLITE_LOCK_BYTE, _SQLITE_LOCK_LENGTH, 0)
            kind, _, _, _, process = _FLOCK.unpack(fcntl.fcntl(file, fcntl.F_GETLK, wanted))
    except FileNotFoundError:
        try:
            check_exists(path.parent, Reason.JOURNAL_UNAVAILABLE, owner=SERVICE_USER)
        except FolderUnusable as missing:
            return failed("journal", missing.reason, missing.zh, missing.en, missing.next_zh, missing.next_en)
        return fine("journal", f"还没有流水文件 {path}。", f"There is no journal yet: {path}.")
    except PermissionError:
        return probes.degraded(
            "journal",
            Reason.NOT_ALLOWED,
            f"当前用户无权查看流水 {path}。",
            f"This user may not look at the journal {path}.",
            "请用 sudo yikatong doctor。",
            "Use sudo yikatong doctor.",
        )
    except OSError as error:
        why = os.strerror(error.errno) if error.errno else type(error).__name__
        return probes.journal(f"{path}: {why}")
    if kind != fcntl.F_UNLCK:
        return failed(
            "journal",
            Reason.JOURNAL_UNAVAILABLE,
            f"流水 {path} 被进程 {process} 占用。",
            f"The journal {path} is held by process {process}.",
            f"请查看该进程：ps -p {process}；确认后结束它，再启动守护进程。",
            f"Look at it: ps -p {process}; end it if that is right, then start the daemon.",
        )
    return fine("journal", f"流水文件存在，未被占用：{path}。", f"The journal is there and nobody holds it: {path}.")


def pcsc_users(daemon_socket: str) -> SocketCause:
    """Which programs may hold the reader: those that use PC/SC, without ours at `daemon_socket`."""
    from yikatong.drivers.pcsc.clients import clients

    ours = _listener(daemon_socket)
    seen = clients()
    others = [client for client in seen.found if client.pid != ours]
    names = ", ".join(f"{client.command} ({client.pid})" for client in others)
    if others:
        numbers = ",".join(str(client.pid) for client in others)
        return SocketCause(
            f"正在使用智能卡服务的其他程序：{names}。",
            f"Other programs that use PC/SC: {names}.",
            f"请退出占用读卡器的程序后重试；查看：ps -p {numbers}。",
            f"End the program that holds the reader and try again; look: ps -p {numbers}.",
        )
    if not seen.complete:
        return SocketCause(
            "当前用户看不到是哪个程序。",
            "This user can't see which program it is.",
            "请用 sudo yikatong doctor。",
            "Use sudo yikatong doctor.",
        )
    return SocketCause(
        "该程序已经退出。",
        "That program has ended meanwhile.",
        "请重新插卡。",
        "Insert the card again.",
    )


def _listener(path: str) -> int | None:
    """The process at the other end of a unix socket."""
    with socket.socket(socket.AF_UNIX) as line:
        try:
            line.connect(path)
        except OSError:
            return None
        process, _, _ = struct.unpack("3i", line.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
        return int(process)


def device(path: str) -> Probe:
    """The keypad's device file; whether a keypad answers there only the daemon can tell."""
    if not Path(path).exists():
        return failed("pin-keypad", Reason.NO_PIN_KEYPAD, f"没有设备 {path}。", f"There is no device {path}.")
    return fine("pin-keypad", f"设备 {path} 存在。", f"The device {path} is there.")


def far_end(place: GatewayPlace) -> Probe:
    """Name, TCP, TLS with our certificate, first bytes of HTTP/2: the step at which it ends says what is wrong."""
    host, _, port = place.address.rpartition(":")
    try:
        line = socket.create_connection((host.strip("[]"), int(port)), timeout=_CONNECT_S)
    except (OSError, ValueError) as error:
        why = str(error) or type(error).__name__
        return failed(
            "gateway",
            Reason.GATEWAY_UNREACHABLE,
            f"无法连接网关 {place.address}（{why}）。",
            f"The gateway at {place.address} can't be reached ({why}).",
        )
    with line:
        try:
            context = _context(place.identity)
            with context.wrap_socket(line, server_hostname=place.server_name or host.strip("[]")) as secure:
                # Under TLS 1.3 a refused client certificate shows only when the server's first bytes are read.
                greeting = secure.recv(1)
        except (ssl.SSLError, OSError) as error:
            return _tls_failed(place.address, error)
    if not greeting:
        return _tls_failed(place.address, None)
    return fine("gateway", f"网关 {place.address} 可连接。", f"The gateway at {place.address} can be reached.")


def _context(identity: Identity) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=identity.authority)
    context.load_cert_chain(identity.certificate, identity.key)
    context.set_alpn_protocols(["h2"])
    return context


def _tls_failed(address: str, error: OSError | None) -> Probe:
    why = str(getattr(error, "verify_message", "") or getattr(error, "reason", "") or error or "closed")
    return failed(
        "gateway",
        Reason.CERTIFICATE_INVALID,
        f"网关 {address} 可连接，但 TLS 握手失败（{why}）。",
        f"The gateway at {address} answers, but the TLS handshake fails ({why}).",
        "请核对终端证书、CA 证书和系统时间。",
        "Check the terminal's certificate, the authority's certificate and the system's time.",
    )
