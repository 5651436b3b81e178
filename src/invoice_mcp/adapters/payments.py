"""The payment port, which pays lines, and its HTTP adapter. `ledger.py` is the embedded adapter."""

from __future__ import annotations

from typing import Protocol

import httpx2

from invoice_mcp.adapters.http import JsonEndpoint, NoVerdictError
from invoice_mcp.domain.report import PaymentOrder, PaymentReceipt

MAX_PAYMENT_ID = 200
_MAX_CODE = 64
_ECHOED = ("idempotency_key", "invoice_id", "line", "amount", "currency")


class PaymentRefusedError(Exception):
    """The payment system refuses a request. Final: this request paid nothing, and is not retried.

    An earlier request with the same key that got no verdict may have paid: some systems refuse a repeated key instead
    of repeating their answer.

    Attributes:
        code: A stable code, such as INSUFFICIENT_FUNDS.
        reason: Why, as printable text for a report.
    """

    def __init__(self, code: str, reason: str) -> None:
        super().__init__(code, reason)
        self.code = code
        self.reason = reason

    def __str__(self) -> str:
        return f"{self.code}: {self.reason}"


class PaymentUnavailableError(Exception):
    """No verdict: the payment may or may not have been made. Retrying with the same key is safe."""


class Payments(Protocol):
    """Pays lines."""

    async def pay(self, order: PaymentOrder) -> PaymentReceipt:
        """Pay a line. Requests with the same key make one payment, with one payment id, unique to it.

        A receipt with another key than the order's is rejected.

        Raises:
            PaymentRefusedError: This request paid nothing. Final.
            PaymentUnavailableError: The payment may or may not have been made; retry.
        """
        ...


class HttpPayments:
    """A gateway behind `POST {base_url}/payments`. The body is the order as JSON, its key also the `Idempotency-Key`.

    Each request uses a new connection. A response should echo the key, in the header `Idempotency-Key` or the field
    `idempotency_key`; it may echo `invoice_id`, `line`, `amount` and `currency`, too. A response that echoes another
    value belongs to another request, and is no verdict.

    * 2xx with `{"payment_id": "..."}` is the receipt. Each payment has its own id.
    * 202 is no verdict: accepted is not paid.
    * 4xx with a `"code"` is a refusal, for its `"reason"` or `"error"`. Without a code, 402 means INSUFFICIENT_FUNDS
      and any other status PAYMENT_REFUSED. Exceptions, with or without a code:
    * 409 means that a request with the same key is in progress, or was made before: no verdict.
    * Configuration errors (401, 403, 404, 405, 407, a redirect) and transient errors (408, 425, 429, 5xx, the network,
      a response that is too slow, too long or unreadable) are no verdict.

    Args:
        base_url: http or https. A user and password in it are sent as basic authentication.
        client: A client to use instead of a new one. The caller closes it.
        timeout: Seconds for a whole payment.

    Raises:
        ValueError: `base_url` is not such a URL.
    """

    def __init__(self, base_url: str, *, client: httpx2.AsyncClient | None = None, timeout: float = 10.0) -> None:
        self._remote = JsonEndpoint("the payment gateway", base_url, "/payments", timeout=timeout, client=client)

    async def aclose(self) -> None:
        """Close the connections."""
        await self._remote.aclose()

    async def pay(self, order: PaymentOrder) -> PaymentReceipt:
        """As `Payments.pay`."""
        try:
            answer = await self._remote.post(
                order.model_dump(mode="json"),
                echoed_fields={name: getattr(order, name) for name in _ECHOED},
                headers={"Idempotency-Key": order.idempotency_key},
            )
        except NoVerdictError as error:
            raise PaymentUnavailableError(str(error)) from error
        reason = answer.text("reason", "error") or f"the payment gateway answered {answer.status}"
        if answer.status < 400:
            payment_id = (answer.body or {}).get("payment_id")
            if not isinstance(payment_id, str) or not _is_usable(payment_id):
                raise PaymentUnavailableError(
                    f"the payment gateway answered {answer.status} without a usable payment_id"
                )
            return PaymentReceipt(payment_id=payment_id)
        code = answer.text("code", max_length=_MAX_CODE)
        if answer.status == 409:
            # Even with a code: gateways report a conflict with our own earlier attempt by one.
            raise PaymentUnavailableError(f"the same payment may be under way already: {reason}")
        raise PaymentRefusedError(code or ("INSUFFICIENT_FUNDS" if answer.status == 402 else "PAYMENT_REFUSED"), reason)


def _is_usable(payment_id: str) -> bool:
    # Not truncated: a shortened id would name no payment.
    return bool(payment_id.strip()) and payment_id.isprintable() and len(payment_id) <= MAX_PAYMENT_ID
