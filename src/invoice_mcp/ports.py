"""Which ERP and which payment system: embedded ones for trying things out, or real ones over HTTP."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from invoice_mcp.erp import EmbeddedErp, Erp, HttpErp
from invoice_mcp.errors import ConfigurationError
from invoice_mcp.ledger import PaymentLedger
from invoice_mcp.payments import HttpPayments, Payments


@dataclass(frozen=True)
class PortSettings:
    """Where the outside world is.

    Attributes:
        home: Where the embedded payment ledger lives.
        erp_url, payments_url: Base URLs of the real systems; None means the embedded one.
        fail_validate, fail_payment: Make the embedded ERP, or the embedded gateway, refuse everything.
    """

    home: Path
    erp_url: str | None = None
    payments_url: str | None = None
    fail_validate: bool = False
    fail_payment: bool = False


def ledger_path(home: Path) -> Path:
    """The file of the embedded payment ledger."""
    return home / "payments.db"


@asynccontextmanager
async def open_ports(settings: PortSettings) -> AsyncIterator[tuple[Erp, Payments]]:
    """The two ports as configured, closed at the end.

    Raises:
        ConfigurationError: A URL is none.
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
