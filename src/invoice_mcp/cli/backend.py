"""Provides what the tools call: the connection to Temporal, the invoice service and, unless disabled, a worker.

`serve` starts all of it in the background while it answers the first messages of its host.
"""

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
from invoice_mcp.cli.process import stop_event_on_signals
from invoice_mcp.domain.errors import ConfigurationError
from invoice_mcp.exit import exit_process
from invoice_mcp.server.approval_policy import EFFECT_WITHOUT_FORMS, ApprovalPolicy, default_policy
from invoice_mcp.server.startup import Startup
from invoice_mcp.server.tools import Backend
from invoice_mcp.service.invoice_service import InvoiceService
from invoice_mcp.service.state_binding import ACCEPT_OPTION, bind_state, require_database
from invoice_mcp.temporal.connection import Connection, TemporalSettings, is_local, load_client_config, open_configured
from invoice_mcp.temporal.embedded import EmbeddedUnavailableError
from invoice_mcp.temporal.home import make_private
from invoice_mcp.workflow.worker import run_reconnecting_worker

logger = logging.getLogger(__name__)

# Seconds between two attempts to start the embedded Temporal: each starts a process.
_RETRY_INTERVAL = 5.0


@dataclass(frozen=True)
class Configuration:
    """The settings of the user, read once and checked as far as possible without a connection.

    Attributes:
        connect: Arguments for `Client.connect`; None for the embedded Temporal.
    """

    temporal: TemporalSettings
    ports: PortSettings
    connect: dict[str, Any] | None = field(repr=False)  # it may contain an API key

    @property
    def is_embedded(self) -> bool:
        """Whether the embedded Temporal keeps the invoices."""
        return self.connect is None


async def read_configuration(temporal: TemporalSettings, ports: PortSettings, *, with_worker: bool) -> Configuration:
    """Read and check the settings. Log a risk of the embedded Temporal, or of another open one on this machine.

    Raises:
        ConfigurationError: The settings can't work.
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
            raise ConfigurationError(f"{ACCEPT_OPTION} is only for the embedded Temporal: leave it out")
        if with_worker:
            ports.require_real_ports(is_local=is_local(connect))
        if is_local(connect) and ports.has_real_port and not temporal.accept_embedded_risk:
            logger.warning(
                "The ERP or the payment gateway is a real one, and the Temporal at %s has no TLS and no API key: any"
                " user of this machine can reach it and approve (docs/security.md). --accept-embedded-risk accepts it",
                connect["target_host"],
            )
    return Configuration(temporal, ports, connect)


def check_embedded_risk(temporal: TemporalSettings, ports: PortSettings) -> None:
    """Log the risk of the embedded Temporal, unless the user has accepted it.

    Raises:
        ConfigurationError: The ERP or the gateway is a real one, and the risk is not accepted.
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
    """Builds the backend of `serve`.

    Attributes:
        approval: The policy for approvals; None for that of `default_policy`.
    """

    temporal: TemporalSettings
    ports: PortSettings
    approval_timeout: timedelta
    approval: ApprovalPolicy | None
    with_worker: bool

    async def configuration(self) -> Configuration:
        """See `read_configuration`."""
        return await read_configuration(self.temporal, self.ports, with_worker=self.with_worker)

    def select_policy(self, configuration: Configuration) -> ApprovalPolicy:
        """Return the chosen policy, or the default one; log which and why."""
        policy, why = default_policy(embedded_temporal=configuration.is_embedded, ports=configuration.ports)
        if self.approval is not None:
            # A choice that equals the default needs no attention.
            level = logging.DEBUG if self.approval is policy else logging.INFO
            logger.log(
                level, "Approvals: --approval=%s, as chosen. %s", self.approval, EFFECT_WITHOUT_FORMS[self.approval]
            )
            return self.approval
        logger.info("Approvals: --approval=%s, because %s. %s", policy, why, EFFECT_WITHOUT_FORMS[policy])
        return policy

    async def run(self, configuration: Configuration, policy: ApprovalPolicy, startup: Startup[Backend]) -> NoReturn:
        """Provide the backend until cancelled.

        If the embedded Temporal fails to start, log it once and retry when a tool needs it.

        Raises:
            ConfigurationError: The settings can't work, as an answer of Temporal shows.
        """
        last_error = ""
        while True:
            try:
                async with self._open(configuration, policy) as backend:
                    startup.provide(backend)
                    await asyncio.get_running_loop().create_future()
            except EmbeddedUnavailableError as error:
                startup.fail(str(error))
                if str(error) != last_error:
                    last_error = str(error)
                    logger.error("%s", last_error)  # noqa: TRY400 (the message says what to do; a traceback adds nothing)
            await asyncio.gather(startup.wait_until_needed(), asyncio.sleep(_RETRY_INTERVAL))
            startup.retry()

    @asynccontextmanager
    async def _open(self, configuration: Configuration, policy: ApprovalPolicy) -> AsyncIterator[Backend]:
        async with open_configured(configuration.temporal, configuration.connect) as connection:
            ui = f", Web UI {connection.ui_url}" if connection.ui_url else ""
            logger.debug("Temporal: %s%s", connection.where, ui)
            service = InvoiceService(
                connection.client,
                approval_timeout=self.approval_timeout,
                signals_approve=policy.allows_approving_signals,
                task_queue=configuration.ports.task_queue(is_embedded=configuration.is_embedded),
            )
            async with _running_worker(connection, configuration.ports) if self.with_worker else nullcontext():
                yield Backend(service, policy)


async def run_worker(temporal: TemporalSettings, ports: PortSettings) -> NoReturn:
    """Run a worker until SIGTERM or SIGINT, let activities in progress finish, and end the process.

    Raises:
        ConfigurationError: The settings can't work.
        EmbeddedUnavailableError: The embedded Temporal does not start.
    """
    configuration = await read_configuration(temporal, ports, with_worker=True)
    async with open_configured(temporal, configuration.connect) as connection:
        stop = stop_event_on_signals()
        logger.info("Worker for %s. Stop with Ctrl-C or SIGTERM", connection.where)
        async with _running_worker(connection, ports):
            await stop.wait()
    logger.info("Worker stopped")
    exit_process()


@asynccontextmanager
async def _running_worker(connection: Connection, settings: PortSettings) -> AsyncIterator[None]:
    if settings.missing and not connection.is_embedded:
        missing = " and ".join(settings.missing)
        logger.warning("%s not set: the embedded stand-in pays nobody. For trials only", missing)
    queue = settings.task_queue(is_embedded=connection.is_embedded)
    async with open_ports(settings) as (erp, payments):
        if connection.is_embedded:
            ledger = payments if isinstance(payments, PaymentLedger) else None
            accepted = settings.accept_lost_state
            await bind_state(connection.client, settings.home, ledger, task_queue=queue, accept_lost_state=accepted)
        worker = asyncio.create_task(run_reconnecting_worker(connection.worker_client, erp, payments, task_queue=queue))
        try:
            yield
        finally:
            worker.cancel()
            with suppress(asyncio.CancelledError):
                await worker
