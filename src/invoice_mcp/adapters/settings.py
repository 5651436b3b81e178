"""Configuration of the ERP and the payment system: embedded ones, or real ones over HTTP."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx2

from invoice_mcp.adapters.erp import EmbeddedErp, Erp, HttpErp
from invoice_mcp.adapters.ledger import PaymentLedger
from invoice_mcp.adapters.payments import HttpPayments, Payments
from invoice_mcp.domain.errors import ConfigurationError
from invoice_mcp.domain.names import TASK_QUEUE


@dataclass(frozen=True)
class PortSettings:
    """Which ERP and payment system to use.

    Attributes:
        home: Directory of the embedded payment ledger.
        erp_url, payments_url: Base URLs of the real systems; None means the embedded one.
        fail_validate, fail_payment: Make the embedded ERP, or the embedded payment system, refuse everything.
        allow_embedded: Allow the embedded ones on a Temporal that others share.
        accept_lost_state: Continue although the embedded Temporal or the ledger was lost; see `state_binding`.
    """

    home: Path
    erp_url: str | None = field(default=None, repr=False)  # may hold a password
    payments_url: str | None = field(default=None, repr=False)
    fail_validate: bool = False
    fail_payment: bool = False
    allow_embedded: bool = False
    accept_lost_state: bool = False

    @property
    def missing(self) -> tuple[str, ...]:
        """Names of the settings of real systems that are not set."""
        urls = {"ERP_URL": self.erp_url, "PAYMENTS_URL": self.payments_url}
        return tuple(name for name, url in urls.items() if not url)

    @property
    def has_real_port(self) -> bool:
        """Whether the ERP or the payment system is a real one."""
        return bool(self.erp_url or self.payments_url)

    def task_queue(self, *, is_embedded: bool) -> str:
        """The task queue for invoices of these ports.

        On the embedded Temporal, different URLs have different task queues: otherwise one host's worker would pay
        another host's invoices through the wrong system. Passwords are excluded: they may change while invoices wait.
        On a configured Temporal all workers have the same ports, and servers need none.
        """
        if not is_embedded or not self.has_real_port:
            return TASK_QUEUE
        which = hashlib.sha256(
            f"{_without_password(self.erp_url)}\n{_without_password(self.payments_url)}".encode()
        ).hexdigest()
        return f"{TASK_QUEUE}-{which[:12]}"

    def require_real_ports(self, *, is_local: bool) -> None:
        """Refuse embedded ports on a shared Temporal, where they would report payments that nobody made.

        Raises:
            ConfigurationError: The ERP or the payment system is an embedded one.
        """
        if self.missing and not is_local and not self.allow_embedded:
            what = f"This worker would mark invoices as paid without paying them: {' and '.join(self.missing)} not set"
            raise ConfigurationError(f"{what}. Set them, serve with --no-worker, or try things out: --embedded-ports")

    def require_no_real_ports(self) -> None:
        """Refuse real ports on the embedded Temporal, which every user of this machine can reach.

        Raises:
            ConfigurationError: The ERP or the payment system is a real one.
        """
        if self.has_real_port:
            raise ConfigurationError(
                "With a real ERP or gateway the embedded Temporal is too open: any user of this machine can reach it "
                "and approve. Name one of your own (--address or TEMPORAL_ADDRESS, with TLS or a key), or accept that: "
                "--accept-embedded-risk or INVOICE_MCP_ACCEPT_EMBEDDED_RISK=1"
            )


def _without_password(url: str | None) -> str | None:
    """The URL, normalized and without its password: it identifies a system and an account there."""
    try:
        place = httpx2.URL(url or "")
    except httpx2.InvalidURL:
        # `open_ports` reports the fault.
        return url
    return str(place.copy_with(username=place.username or None, password=None)).rstrip("/") if url else url


def ledger_path(home: Path) -> Path:
    """The file of the embedded payment ledger."""
    return home / "payments.db"


@asynccontextmanager
async def open_ports(settings: PortSettings) -> AsyncIterator[tuple[Erp, Payments]]:
    """The configured ports, closed at the end.

    Raises:
        ConfigurationError: A URL is not valid.
    """
    async with AsyncExitStack() as stack:
        erp: Erp = EmbeddedErp(refuse=settings.fail_validate)
        payments: Payments = PaymentLedger(ledger_path(settings.home), refuse=settings.fail_payment)
        try:
            if settings.erp_url:
                erp = http_erp = HttpErp(settings.erp_url)
                stack.push_async_callback(http_erp.aclose)
            if settings.payments_url:
                payments = http_payments = HttpPayments(settings.payments_url)
                stack.push_async_callback(http_payments.aclose)
        except ValueError as error:
            raise ConfigurationError(f"{error}. Look at ERP_URL and PAYMENTS_URL") from None
        yield erp, payments
