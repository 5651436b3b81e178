"""The ERP: the port through which an invoice is validated, and its adapters, embedded and over HTTP."""

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
    """The ERP's final word against an invoice: asking again won't change it.

    Attributes:
        reason: Why, in printable words, fit for a report.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class ErpUnavailableError(Exception):
    """The ERP gave no verdict: worth another try. The text says what happened and what to check."""


class Erp(Protocol):
    """Where an invoice is validated before anybody is asked to approve it."""

    async def validate(self, invoice: Invoice) -> None:
        """Return when the ERP accepts the invoice.

        Raises:
            ErpMismatch: The ERP refuses it, for good.
            ErpUnavailable: There is no verdict yet.
        """
        ...


class EmbeddedErp:
    """An ERP for trying things out: refuses only what contradicts itself.

    That is a metadata entry `expected_total`, a plain decimal number such as 1250.00 in the invoice's currency, which
    is not the sum of the lines.

    Args:
        refuse: Refuse every invoice, to see what happens then.
    """

    def __init__(self, refuse: bool = False) -> None:
        self._refuse = refuse

    async def validate(self, invoice: Invoice) -> None:
        """As `Erp.validate`; never ErpUnavailable."""
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
    """An ERP behind `POST {base_url}/invoices/validate`, which is sent the invoice as JSON and its `total` as text.

    Each request has a connection of its own, which is closed after the answer. An answer should echo the `invoice_id`:
    one with another is no verdict.

    A 2xx with a JSON object accepts the invoice, unless the object says `"valid": false` and a `"reason"`; but for 202,
    which is no verdict. A 4xx refuses it, for the `"reason"` or `"error"` of its JSON body. What speaks of the set-up
    (401, 403, 404, 405, 407, a redirect) or of the moment (408, 425, 429, 5xx, the network, an answer too slow, too
    long or unreadable) is no verdict.

    Args:
        base_url: http or https; a user and password in it are sent as basic authentication.
        client: A client to use instead of an own one; whoever made it closes it.
        timeout: Seconds for a whole validation.

    Raises:
        ValueError: `base_url` is no such URL.
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
                about={"invoice_id": invoice.invoice_id},
            )
        except NoVerdictError as error:
            raise ErpUnavailableError(str(error)) from error
        if answer.status >= 400:
            raise ErpMismatchError(answer.text("reason", "error") or f"the ERP answered {answer.status}")
        if answer.status in {204, 205}:
            # These have no body by definition, so the status alone is the answer.
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
