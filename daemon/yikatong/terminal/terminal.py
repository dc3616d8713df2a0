"""One terminal: its parts, and what only all of them together can say."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from yikatong.core.orders import Account, Credential
from yikatong.core.ports import CardAuthenticator, CodeScanner, CustomerDisplay, ReceiptPrinter, ResidentCardReader
from yikatong.core.reasons import Reason, YikatongError
from yikatong.runtime.clock import Clock
from yikatong.runtime.leg import DebitLink, LinkDown
from yikatong.terminal.config import DaemonConfig
from yikatong.terminal.credits import Credits
from yikatong.terminal.desk import Desk
from yikatong.terminal.events import Hub, Readiness
from yikatong.terminal.journal import Journal
from yikatong.terminal.reconciliation import Reconciliation
from yikatong.terminal.recovered import Recovered
from yikatong.terminal.runner import Runner
from yikatong.terminal.session import Session
from yikatong.terminal.who_pays import Identified, WhoPays


@dataclass(frozen=True, slots=True)
class Terminal:
    """Everything that the services of a running daemon share."""

    config: DaemonConfig
    version: str
    clock: Clock
    hub: Hub
    journal: Journal
    session: Session
    link: DebitLink
    desk: Desk
    who: WhoPays
    runner: Runner
    credits: Credits
    reconciliation: Reconciliation
    recovered: Recovered
    authenticator: CardAuthenticator | None = None
    scanner: CodeScanner | None = None
    id_card_reader: ResidentCardReader | None = None
    printer: ReceiptPrinter | None = None
    display: CustomerDisplay | None = None

    @property
    def his_may_read_identity(self) -> bool:
        return self.config.his_may_read_identity

    @property
    def hotlines(self) -> tuple[str, str]:
        """Policy and fault hotline: the gateway's, or until the first sign-in the configuration's."""
        if (granted := self.session.granted) is not None:
            return granted.policy_hotline, granted.fault_hotline
        return self.config.hotlines.policy, self.config.hotlines.fault

    def not_ready(self) -> Reason | None:
        """Why no debit is taken now; None where debits are taken."""
        try:
            self.runner.require_able()
        except YikatongError as error:
            return error.reason
        return None

    def readiness(self) -> Readiness:
        reason = self.not_ready()
        return Readiness(reason.value if reason else "")

    async def account(self, credential: Credential, *, wait_ms: int) -> tuple[Identified, Account]:
        """Who it is, and the personal account. Raises YikatongError, also for an account that can't pay."""
        self.session.require()
        identified = await self.who.by(credential).look(wait_ms=wait_ms)
        try:
            account = await self.link.account(identified.payer, None)
        except LinkDown as error:
            raise YikatongError(Reason.GATEWAY_UNREACHABLE, "the enquiry got no answer") from error
        if account.reason is not None:
            raise YikatongError(account.reason, "the account can't be used")
        return identified, account

    async def keep_signed_in(self) -> None:
        """Signs in, and watches the link: when it comes back, what waits to be repeated is repeated at once."""
        async with asyncio.TaskGroup() as both:
            both.create_task(self.session.run(self._tell_readiness))
            both.create_task(self._watch_link())

    async def _watch_link(self) -> None:
        await self.session.signed_in.wait()
        self._nudge()
        was_reachable = self.session.reachable
        while True:
            await self.session.link_changed()
            reachable = self.session.reachable
            if reachable is not was_reachable:
                self._tell_readiness()
                if reachable:
                    self.session.stale()
                    self._nudge()
            was_reachable = reachable

    def _tell_readiness(self) -> None:
        self.hub.tell(self.readiness())

    def _nudge(self) -> None:
        self.runner.nudge()
        self.credits.nudge()

    async def watch_reader(self) -> None:
        async for state in self.desk.reader.watch():
            self.hub.tell(state)
