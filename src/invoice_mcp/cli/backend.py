"""What the tools work on, made while the first messages are answered: Temporal, the service over it, and the worker."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, NoReturn

from invoice_mcp.adapters.ledger import PaymentLedger
from invoice_mcp.adapters.settings import PortSettings, open_ports
from invoice_mcp.cli.serve import stop_event_on_signals
from invoice_mcp.domain.errors import ConfigurationError
from invoice_mcp.exit import exit_process
from invoice_mcp.server.confirmation import EFFECT_WITHOUT_FORMS, ApprovalPolicy, default_policy
from invoice_mcp.server.startup import Startup
from invoice_mcp.server.tools import Backend
from invoice_mcp.service.invoice_service import InvoiceService
from invoice_mcp.service.state_binding import ACCEPT_OPTION, bind_state, require_database
from invoice_mcp.temporal.connection import Connection, TemporalSettings, is_local, load_client_config, open_configured
from invoice_mcp.temporal.embedded import EmbeddedUnavailableError
from invoice_mcp.temporal.home import make_private
from invoice_mcp.workflow.worker import run_reconnecting_worker

logger = logging.getLogger(__name__)

# Seconds between two attempts at what did not come up. Each starts a server that may fail again.
_RETRY_INTERVAL = 5.0


@dataclass(frozen=True)
class Configuration:
    """What the user set, read once, and workable as far as that can be known without connecting.

    Attributes:
        connect: Arguments for `Client.connect`; None: the embedded Temporal.
    """

    temporal: TemporalSettings
    ports: PortSettings
    connect: dict[str, Any] | None = field(repr=False)  # it may hold a key

    @property
    def is_embedded(self) -> bool:
        """Whether the embedded Temporal keeps the invoices."""
        return self.connect is None


async def configuration(temporal: TemporalSettings, ports: PortSettings, *, with_worker: bool) -> Configuration:
    """Read what is set, and say what the embedded Temporal, or another open one of this machine, is not for.

    Raises:
        ConfigurationError: It can't work.
    """
    connect = load_client_config(temporal)
    if connect is None:
        check_embedded_risk(temporal, ports)
        if not ports.accept_lost_state:
            await require_database(temporal.home)
        try:
            make_private(temporal.home)
        except OSError as error:
            raise ConfigurationError(f"{temporal.home} can't be used: {error}. Look at INVOICE_MCP_HOME") from None
    else:
        if ports.accept_lost_state:
            raise ConfigurationError(f"{ACCEPT_OPTION} is for the embedded Temporal alone: leave it out")
        if with_worker:
            ports.require_real_ports(is_local=is_local(connect))
        if is_local(connect) and ports.has_real_port and not temporal.accept_embedded_risk:
            logger.warning(
                "The ERP or the payment gateway is a real one, and the Temporal at %s without TLS or a key: any user of"
                " this machine can reach it and approve (docs/security.md). --accept-embedded-risk accepts that",
                connect["target_host"],
            )
    return Configuration(temporal, ports, connect)


def check_embedded_risk(temporal: TemporalSettings, ports: PortSettings) -> None:
    """Say what the embedded Temporal is not for, and refuse to use it for that, unless its owner accepts it.

    Raises:
        ConfigurationError: The ERP or the gateway is a real one.
    """
    if temporal.accept_embedded_risk:
        return
    ports.require_no_real_ports()
    logger.info(
        "The embedded Temporal is for trying out, not for real money: any user of this machine can reach it and approve"
        " (docs/security.md). --accept-embedded-risk accepts that"
    )


@dataclass(frozen=True)
class BackendSource:
    """What `serve` makes in the background.

    Attributes:
        approval: What an approval needs; None: see `default_policy`.
    """

    temporal: TemporalSettings
    ports: PortSettings
    approval_timeout: timedelta
    approval: ApprovalPolicy | None
    with_worker: bool

    async def configuration(self) -> Configuration:
        """See the function of this name."""
        return await configuration(self.temporal, self.ports, with_worker=self.with_worker)

    def policy(self, found: Configuration) -> ApprovalPolicy:
        """What an approval needs: as chosen, else the default, which is told."""
        policy, why = default_policy(embedded_temporal=found.is_embedded, ports=found.ports)
        if self.approval is not None:
            # That it is the default is no news.
            level = logging.DEBUG if self.approval is policy else logging.INFO
            logger.log(
                level, "Approvals: --approval=%s, as chosen. %s", self.approval, EFFECT_WITHOUT_FORMS[self.approval]
            )
            return self.approval
        logger.info("Approvals: --approval=%s, because %s. %s", policy, why, EFFECT_WITHOUT_FORMS[policy])
        return policy

    async def keep(self, found: Configuration, policy: ApprovalPolicy, startup: Startup[Backend]) -> NoReturn:
        """Provide the backend until cancelled.

        Where the embedded Temporal does not come up, that is told, and tried again as soon as a tool needs it.

        Raises:
            ConfigurationError: Only what Temporal tells shows that it can't work.
        """
        last_error = ""
        while True:
            try:
                async with self._opened(found, policy) as backend:
                    startup.provide(backend)
                    await asyncio.get_running_loop().create_future()
            except EmbeddedUnavailableError as error:
                startup.fail(str(error))
                if str(error) != last_error:
                    last_error = str(error)
                    logger.error("%s", last_error)  # noqa: TRY400 (it says all that there is to say)
            await asyncio.gather(startup.wait_until_needed(), asyncio.sleep(_RETRY_INTERVAL))
            startup.retry()

    @asynccontextmanager
    async def _opened(self, found: Configuration, policy: ApprovalPolicy) -> AsyncIterator[Backend]:
        async with open_configured(found.temporal, found.connect) as reached:
            logger.debug("Temporal: %s%s", reached.where, f", Web UI {reached.ui_url}" if reached.ui_url else "")
            service = InvoiceService(
                reached.client,
                approval_timeout=self.approval_timeout,
                signals_approve=policy.allows_approving_signals,
                task_queue=found.ports.task_queue(is_embedded=found.is_embedded),
            )
            async with _running_worker(reached, found.ports) if self.with_worker else nullcontext():
                yield Backend(service, policy)


async def run_worker(temporal: TemporalSettings, ports: PortSettings) -> NoReturn:
    """Run a worker until SIGTERM or SIGINT, let what is under way finish, and end the process.

    Raises:
        ConfigurationError: Nothing can be worked on like this; EmbeddedUnavailableError: there is no Temporal.
    """
    found = await configuration(temporal, ports, with_worker=True)
    async with open_configured(temporal, found.connect) as reached:
        stop = stop_event_on_signals()
        logger.info("Worker for %s. Stop with Ctrl-C or SIGTERM", reached.where)
        async with _running_worker(reached, ports):
            await stop.wait()
    logger.info("Worker stopped")
    exit_process()


@asynccontextmanager
async def _running_worker(reached: Connection, settings: PortSettings) -> AsyncIterator[None]:
    if settings.missing and not reached.is_embedded:
        what = " and ".join(settings.missing)
        logger.warning("%s not set: what stands in for that only pretends. Only for trying things out", what)
    queue = settings.task_queue(is_embedded=reached.is_embedded)
    async with open_ports(settings) as (erp, payments):
        if reached.is_embedded:
            ledger = payments if isinstance(payments, PaymentLedger) else None
            accepted = settings.accept_lost_state
            await bind_state(reached.client, settings.home, ledger, task_queue=queue, accept_lost_state=accepted)
        worker = asyncio.create_task(run_reconnecting_worker(reached.worker_client, erp, payments, task_queue=queue))
        try:
            yield
        finally:
            worker.cancel()
            with suppress(asyncio.CancelledError):
                await worker
