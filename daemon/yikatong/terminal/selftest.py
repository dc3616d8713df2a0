"""The weekly self-test (自检): every part of the terminal, and the whole way of a debit with a pretend card.

No step touches real money, the customer's card or the customer's reader: the debits go through a runner of their own,
over SelfTestService, to accounts that no clearing ever sees. Only the journal is the real one, on purpose.
"""

from __future__ import annotations

import asyncio
import dataclasses
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Final

import msgspec
import structlog

from yikatong.core.reasons import MEANING, Reason, YikatongError
from yikatong.core.selftest import Report, SelfTestStep
from yikatong.runtime.leg import LinkDown
from yikatong.runtime.store import StoreFailed
from yikatong.terminal import health, probes
from yikatong.terminal.gateway_client import SessionLink
from yikatong.terminal.probes import Probe, Severity
from yikatong.terminal.selftest_path import Bench, Failed, TestPath
from yikatong.terminal.terminal import Terminal

_log = structlog.get_logger(__name__)

TOTAL_S: Final = 50.0
_FILING_S: Final = 5.0
_FSYNC_SAMPLES: Final = 5
_FSYNC_LIAR_US: Final = 50
_KEPT_MAX: Final = 200


Finding = tuple[str, str]
Step = Callable[[], Awaitable[Finding]]


