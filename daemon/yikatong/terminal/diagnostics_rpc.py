"""DiagnosticsService: what a technician asks. Served on a socket of its own."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from datetime import datetime
from typing import Final

import grpc

from yikatong.api.diagnostics.v1 import diagnostics_pb2 as api
from yikatong.api.diagnostics.v1 import diagnostics_pb2_grpc
from yikatong.core.card import ReaderState
from yikatong.core.credit_transaction import Credit
from yikatong.core.ports import Tracer
from yikatong.core.reasons import Reason, YikatongError
from yikatong.core.selftest import Report, SelfTestStep
from yikatong.core.transaction import Transaction
from yikatong.runtime.edge import Context
from yikatong.terminal import health, trace_rpc
from yikatong.terminal.live import age_ms
from yikatong.terminal.probes import Severity
from yikatong.terminal.reading import ReadingBook
from yikatong.terminal.reading_window import Failing, Window
from yikatong.terminal.selftest import SelfTest
from yikatong.terminal.terminal import Terminal

_PAGE: Final = 20

_SEVERITIES: Final = {severity: api.Severity.Value(f"SEVERITY_{severity.value}") for severity in Severity}


class DiagnosticsServicer(diagnostics_pb2_grpc.DiagnosticsServiceServicer):
    def __init__(self, terminal: Terminal, self_test: SelfTest, tracer: Tracer, book: ReadingBook) -> None:
        self._terminal, self._self_test, self._tracer, self._book = terminal, self_test, tracer, book
        self._runs: set[asyncio.Task[Report]] = set()

    async def GetHealth(self, request: api.GetHealthRequest, context: Context) -> api.GetHealthResponse:
        found = await health.check(self._terminal, self._book)
        policy, fault = self._terminal.hotlines
        answer = api.GetHealthResponse(
            terminal_id=self._terminal.session.terminal_id, policy_hotline=policy, fault_hotline=fault
        )
        answer.checked_at.FromDatetime(found.checked_at)
        for probe in found.probes:
            answer.probes.add(
                name=probe.name,
                severity=_SEVERITIES[probe.severity],
                reason=probe.reason.value if probe.reason else "",
                finding_zh=probe.finding_zh,
                finding_en=probe.finding_en,
                next_step_zh=probe.next_zh,
                next_step_en=probe.next_en,
            )
        return answer

    async def ListDevices(self, request: api.ListDevicesRequest, context: Context) -> api.ListDevicesResponse:
        answer = api.ListDevicesResponse()
        reader = self._terminal.desk.reader
        state = await health.reader_state(self._terminal)
        device = answer.devices.add(name=reader.name, kind=f"{self._terminal.config.reader.kind}-reader")
        match state:
            case ReaderState():
                device.name, device.detail = state.name, state.detail
                device.present, device.card_present = state.present, state.card_present
            case YikatongError():
                device.detail = state.reason.value
            case None:
                device.detail = Reason.READER_FAILED.value
        if (record := self._book.records.get(reader.name)) is not None:
            _add_reading(device, record.all())
        wanted = self._terminal.config.card_authentication
        if wanted.kind == "psam":
            psam = await health.authentication_seen(self._terminal)
            assert psam is not None, "it is configured"
            detail = psam.error.reason.value if psam.error else ""
            answers = psam.answered and psam.error is None
            answer.devices.add(name=wanted.psam_reader or "PSAM", kind="psam", present=answers, detail=detail)
        if (keypad := self._terminal.config.pin_keypad) is not None:
            seen = await health.keypad_seen(self._terminal)
            answers = seen is not None and seen.answered and seen.error is None
            detail = seen.error.reason.value if seen and seen.error else ""
            answer.devices.add(name=keypad.device, kind="pin-keypad", present=answers, detail=detail)
        for kind, name, probe in await health.other_ways(self._terminal):
            detail = probe.reason.value if probe.reason else ""
            answer.devices.add(name=name, kind=kind, present=probe.reason is None, detail=detail)
        return answer

    async def RunSelfTest(
        self, request: api.RunSelfTestRequest, context: Context
    ) -> AsyncIterator[api.RunSelfTestResponse]:
        """A caller that leaves ends only its own listening: the run goes on, and is kept and filed."""
        steps: asyncio.Queue[SelfTestStep | None] = asyncio.Queue()
        run = asyncio.create_task(self._self_test.run(report=request.report, told=steps.put_nowait), name="self-test")
        self._runs.add(run)
        run.add_done_callback(self._runs.discard)
        run.add_done_callback(lambda done: steps.put_nowait(None))
        while (step := await steps.get()) is not None:
            yield api.RunSelfTestResponse(step=_step(step))
        yield api.RunSelfTestResponse(report=_report(await run))

    async def GetSelfTestReport(
        self, request: api.GetSelfTestReportRequest, context: Context
    ) -> api.GetSelfTestReportResponse:
        found = await self._self_test.reports(1, request.run_id)
        return api.GetSelfTestReportResponse(report=_report(found[0]) if found else None)

    async def ListSelfTestReports(
        self, request: api.ListSelfTestReportsRequest, context: Context
    ) -> api.ListSelfTestReportsResponse:
        found = await self._self_test.reports(request.page_size or _PAGE)
        return api.ListSelfTestReportsResponse(reports=[_report(report) for report in found])

    async def TraceApdus(
        self, request: api.TraceApdusRequest, context: Context
    ) -> AsyncIterator[api.TraceApdusResponse]:
        async with contextlib.aclosing(self._tracer.watch(recording=request.record)) as events:
            async for event in events:
                yield trace_rpc.message(event, self._terminal.version, record=request.record)

    async def ListUnresolved(self, request: api.ListUnresolvedRequest, context: Context) -> api.ListUnresolvedResponse:
        runner, credited = self._terminal.runner, self._terminal.credits
        answer = api.ListUnresolvedResponse()
        rows: list[Transaction | Credit] = [*runner.open_rows(), *credited.open_rows()]
        for row in rows:
            answer.transactions.add(
                transaction_id=row.transaction_id,
                order_no=row.order_no,
                state=row.state.value,
                amount_fen=row.amount_fen,
                age_ms=age_ms(row, self._terminal.clock),
                attempts=(credited if isinstance(row, Credit) else runner).attempts(row.transaction_id),
            )
        return answer

    async def close(self) -> None:
        """Ends a run that nobody waits for any more; what it left open is taken up by the next."""
        for run in self._runs:
            run.cancel()
        await asyncio.gather(*self._runs, return_exceptions=True)


def add_to(
    server: grpc.aio.Server, terminal: Terminal, self_test: SelfTest, tracer: Tracer, book: ReadingBook
) -> DiagnosticsServicer:
    """Serves it; the caller closes what is returned after the server has stopped."""
    servicer = DiagnosticsServicer(terminal, self_test, tracer, book)
    diagnostics_pb2_grpc.add_DiagnosticsServiceServicer_to_server(servicer, server)
    return servicer


def _add_reading(device: api.Device, window: Window) -> None:
    device.reading.CopyFrom(
        api.ReadingRecord(
            since=window.since,
            cards=window.all.cards,
            failed=window.all.failed,
            reads=window.reads,
            median_ms=window.median_ms,
            retries=window.retries,
            **{kind.value: window.failing.get(kind, 0) for kind in Failing},
        )
    )
    for batch, tally in window.by_batch():
        device.batches.add(
            issuing_region=batch.issuing_region,
            spec_version=batch.spec_version,
            chip=batch.chip,
            cards=tally.cards,
            failed=tally.failed,
        )


def _step(step: SelfTestStep) -> api.SelfTestStep:
    return api.SelfTestStep(
        name=step.name,
        passed=step.passed,
        reason=step.reason,
        finding_zh=step.finding_zh,
        finding_en=step.finding_en,
        duration_ms=step.duration_ms,
    )


def _report(report: Report) -> api.SelfTestReport:
    message = api.SelfTestReport(
        run_id=report.run_id,
        passed=report.passed,
        steps=[_step(step) for step in report.steps],
        reported=report.reported,
    )
    message.started_at.FromDatetime(datetime.fromisoformat(report.started_at))
    return message
