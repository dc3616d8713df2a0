"""ClearingService: the books as they stand, their proof, and the months' statements."""

from __future__ import annotations

from datetime import datetime
from functools import partial
from typing import Final

import apsw

from yikatong.api.operations.v1 import operations_pb2 as operations
from yikatong.api.operations.v1 import operations_pb2_grpc as operations_grpc
from yikatong.gateway import statements
from yikatong.gateway.acts import Act, ActKind, Acts
from yikatong.gateway.books import Books
from yikatong.gateway.registry_rpc import timestamp
from yikatong.gateway.router import Router
from yikatong.gateway.statements import Line, Statement
from yikatong.runtime.clock import Clock
from yikatong.runtime.edge import Context
from yikatong.runtime.tls import peer_name

_PAGE: Final = 1000


class Clearing(operations_grpc.ClearingServiceServicer):
    """The operator's look at the books, and the closing of months."""

    def __init__(self, books: Books, router: Router, acts: Acts, clock: Clock) -> None:
        self._books, self._router, self._acts, self._clock = books, router, acts, clock

    async def GetBooks(self, request: operations.GetBooksRequest, context: Context) -> operations.GetBooksResponse:
        return operations.GetBooksResponse(
            cities=[
                operations.CityBooks(
                    region=books.city.region.code,
                    name_zh=books.city.name_zh,
                    name_en=books.city.name_en,
                    embedded=books.embedded,
                    unreachable=books.ledger is None,
                    personal_fen=books.ledger.personal.count if books.ledger else 0,
                    opening_fen=books.ledger.opening.count if books.ledger else 0,
                    payables=[
                        operations.Balance(account=f"payable:{region}", amount_fen=amount.count)
                        for region, amount in (books.ledger.payable.items() if books.ledger else ())
                    ],
                    entries=books.ledger.entries if books.ledger else 0,
                    claims=[
                        operations.Balance(account=account, amount_fen=amount.count)
                        for account, amount in books.claims.items()
                    ],
                    suspense_fen=sum(entry.amount.count for entry in books.ledger.suspense) if books.ledger else 0,
                    suspense=[
                        operations.SuspenseItem(
                            transaction_id=entry.transaction_id,
                            amount_fen=entry.amount.count,
                            accounting_date=entry.accounting_date,
                        )
                        for entry in (books.ledger.suspense if books.ledger else ())
                    ],
                )
                for books in await self._books.cities()
            ]
        )

    async def Audit(self, request: operations.AuditRequest, context: Context) -> operations.AuditResponse:
        findings, head = await self._books.audit()
        return operations.AuditResponse(
            findings=[
                operations.Finding(invariant=finding.invariant, subject=finding.subject, detail=finding.detail)
                for finding in findings
            ],
            acts=head.number,
            acts_head=head.digest,
        )

    async def CloseMonth(
        self, request: operations.CloseMonthRequest, context: Context
    ) -> operations.CloseMonthResponse:
        today, at, month = self._router.today, self._clock.now().isoformat(), request.month
        act = Act(kind=ActKind.MONTH_CLOSED, subject=month, at=at, operator=peer_name(context), reason=request.reason)

        def order(connection: apsw.Connection) -> None:
            self._acts.add(connection, act)

        found = await statements.Closing(self._router.commit, month, at=at).run(order, today=today)
        return operations.CloseMonthResponse(statements=[_statement(statement) for statement in found])

    async def ListStatements(
        self, request: operations.ListStatementsRequest, context: Context
    ) -> operations.ListStatementsResponse:
        found = await self._router.commit(partial(statements.of_month, month=request.month))
        return operations.ListStatementsResponse(statements=[_statement(statement) for statement in found])

    async def GetStatement(
        self, request: operations.GetStatementRequest, context: Context
    ) -> operations.GetStatementResponse:
        read = partial(statements.lines, number=request.number, after=request.after_entry, limit=_PAGE + 1)
        found = await self._router.commit(read)
        return operations.GetStatementResponse(lines=[_line(line) for line in found[:_PAGE]], more=len(found) > _PAGE)


def _statement(statement: Statement) -> operations.Statement:
    return operations.Statement(
        number=statement.number,
        month=statement.month,
        treatment_region=statement.treatment.code,
        home_region=statement.home.code,
        totals=[
            operations.StatementTotal(kind=kind, count=count, amount_fen=amount_fen)
            for kind, (count, amount_fen) in statement.totals.items()
        ],
        net_fen=statement.net_fen,
        closed_at=timestamp(datetime.fromisoformat(statement.closed_at)),
        digest=statement.digest,
    )


def _line(line: Line) -> operations.StatementLine:
    return operations.StatementLine(
        entry=line.entry,
        kind=line.kind,
        transaction_id=line.transaction_id,
        original_id=line.original,
        institution=line.institution,
        amount_fen=line.amount_fen,
        accounting_date=line.accounting_date,
    )
