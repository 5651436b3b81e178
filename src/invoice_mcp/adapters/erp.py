"""The ERP port, which validates invoices, and its embedded and HTTP adapters."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Protocol

import httpx2

from invoice_mcp.adapters.http import JsonEndpoint, NoVerdictError
from invoice_mcp.domain.display_text import printable
from invoice_mcp.domain.invoice import Invoice

_PLAIN_NUMBER = re.compile(r"[0-9]+(\.[0-9]+)?")


class ErpMismatchError(Exception):
    """The ERP refuses an invoice. Final: it is not retried.

    Attributes:
        reason: Why, as printable text for a report.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class ErpUnavailableError(Exception):
    """The ERP gave no verdict; retry. The text says what happened and what to check."""


class Erp(Protocol):
    """Validates an invoice before a person is asked to approve it."""

    async def validate(self, invoice: Invoice) -> None:
        """Return when the ERP accepts the invoice.

        Raises:
            ErpMismatchError: The ERP refuses it. Final.
            ErpUnavailableError: There is no verdict yet.
        """
        ...


class EmbeddedErp:
    """An ERP for tests and demos. It refuses an invoice whose metadata contradicts its lines.

    The metadata entry `expected_total`, a plain decimal number such as 1250.00, must be the sum of the lines.

    Args:
        refuse: Refuse every invoice.
    """

    def __init__(self, refuse: bool = False) -> None:
        self._refuse = refuse

    async def validate(self, invoice: Invoice) -> None:
        """As `Erp.validate`; never raises ErpUnavailableError."""
        if self._refuse:
            raise ErpMismatchError("MISMATCH: this ERP is set to refuse every invoice")
        expected = invoice.metadata.get("expected_total")
        if expected is not None:
            _check_total(expected.strip(), invoice)


def _check_total(expected: str, invoice: Invoice) -> None:
    if not _PLAIN_NUMBER.fullmatch(expected):
        raise ErpMismatchError(f"the metadata's expected_total is no plain decimal number: {printable(expected, 60)!r}")
    if Decimal(expected) != invoice.total:
        raise ErpMismatchError(
            f"the lines sum up to {invoice.currency} {invoice.total}, "
            f"the metadata's expected_total is {printable(expected, 60)}"
        )


class HttpErp:
    """An ERP behind `POST {base_url}/invoices/validate`. The body is the invoice as JSON, with its `total` as text.

    Each request uses a new connection. A response should echo the `invoice_id`; one with another id is no verdict.

    * 2xx with a JSON object accepts the invoice; with `"valid": false` it refuses it for the `"reason"`.
    * 202 is no verdict.
    * 4xx refuses the invoice, for the `"reason"` or `"error"` of the JSON body, with these exceptions.
    * Configuration errors (401, 403, 404, 405, 407, a redirect) and transient errors (408, 425, 429, 5xx, the network,
      a response that is too slow, too long or unreadable) are no verdict.

    Args:
        base_url: http or https. A user and password in it are sent as basic authentication.
        client: A client to use instead of a new one. The caller closes it.
        timeout: Seconds for a whole validation.

    Raises:
        ValueError: `base_url` is not such a URL.
    """

    def __init__(self, base_url: str, *, client: httpx2.AsyncClient | None = None, timeout: float = 10.0) -> None:
        self._remote = JsonEndpoint("the ERP", base_url, "/invoices/validate", timeout=timeout, client=client)

    async def aclose(self) -> None:
        """Close the connections."""
        await self._remote.aclose()

    async def validate(self, invoice: Invoice) -> None:
        """As `Erp.validate`."""
        try:
            answer = await self._remote.post(
                invoice.model_dump(mode="json") | {"total": format(invoice.total, "f")},
                echoed_fields={"invoice_id": invoice.invoice_id},
            )
        except NoVerdictError as error:
            raise ErpUnavailableError(str(error)) from error
        if answer.status >= 400:
            raise ErpMismatchError(answer.text("reason", "error") or f"the ERP answered {answer.status}")
        if answer.status in {204, 205}:
            # These have no body by definition.
            return
        if answer.body is None:
            raise ErpUnavailableError(
                f"the ERP answered {answer.status} without a readable JSON object: check the base URL"
            )
        match answer.body.get("valid", True):
            case True:
                return
            case False:
                raise ErpMismatchError(answer.text("reason", "error") or "the ERP calls it invalid and says no more")
            case _:
                raise ErpUnavailableError('the ERP\'s answer is unclear: its "valid" is neither true nor false')