class SelfTest:
    """Runs the test, keeps its reports, and files them at the gateway. One run at a time."""

    def __init__(
        self,
        terminal: Terminal,
        bench: Callable[[], Bench],
        link: SessionLink,
        *,
        leave: Callable[[Reason], None],
        judge: Callable[[Report], None],
    ) -> None:
        """`bench` is asked at each run. `leave` is called where the journal fails: the process must not go on.

        `judge` hears each report: whether debits may go on.
        """
        self._terminal, self._bench, self._link, self._leave, self._judge = terminal, bench, link, leave, judge
        self._running = asyncio.Lock()

    async def run(self, *, report: bool, told: Callable[[SelfTestStep], None] = lambda step: None) -> Report:
        """One whole run; `told` hears each step. With `report` the gateway gets the result, now or later.

        Raises DEVICE_BUSY where a run is under way.
        """
        if self._running.locked():
            raise YikatongError(Reason.DEVICE_BUSY, "a self-test is running", device="self-test")
        async with self._running:
            started_at = self._terminal.clock.now().isoformat()
            steps = []
            async for step in self._steps():
                steps.append(step)
                told(step)
            done = Report(str(uuid.uuid4()), started_at, tuple(steps), wanted=report)
            _log.info("self-test", run_id=done.run_id, passed=done.passed, failed=_failed_names(done))
            await self._keep(done)
            self._judge(done)
            if report:
                done = await self._file(done)
            if done.reported:
                await self.file_pending()  # the line works: what is left from weeks when it did not
            return done

    async def file_pending(self) -> int:
        """Files the reports that the gateway should have and has not, oldest first; returns how many it took."""
        pending = [report for report in await self.reports(_KEPT_MAX) if report.wanted and not report.reported]
        filed = 0
        for report in reversed(pending):
            if not (await self._file(report)).reported:
                break
            filed += 1
        return filed

    async def reports(self, count: int, run_id: str = "") -> list[Report]:
        """Stored reports, newest first. Raises JOURNAL_UNAVAILABLE."""
        found = await self._terminal.journal.self_tests(count, run_id)
        return [msgspec.json.decode(content, type=Report) for content in found]

    async def _file(self, report: Report) -> Report:
        """The report as it stands after the attempt; filing the same run again changes nothing at the gateway."""
        try:
            async with asyncio.timeout(_FILING_S):
                await self._link.report_self_test(self._terminal.session.terminal_id, report)
        except (LinkDown, TimeoutError) as error:
            _log.info("self-test not filed yet", run_id=report.run_id, detail=str(error))
            return report
        filed = dataclasses.replace(report, reported=True)
        await self._keep(filed)
        return filed

    async def _keep(self, report: Report) -> None:
        """A journal that fails is a finding of the test and does not take the result away from who asked."""
        try:
            await self._terminal.journal.keep_self_test(report.run_id, report.started_at, msgspec.json.encode(report))
        except StoreFailed as error:
            _log.error("the self-test's report was not kept", run_id=report.run_id, exc_info=error)
            self._leave(Reason.JOURNAL_UNAVAILABLE)

    # --- the steps -------------------------------------------------------------------------------------------------

    async def _steps(self) -> AsyncIterator[SelfTestStep]:
        """Each step within its own time, and all of them within the whole."""
        loop = asyncio.get_running_loop()
        end = loop.time() + TOTAL_S
        path = TestPath(self._terminal, self._bench(), leave=self._leave)
        steps: tuple[tuple[str, float, Step], ...] = (
            ("journal", 20.0, self._journal),
            ("reader", 5.0, self._reader),
            ("authentication", 5.0, self._card_authentication),
            ("pin-keypad", 5.0, self._pin_keypad),
            ("clock", 1.0, self._clock),
            ("certificate", 1.0, self._certificate),
            ("gateway", 10.0, lambda: self._gateway(path)),
            ("simulated-card", 10.0, path.read_card),
            ("path", 30.0, path.debit_and_confirm),
            ("reversal", 30.0, path.debit_and_reverse),
            ("tombstone", 10.0, path.reverse_unknown),
            ("hotlines", 1.0, self._hotlines),
        )
        try:
            for name, limit_s, step in steps:
                yield await _timed(name, max(min(limit_s, end - loop.time()), 0.0), step)
        finally:
            await path.close()

    async def _journal(self) -> Finding:
        journal, loop = self._terminal.journal, asyncio.get_running_loop()
        took_us = []
        for _ in range(_FSYNC_SAMPLES):
            begun = loop.time()
            await journal.probe()
            took_us.append(int((loop.time() - begun) * 1_000_000))
        events = await journal.prove()
        median_us = sorted(took_us)[len(took_us) // 2]
        zh = f"流水可写，{events} 条记录校验通过，落盘 {median_us / 1000:.2f} 毫秒。"
        en = f"The journal can be written, {events} events proved, {median_us / 1000:.2f} ms to the disk."
        if median_us < _FSYNC_LIAR_US:
            zh += "磁盘快得可疑，断电时可能丢失数据。"
            en += " Suspiciously fast: this disk may lose data when the power fails."
        return zh, en

    async def _reader(self) -> Finding:
        return _demand(probes.reader(await health.reader_state(self._terminal)))

    async def _card_authentication(self) -> Finding:
        return _demand(probes.card_authentication(await health.authentication_seen(self._terminal)), strict=True)

    async def _pin_keypad(self) -> Finding:
        config = self._terminal.config.pin_keypad
        return _demand(probes.pin_keypad(config.device if config else "", await health.keypad_seen(self._terminal)))

    async def _clock(self) -> Finding:
        session = self._terminal.session
        if session.granted is None:
            raise Failed(
                Reason.NOT_SIGNED_IN,
                "尚未签到，无法核对时钟。",
                "Not signed in; the clock can't be compared with the gateway's.",
            )
        return _demand(probes.clock(session.clock_offset), strict=True)

    async def _certificate(self) -> Finding:
        seen = health.validity(self._terminal.config.gateway.identity)
        return _demand(probes.certificate(seen, self._terminal.clock.now()))

    async def _gateway(self, path: TestPath) -> Finding:
        _demand(probes.gateway(health.link_seen(self._terminal)))
        return await path.enquire()

    async def _hotlines(self) -> Finding:
        return _demand(probes.hotlines(*self._terminal.hotlines), strict=True)


def _demand(probe: Probe, *, strict: bool = False) -> Finding:
    """The finding of a probe that passes; `strict`: what is only degraded fails too."""
    if probe.severity is Severity.FAILED or (strict and probe.severity is not Severity.OK):
        raise Failed(probe.reason or Reason.SELF_TEST_FAILED, probe.finding_zh, probe.finding_en)
    return probe.finding_zh, probe.finding_en


async def _timed(name: str, limit_s: float, step: Step) -> SelfTestStep:
    """Runs one step. Whatever the world does, the test goes on with the next."""
    loop = asyncio.get_running_loop()
    begun = loop.time()

    def ended(finding: Finding, reason: Reason | None = None) -> SelfTestStep:
        took_ms = int((loop.time() - begun) * 1000)
        return SelfTestStep(name, reason is None, reason.value if reason else "", *finding, took_ms)

    try:
        async with asyncio.timeout(limit_s):
            return ended(await step())
    except TimeoutError:
        finding = (f"{limit_s:.0f} 秒内没有完成。", f"Not done within {limit_s:.0f} s.")
        return ended(finding, Reason.NO_ANSWER_IN_TIME)
    except Failed as error:
        return ended(error.finding, error.reason)
    except LinkDown as error:
        finding = (f"网关没有应答（{error}）。", f"The gateway does not answer ({error}).")
        return ended(finding, Reason.GATEWAY_UNREACHABLE)
    except YikatongError as error:
        meaning = MEANING[error.reason]
        detail = f" ({error.detail})" if error.detail else ""
        return ended((meaning.zh + detail, meaning.en + detail), error.reason)


def _failed_names(report: Report) -> str:
    return ",".join(step.name for step in report.steps if not step.passed)
